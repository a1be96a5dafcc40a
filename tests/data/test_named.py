import numpy as np
import pytest
from containers import add, idx_bytes

from recog.core.errors import DataError
from recog.data import named
from recog.data.named import CIFAR10, CIFAR100, read_cifar_archive
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


def test_without_a_network_the_way_by_hand_is_said(cache, monkeypatch):
    def refuse(url, *_):
        raise OSError("no route to host")

    monkeypatch.setattr("torchvision.datasets.utils.download_url", refuse)
    with pytest.raises(DataError, match=r"no route to host.*put the file into .*datasets/cifar10 by hand"):
        open_source("cifar10")
    assert named.NAMED_SOURCES.keys() >= {"digits", "mnist", "fashion-mnist", "svhn", "cifar10", "cifar100", "imagenet"}
