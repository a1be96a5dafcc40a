import sys

import pytest
from containers import labelled_pngs, write_parquet

from recog.core.errors import DataError, MissingExtraError
from recog.data.sources import open_source

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

PNG = labelled_pngs(1)["ant", 0]


def write(path, **columns):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path


@pytest.mark.parametrize("declare", [True, False])
def test_images_and_labels(tmp_path, declare):
    images = labelled_pngs(2)
    data = open_source(write_parquet(images, tmp_path / "p", declare=declare))
    assert data.class_names == ("ant", "bee", "cow")
    assert [s.source.read() for s in data.samples] == list(images.values())
    assert [data.class_names[s.label] for s in data.samples] == [name for name, _ in images]
    assert data.samples[3].name == "pets.parquet/000003/1.png"


def test_files_of_the_hub_give_the_splits(tmp_path):
    image = [{"bytes": PNG, "path": None}]
    for name in ("train-00000-of-00002", "train-00001-of-00002", "test-00000-of-00001"):
        write(tmp_path / "data" / f"{name}.parquet", image=image, label=["a"])
    data = open_source(tmp_path)
    assert [(s.name, s.split) for s in data.samples] == [
        ("data/test-00000-of-00001.parquet/000000", "test"),
        ("data/train-00000-of-00002.parquet/000000", "train"),
        ("data/train-00001-of-00002.parquet/000000", "train"),
    ]


def test_rows_without_image_or_label_are_named(tmp_path):
    rows = [{"bytes": PNG, "path": "a.png"}, {"bytes": None, "path": "/far/b.png"}, {"bytes": PNG, "path": None}]
    data = open_source(write(tmp_path / "x.parquet", image=rows, label=["a", "b", None], group=["g", "h", "i"]))
    assert [(s.name, s.group) for s in data.samples] == [("x.parquet/000000/a.png", "g")]
    assert [e.reason for e in data.exclusions] == ["no bytes: the image is a path to another machine", "no label"]


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"img": [b"x"], "label": [0]}, r"no column 'image'; it has: img, label.* Did you mean 'img'"),
        ({"image": [b"x"], "labels": [0]}, "Did you mean 'labels'"),
        ({"image": [1.5], "label": [0]}, "column image of type double"),
        ({"image": [b"x"], "label": [0.5]}, "column label of type double"),
        ({"image": [b"x"], "label": ["a"], "split": ["trian"]}, "split 'trian'"),
    ],
)
def test_other_columns_are_refused(tmp_path, columns, says):
    with pytest.raises(DataError, match=says):
        open_source(write(tmp_path / "x.parquet", **columns))


def test_without_pyarrow_the_extra_is_named(tmp_path, monkeypatch):
    path = write_parquet(labelled_pngs(1), tmp_path / "p")
    for name in [name for name in sys.modules if name.partition(".")[0] == "pyarrow"]:
        monkeypatch.delitem(sys.modules, name)

    class Absent:
        def find_spec(self, name, *_):
            if name == "pyarrow":
                raise ModuleNotFoundError(f"No module named '{name}'", name=name)

    monkeypatch.setattr(sys, "meta_path", [Absent(), *sys.meta_path])
    with pytest.raises(MissingExtraError, match=r"pip install 'recog\[data\]'"):
        open_source(path)


@pytest.mark.parametrize("column", ["label", "labels"])
@pytest.mark.parametrize("declared", [False, True])
def test_lists_of_labels(tmp_path, column, declared):
    import json

    image = [{"bytes": data, "path": None} for data in labelled_pngs(3, classes=("x",)).values()]
    lists = [[1, 0], [], None] if declared else [["dog", "cat"], [], None]
    table = pa.table({"image": image, column: pa.array(lists)})
    if declared:
        feature = {"feature": {"names": ["cat", "dog"], "_type": "ClassLabel"}, "_type": "List"}
        metadata = {"huggingface": json.dumps({"info": {"features": {column: feature}}})}
        table = table.replace_schema_metadata(metadata)
    pq.write_table(table, tmp_path / "x.parquet")
    data = open_source(tmp_path / "x.parquet")
    assert (data.task, data.class_names) == ("multilabel", ("cat", "dog"))
    assert [s.labels for s in data.samples] == [(0, 1), ()]
    assert [e.reason for e in data.exclusions] == ["no label"]
