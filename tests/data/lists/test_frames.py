import importlib

import numpy as np
import pytest
from containers import labelled_pngs, write_folder

from recog.core.errors import DataError
from recog.data.data_layout import DataLayout
from recog.data.inspection import fingerprint, hash_samples
from recog.data.lists.label_format import LabelFormat
from recog.data.sources import open_source, read_folder


def content(data):
    return fingerprint(data, dict(zip((s.name for s in data.samples), hash_samples(data.samples), strict=True)))


@pytest.fixture(params=["pandas", "polars"])
def make(request):
    return importlib.import_module(request.param).DataFrame


@pytest.fixture
def photos(tmp_path):
    return write_folder(labelled_pngs(3), tmp_path / "photos")


@pytest.fixture
def files(photos):
    return sorted(photos.rglob("*.png"))


def test_it_is_the_class_folder_of_the_same_images(make, photos, files, monkeypatch):
    folder = read_folder(photos)
    monkeypatch.chdir(photos.parent)
    classes = [file.parent.name for file in files]
    for paths in ([str(file) for file in files], [str(file.relative_to(photos.parent)) for file in files]):
        data = open_source(make({"Image Path": paths, "species": classes}))
        assert (data.name, data.layout, data.task) == ("photos", "DataFrame of paths and labels", "multiclass")
        assert content(data) == content(folder)
        assert "columns: path from Image Path, label from species" in data.notes
    below = make({"path": [str(file.relative_to(photos)) for file in files], "label": classes})
    assert content(open_source(below, layout=DataLayout(images=(str(photos),)))) == content(folder)


def test_splits_groups_and_further_columns(make, files):
    table = {
        "path": [str(file) for file in files],
        "label": [file.parent.name for file in files],
        "split": ["train", "val", "test"] * 3,
        "patient": [f"P{i // 3}" for i in range(9)],
        "camera": list(range(9)),
    }
    data = open_source(make(table))
    assert data.given_splits == ("train", "val", "test")
    assert [sample.group for sample in data.samples] == table["patient"]
    assert dict(data.samples[4].columns)["camera"] == "4"
    chosen = DataLayout(label_column="camera", split_column="none", group_column="none")
    assert open_source(make(table), layout=chosen).class_names == tuple("012345678")
    half = {name: cells[:6] for name, cells in table.items() if name in ("path", "label")}
    rest = {name: cells[6:] for name, cells in table.items() if name in ("path", "label")}
    parts = open_source({"train": make(half), "test": make(rest)}, one_class_map=False)
    assert (len(parts.subset("train")), len(parts.subset("test"))) == (6, 3)


def test_numbers_are_names_or_indices_of_names(make, files):
    table = make({"path": [str(file) for file in files], "label": np.repeat([0, 1, 2], 3)})
    assert open_source(table).class_names == ("0", "1", "2")
    assert open_source(table, class_names=["ant", "bee", "cow"]).class_names == ("ant", "bee", "cow")
    with pytest.raises(DataError, match="row 6 has the label 2, but there are names for 2 classes"):
        open_source(table, class_names=["ant", "bee"])


def test_several_labels(make, files):
    paths = [str(file) for file in files]
    lists = make({"path": paths, "label": [["a"], ["b"], ["a", "b"]] * 3})
    joined = make({"path": paths, "label": ["a", "b", "a|b"] * 3})
    bits = make({"path": paths, "a": [1, 0, 1] * 3, "b": [0, 1, 1] * 3})
    for data in (open_source(lists), open_source(joined, labels=LabelFormat(separator="|")), open_source(bits)):
        assert (data.task, data.class_names) == ("multilabel", ("a", "b"))
        assert [sample.labels for sample in data.samples[:3]] == [(0,), (1,), (0, 1)]


def test_missing_labels_and_what_is_refused(make, files):
    table = {"path": [str(file) for file in files], "label": [None, *("ant" for _ in files[1:])]}
    with pytest.raises(DataError, match="1 of 9 images of photos have no label, more than 1%"):
        open_source(make(table))
    with pytest.raises(DataError, match="the DataFrame has no column 'label'.*it has: path"):
        open_source(make({"path": table["path"]}))
    with pytest.raises(DataError, match="none of the 2 image files exists"):
        open_source(make({"path": ["a.png", "b.png"], "label": ["a", "b"]}))
    with pytest.raises(DataError, match="--encoding is for lists of images, and the data is a DataFrame"):
        open_source(make(table), layout=DataLayout(encoding="cp1252"))
    with pytest.raises(DataError, match="one split is a DataFrame and another images"):
        open_source({"train": make(table), "test": [(files[0], "ant")]})
