import gzip
import hashlib
import threading
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from containers import add, idx_bytes

from recog.core.errors import DataError
from recog.data.readers import named
from recog.data.readers.named import CIFAR10, CIFAR100, read_cifar_archive
from recog.data.sources import open_source


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "recog/datasets"


def cifar(path, kind, *, names=("frog", "ship"), cut=0):
    import tarfile

    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 256, (2, 3, 32, 32), dtype=np.uint8)
    records = b"".join(bytes([9] * (kind.num_label_bytes - 1) + [label]) + pixels[label].tobytes() for label in (0, 1))
    with tarfile.open(path, "w:gz") as archive:
        add(archive, f"{kind.folder}/{kind.names_file}", "\n".join(names).encode() + b"\n\n")
        for file in (*kind.train_files, kind.test_file):
            add(archive, f"{kind.folder}/{file}", records[: len(records) - cut])
    return pixels


@pytest.mark.parametrize(("name", "kind"), [("cifar10", CIFAR10), ("cifar100", CIFAR100)])
def test_cifar_in_its_binary_version(cache, name, kind):
    pixels = cifar(cache / name / kind.url.rpartition("/")[2], kind)
    data = open_source(name)
    assert data.class_names == ("frog", "ship")
    assert len(data.subset("train")) == 2 * len(kind.train_files)
    ship = data.subset("test")[1]
    assert ship.label == 1
    assert np.array_equal(ship.source, pixels[1].transpose(1, 2, 0))  # stored plane by plane


@pytest.mark.parametrize(
    ("change", "says"), [({"cut": 1}, "no whole records"), ({"names": ("frog",)}, "the label 1 but 1 class")]
)
def test_a_damaged_cifar_is_named(tmp_path, change, says):
    cifar(tmp_path / "c.tar.gz", CIFAR10, **change)
    with pytest.raises(DataError, match=says):
        read_cifar_archive(tmp_path / "c.tar.gz", name="cifar10", cifar=CIFAR10)


def test_fashion_mnist_has_its_names(cache):
    folder = cache / "fashion-mnist"
    folder.mkdir(parents=True)
    for split in ("train", "t10k"):
        (folder / f"{split}-images-idx3-ubyte").write_bytes(idx_bytes(np.ones((10, 2, 2))))
        (folder / f"{split}-labels-idx1-ubyte").write_bytes(idx_bytes(np.arange(10)))
    data = open_source("fashion-mnist")
    assert (data.class_names[0], data.class_names[9]) == ("T-shirt/top", "Ankle boot")


def test_svhn_calls_ten_zero(cache):
    from scipy.io import savemat

    (cache / "svhn").mkdir(parents=True)
    pixels = np.arange(2 * 2 * 3 * 2, dtype=np.uint8).reshape(2, 2, 3, 2)
    for split in ("train", "test"):
        savemat(cache / f"svhn/{split}_32x32.mat", {"X": pixels, "y": np.array([[10], [3]], np.uint8)})
    data = open_source("svhn")
    assert [s.label for s in data.subset("train")] == [0, 3]
    assert np.array_equal(data.subset("test")[1].source, pixels[..., 1])


def test_imagenet_says_where_to_put_it(cache):
    with pytest.raises(DataError, match=r"ln -s /path/to/imagenet .*datasets/imagenet"):
        open_source("imagenet")


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A mirror on the loopback: (its address, the folder that it serves, the paths that were asked for)."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    served, asked = tmp_path / "served", []
    served.mkdir()

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            asked.append(self.path)

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(served))) as mirror:
        thread = threading.Thread(target=mirror.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{mirror.server_port}/", served, asked
        mirror.shutdown()
        thread.join()


def md5_of(path):
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def test_mnist_comes_from_the_first_mirror_that_has_it_and_once(cache, server, monkeypatch):
    from torchvision.datasets import MNIST

    address, served, asked = server
    (served / "second").mkdir()
    files = {}
    for split in ("train", "t10k"):
        pixels = np.arange(40, dtype=np.uint8).reshape(10, 2, 2)
        for kind, values in (("images-idx3", pixels), ("labels-idx1", np.arange(10))):
            path = served / "second" / f"{split}-{kind}-ubyte.gz"
            path.write_bytes(gzip.compress(idx_bytes(values)))
            files[path.name] = md5_of(path)
    monkeypatch.setattr(MNIST, "mirrors", [f"{address}first/", f"{address}second/"])
    monkeypatch.setattr(MNIST, "resources", list(files.items()))
    data = open_source("mnist")
    assert (len(data.subset("train")), len(data.subset("test"))) == (10, 10)
    assert np.array_equal(data.subset("test")[3].source, pixels[3])
    assert sorted(path.name for path in (cache / "mnist").iterdir()) == sorted(files)  # and no part of a file
    num_asked = len(asked)
    assert num_asked >= 8  # each at the first mirror, which has none, then at the second
    open_source("mnist")
    assert len(asked) == num_asked


def test_cifar_and_svhn_come_through_the_network(cache, server, monkeypatch):
    from scipy.io import savemat
    from torchvision.datasets import SVHN

    address, served, _ = server
    archive = served / "cifar-10-binary.tar.gz"
    cifar(archive, CIFAR10)
    monkeypatch.setattr(named, "CIFAR10", replace(CIFAR10, url=address + archive.name, md5=md5_of(archive)))
    assert len(open_source("cifar10").samples) == 12
    rows = {}
    for split in ("train", "test"):
        path = served / f"{split}_32x32.mat"
        savemat(path, {"X": np.zeros((32, 32, 3, 2), np.uint8), "y": np.array([[10], [3]], np.uint8)})
        rows[split] = [address + path.name, path.name, md5_of(path)]
    monkeypatch.setattr(SVHN, "split_list", rows)
    assert len(open_source("svhn").samples) == 4


def test_what_is_not_the_published_file_is_not_kept(cache, server, monkeypatch):
    address, served, _ = server
    archive = served / "cifar-10-binary.tar.gz"
    cifar(archive, CIFAR10)
    monkeypatch.setattr(named, "CIFAR10", replace(CIFAR10, url=address + archive.name, md5="0" * 32))
    with pytest.raises(DataError, match="cifar-10-binary.tar.gz could not be downloaded .*not found or corrupted"):
        open_source("cifar10")
    assert list((cache / "cifar10").iterdir()) == []


def test_a_download_that_is_interrupted_leaves_nothing(cache, monkeypatch):
    def interrupted(_url, folder, file, _md5):
        (Path(folder) / file).write_bytes(b"the first half")
        raise KeyboardInterrupt

    monkeypatch.setattr("torchvision.datasets.utils.download_url", interrupted)
    with pytest.raises(KeyboardInterrupt):
        open_source("cifar10")
    assert list((cache / "cifar10").iterdir()) == []


def test_without_a_network_the_way_by_hand_is_said(cache, monkeypatch):
    def refuse(url, *_):
        raise OSError("no route to host")

    monkeypatch.setattr("torchvision.datasets.utils.download_url", refuse)
    with pytest.raises(DataError, match=r"no route to host.*put the file into .*datasets/cifar10 by hand"):
        open_source("cifar10")
    assert named.NAMED_SOURCES.keys() >= {"digits", "mnist", "fashion-mnist", "svhn", "cifar10", "cifar100", "imagenet"}
