import gzip
import hashlib

import numpy as np
import pytest
from containers import idx_bytes

from recog.core.errors import DataError
from recog.data.readers import idx
from recog.data.readers.idx import FASHION_CLASSES
from recog.data.sources import open_source

IMAGES = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5)


def write(folder, *, images=IMAGES, labels=(2, 0, 1), packed=False, splits=("train", "t10k")):
    for split in splits:
        for name, array in ((f"{split}-images-idx3-ubyte", images), (f"{split}-labels-idx1-ubyte", labels)):
            data = array if isinstance(array, bytes) else idx_bytes(array)
            (folder / (name + ".gz" * packed)).write_bytes(gzip.compress(data) if packed else data)
    return folder


@pytest.mark.parametrize("packed", [False, True])
def test_the_four_files(tmp_path, packed):
    data = open_source(write(tmp_path, packed=packed))
    assert (data.class_names, data.given_splits) == (("0", "1", "2"), ("train", "test"))
    assert np.array_equal(np.stack([s.source for s in data.subset("train")]), IMAGES)
    assert [s.label for s in data.subset("test")] == [2, 0, 1]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"images": idx_bytes(IMAGES)[:-1]}, "declares 60 bytes .* but has 59"),
        ({"images": idx_bytes(IMAGES) + b"x"}, "but has more"),
        ({"images": b"\x00\x00\x0d\x03" + bytes(12)}, "begins with 00 00 0d 03"),
        ({"images": b"\x00\x00\x08\x03" + b"\xff" * 12}, "at most 4,294,967,296 are read"),
        ({"labels": (0, 1)}, "has 3 images but .* 2 labels"),
        ({"images": np.zeros((0, 4, 5)), "labels": np.zeros(0)}, "holds no image"),
    ],
)
def test_headers_are_checked(tmp_path, change, says):
    with pytest.raises(DataError, match=says):
        open_source(write(tmp_path, **change))


def test_half_of_a_pair(tmp_path):
    (write(tmp_path) / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match="t10k-images-idx3-ubyte but not the labels"):
        open_source(tmp_path)


def test_a_gz_file_that_is_cut(tmp_path):
    path = write(tmp_path, packed=True) / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match="cannot be read"):
        open_source(tmp_path)


def test_mnist_itself(shared_data):
    """Counts of the ten digits in MNIST's 60,000 training labels, as published (LeCun et al., 1998)."""
    data = open_source(shared_data / "mnist")
    counts = np.bincount([s.label for s in data.subset("train")])
    assert counts.tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert len(data.subset("test")) == 10_000
    assert data.class_names == tuple("0123456789")
    assert data.notes == ("the training labels are those of MNIST, so the classes have its names",)


def test_labels_that_are_known_name_the_classes(tmp_path, monkeypatch):
    """By the MD5 of the labels as an idx file: here of 3 labels, computed with hashlib from the 11 bytes of the file."""
    labels = bytes([0, 0, 8, 1, 0, 0, 0, 3, 2, 0, 1])
    known = {hashlib.md5(labels).hexdigest(): ("Fashion-MNIST", FASHION_CLASSES)}
    monkeypatch.setattr(idx, "_KNOWN_LABELS", known)
    for packed in (False, True):
        folder = tmp_path / str(packed)
        folder.mkdir()
        data = open_source(write(folder, packed=packed))
        assert data.class_names[:3] == ("T-shirt/top", "Trouser", "Pullover")
        assert "those of Fashion-MNIST" in data.notes[0]
    other = tmp_path / "other"
    other.mkdir()
    assert open_source(write(other, labels=(1, 0, 2))).class_names == ("0", "1", "2")
