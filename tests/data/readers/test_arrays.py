"""Images and labels in .npz and .npy files, as programs save them, and as nobody should."""

import io
import struct
import zipfile

import numpy as np
import pytest

from recog.core.errors import DataError
from recog.data.readers import arrays
from recog.data.sources import open_source

X = np.arange(6 * 4 * 5 * 3, dtype=np.uint8).reshape(6, 4, 5, 3)
Y = np.array([2, 0, 1, 0, 1, 2])
NAMES = np.array(["ant", "bee", "cow"])


def pixels_of(dataset, split=None):
    return np.stack([s.source for s in dataset.samples if split in (None, s.split)])


def labels_of(dataset, split=None):
    return [s.label for s in dataset.samples if split in (None, s.split)]


@pytest.mark.parametrize(
    "arrays_by_name",
    [
        {"X": X, "y": Y},
        {"x": X, "Y": Y.astype(np.uint8)},
        {"images": X, "labels": Y[:, None]},  # as MedMNIST has them
        {"data": X, "targets": Y.astype(np.float64)},
        {"X": X.transpose(0, 3, 1, 2), "y": Y},  # channels first
        {"X": np.asfortranarray(X), "y": Y},
    ],
    ids=lambda arrays_by_name: ", ".join(arrays_by_name),
)
@pytest.mark.parametrize("kind", ["npz", "compressed npz", "npy"])
def test_images_and_labels_by_the_names_of_the_arrays(tmp_path, arrays_by_name, kind):
    path = tmp_path / "pets.npz"
    if kind == "npz":
        np.savez(path, **arrays_by_name)
    elif kind == "compressed npz":
        np.savez_compressed(path, **arrays_by_name)
    else:
        path = tmp_path
        for name, array in arrays_by_name.items():
            np.save(tmp_path / f"{name}.npy", array)
    data = open_source(path)
    assert (data.layout, data.class_names, data.given_splits) == ("NumPy arrays", ("0", "1", "2"), ())
    assert np.array_equal(pixels_of(data), X)
    assert labels_of(data) == Y.tolist()
    image_name, label_name = arrays_by_name
    assert data.notes[0].startswith(f"images are {image_name} uint8 [6, ")
    assert f"labels {label_name}" in data.notes[0]


@pytest.mark.parametrize(
    "name_of",
    [
        "{what}_{split}",
        "{split}_{what}",
        "{what}{Split}",
        "{Split}{What}",
    ],
)
@pytest.mark.parametrize(("images", "labels"), [("x", "y"), ("images", "labels")])
def test_splits_by_the_names_of_the_arrays(tmp_path, name_of, images, labels):
    named = {}
    for split, part in (("train", slice(0, 3)), ("test", slice(3, 6))):
        for what, array in ((images, X), (labels, Y)):
            name = name_of.format(what=what, split=split, Split=split.title(), What=what.title())
            named[name] = array[part]
    np.savez(tmp_path / "pets.npz", **named)
    data = open_source(tmp_path / "pets.npz")
    assert np.array_equal(pixels_of(data, "train"), X[:3])
    assert labels_of(data, "test") == Y[3:].tolist()


def test_a_file_for_each_split(tmp_path):
    np.savez(tmp_path / "train.npz", X=X[:3], y=Y[:3])
    np.savez(tmp_path / "test.npz", X=X[3:], y=Y[3:])
    data = open_source(tmp_path)
    assert data.given_splits == ("train", "test")
    assert np.array_equal(pixels_of(data, "test"), X[3:])


def test_class_names_in_the_file_and_labels_by_name(tmp_path):
    np.savez(tmp_path / "a.npz", X=X, y=Y, class_names=NAMES, weights=np.zeros(3))
    data = open_source(tmp_path / "a.npz")
    assert data.class_names == ("ant", "bee", "cow")
    assert [(e.name, e.reason) for e in data.exclusions] == [
        ("weights float64 [3]", "not an array of images or labels")
    ]
    for named in (NAMES[Y], NAMES[Y].astype("S")):
        np.savez(tmp_path / "b.npz", X=X, y=named)
        data = open_source(tmp_path / "b.npz")
        assert (data.class_names, labels_of(data)) == (("ant", "bee", "cow"), Y.tolist())


def test_rows_of_zeros_and_ones_are_several_labels(tmp_path):
    bits = np.array([[1, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0], [1, 0, 0], [0, 0, 1]])
    np.savez(tmp_path / "a.npz", X=X, y=bits)
    data = open_source(tmp_path / "a.npz")
    assert data.task == "multilabel"
    assert [s.labels for s in data.samples] == [(0, 2), (), (0, 1, 2), (1,), (0,), (2,)]


def test_one_npy_file_takes_its_labels_from_beside(tmp_path):
    for name, array in {"x_train": X, "y_train": Y, "y_test": Y}.items():
        np.save(tmp_path / f"{name}.npy", array)
    assert labels_of(open_source(tmp_path / "x_train.npy")) == Y.tolist()
    with pytest.raises(DataError, match=r"y_test.npy is one array; expected .* Beside it: x_train.npy, y_train.npy"):
        open_source(tmp_path / "y_test.npy")


def test_a_zip_of_arrays_is_one_under_any_name(tmp_path):
    np.savez(tmp_path / "a.npz", X=X, y=Y)
    (tmp_path / "a.npz").rename(tmp_path / "a.zip")
    assert open_source(tmp_path / "a.zip").layout == "NumPy arrays"


@pytest.mark.parametrize(
    ("named", "says"),
    [
        ({"X": X}, r"has no array of labels; it holds X uint8 \[6, 4, 5, 3\]"),
        ({"y": Y}, "has no array of images"),
        ({"arr_0": X, "arr_1": Y}, "holds arr_0 .*, arr_1 .*; expected arrays named X and y"),
        ({"X": X, "images": X, "y": Y}, "has two arrays of images; it holds"),
        ({"X": X, "y": Y[:5]}, r"has X .* and y .*; expected one label for each image"),
        ({"X": X[:0], "y": Y[:0]}, "an image at least"),
        ({"X": X.reshape(6, -1), "y": Y}, r"X uint8 \[6, 60\] .*: expected images .* X.reshape\(-1, H, W\)"),
        ({"X": X, "y": Y, "X_test": X, "y_test": Y}, "name all arrays for a split .* or none"),
        ({"X": X.astype(np.float32) + 0.5, "y": Y}, "dtype float32"),
        ({"X": X.astype(complex), "y": Y}, "X.npy in a.npz holds complex128"),
        ({"X": X, "y": np.array(["a", None], dtype=object)}, "y.npy in a.npz holds Python objects; .* may run code"),
        ({"X": X, "y": np.zeros(6, "datetime64[s]")}, "holds datetime64"),
    ],
)
def test_arrays_that_are_no_data_are_refused_in_a_sentence(tmp_path, named, says):
    np.savez(tmp_path / "a.npz", **named)
    with pytest.raises(DataError, match=says):
        open_source(tmp_path / "a.npz")


def header(text, version=(1, 0)):
    """An .npy header as the format has it: magic, version, length, the text padded to 64 bytes."""
    size = 10 if version == (1, 0) else 12
    text = text.ljust(-(size + len(text) + 1) % 64 + len(text)) + "\n"
    return b"\x93NUMPY" + bytes(version) + struct.pack("<H" if version == (1, 0) else "<I", len(text)) + text.encode()


def file_of(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


HOSTILE = {
    "a petabyte": header("{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000, 1000, 1000)}"),
    "less than it says": file_of(X)[:-1],
    "more than it says": file_of(X) + b"x",
    "a negative side": header("{'descr': '|u1', 'fortran_order': False, 'shape': (-6, 4)}") + bytes(24),
    "an object": header("{'descr': '|O', 'fortran_order': False, 'shape': (6,)}") + b"\x80\x04.",
    "no dictionary": header("__import__('os').getcwd()"),
    "deep nesting": header("(" * 5000 + ")" * 5000),
    "a long header": header("{'descr': '|u1', 'fortran_order': False, 'shape': (" + "1," * 7000 + ")}"),
    "texts of no length": header("{'descr': '<U0', 'fortran_order': False, 'shape': (6,)}"),
    "a structure": header("{'descr': [('a', '|u1')], 'fortran_order': False, 'shape': (6,)}") + bytes(6),
    "another version": b"\x93NUMPY\x09\x00" + bytes(100),
    "no array": b"hello",
    "nothing": b"",
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("is_packed", [False, True])
def test_hostile_arrays_are_refused_before_anything_is_allocated(tmp_path, data, is_packed):
    (tmp_path / "X.npy").write_bytes(data)
    (tmp_path / "y.npy").write_bytes(file_of(Y))
    if is_packed:
        with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.write(tmp_path / "X.npy", "X.npy")
            archive.write(tmp_path / "y.npy", "y.npy")
    with pytest.raises(DataError, match=r"X\.npy"):
        open_source(tmp_path / ("a.npz" if is_packed else "X.npy"))


def test_arrays_that_do_not_fit_the_memory_are_refused_with_the_way_out(tmp_path, monkeypatch):
    """360 bytes of images and 48 of labels, where 800 are free and half of them may be used."""
    np.savez(tmp_path / "a.npz", X=X, y=Y)
    monkeypatch.setattr(arrays, "available_memory_bytes", lambda: 800)
    with pytest.raises(DataError, match=r"X, y take 408 bytes of memory, and 800 are free; .* as an \.npy file"):
        open_source(tmp_path / "a.npz")


def test_a_folder_of_class_folders_with_an_array_beside_them_is_one_of_classes(tmp_path):
    from containers import labelled_pngs, write_folder

    write_folder(labelled_pngs(2), tmp_path)
    np.save(tmp_path / "X.npy", X)
    assert open_source(tmp_path).class_names == ("ant", "bee", "cow")
