import json
import sys

import pytest
from containers import labelled_pngs, write_parquet, write_text

from recog.core.errors import DataError, MissingExtraError
from recog.data.data_layout import DataLayout
from recog.data.lists.label_format import LabelFormat
from recog.data.parquet.reader import read_parquet
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
    path = write(tmp_path / "x.parquet", image=rows, label=["a", "b", None], group=["g", "h", "i"])
    with pytest.raises(DataError, match="1 of 2 images of x have no label, more than 1%"):
        open_source(path)
    data = read_parquet([path], root=tmp_path)
    assert [(s.name, s.group) for s in data.samples] == [("x.parquet/000000/a.png", "g")]
    assert [e.reason for e in data.exclusions] == ["no bytes: the image is a path to another machine", "no label"]


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"photo": [b"x"], "label": [0]}, r"no column 'image'.* it has: photo, label.* --path-column COLUMN"),
        ({"image": [b"x"], "lable": [0]}, "Did you mean 'lable'"),
        ({"image": [b"x"], "breed": [0], "y": [0]}, "several columns that may be its label: breed, y"),
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
    data = read_parquet([tmp_path / "x.parquet"], root=tmp_path)
    assert (data.task, data.class_names) == ("multilabel", ("cat", "dog"))
    assert [s.labels for s in data.samples] == [(0, 1), ()]
    assert [e.reason for e in data.exclusions] == ["no label"]


IMAGES = [{"bytes": data, "path": None} for data in labelled_pngs(3, classes=("x",)).values()]


class TestColumnsOf0And1:
    @pytest.mark.parametrize(
        "cells",
        [([1, 0, 1], [0, 0, 1]), ([True, False, True], [False, False, True]), ([1.0, 0.0, 1.0], [0, 0, 1])],
        ids=["whole", "boolean", "mixed"],
    )
    def test_they_name_the_labels_in_natural_order(self, tmp_path, cells):
        further = {"split": ["train", "train", "val"], "camera": ["a", "b", "1"], "iso": [100, 1, 0]}
        path = write(tmp_path / "x.parquet", image=IMAGES, **{"Dog 10": cells[0], "Dog 2": cells[1]}, **further)
        data = open_source(path, one_class_map=False)
        assert (data.task, data.class_names) == ("multilabel", ("Dog 2", "Dog 10"))
        assert [(s.labels, s.split) for s in data.samples] == [((1,), "train"), ((), "train"), ((0, 1), "val")]
        assert dict(data.samples[0].columns) == {"camera": "a", "iso": "100"}
        assert data.notes == ("labels are the 2 columns Dog 10, Dog 2; no labels: camera, iso",)
        assert data.why == "the column image and 2 columns that hold only 0 and 1"

    def test_of_several_the_user_may_name_the_labels_and_a_label_column_is_another_then(self, tmp_path):
        columns = {"cat": [1, 0, 1], "dog": [0, 0, 1], "night": [True, True, False]}
        path = write(tmp_path / "x.parquet", image=IMAGES, **columns)
        assert open_source(path).class_names == ("cat", "dog", "night")
        path = write(tmp_path / "y.parquet", image=IMAGES, label=["a", "b", "a"], **columns)
        assert (open_source(path).task, open_source(path).class_names) == ("multiclass", ("a", "b"))
        data = open_source(path, labels=LabelFormat(columns=("dog", "cat")))
        assert (data.class_names, [s.labels for s in data.samples]) == (("cat", "dog"), [(0,), (), (0, 1)])
        assert dict(data.samples[0].columns) == {"label": "a", "night": "True"}

    @pytest.mark.parametrize(
        ("cats", "wanted", "says"),
        [
            (
                [1, 2, 0],
                ("cat", "dog"),
                r"x.parquet/000001 has '2' in the label column 'cat'; expected 0 or 1\. Correct",
            ),
            ([1, None, 0], ("cat", "dog"), "x.parquet/000001 has '' in the label column 'cat'"),
            ([[1], [0], [1]], ("cat", "dog"), r"000000 has '\[1\]' in the label column 'cat'"),
            ([1, 0, 1], ("cats", "dog"), "x.parquet has no label column 'cats'; it has: cat, dog. Did you mean 'cat'"),
            ([1, 2, 0], (), "no column 'label'.*or columns of 0 and 1"),
        ],
    )
    def test_what_is_no_0_or_1_is_refused_as_of_a_csv(self, tmp_path, cats, wanted, says):
        path = write(tmp_path / "x.parquet", image=IMAGES, cat=cats, dog=[0, 0, 1])
        with pytest.raises(DataError, match=says):
            open_source(path, labels=LabelFormat(columns=wanted))

    def test_files_must_agree_in_whatever_order(self, tmp_path):
        write(tmp_path / "a.parquet", image=IMAGES, cat=[1, 0, 1], dog=[0, 0, 1])
        write(tmp_path / "b.parquet", image=IMAGES, dog=[0, 1, 1], cat=[0, 0, 0])
        empty = {"image": pa.array([], type=pa.struct({"bytes": pa.binary()})), "cat": pa.array([], type=pa.int8())}
        write(tmp_path / "c.parquet", **empty)
        labels = [s.labels for s in open_source(tmp_path).samples]
        assert labels == [(0,), (), (0, 1), (), (1,), (1,)]
        write(tmp_path / "d.parquet", image=IMAGES, dog=[0, 1, 1], cat=[0, 0, 7])
        with pytest.raises(DataError, match=r"d.parquet has as columns of 0 and 1 none, but .*a.parquet has cat, dog"):
            open_source(tmp_path)


def test_columns_by_other_names(tmp_path):
    columns = {
        "img": [b"a", b"b"],
        "fine_label": [1, 0],
        "coarse_label": [0, 0],
        "is_valid": [True, False],
        "patient_id": ["p", "q"],
        "part": ["train", "test"],
    }
    path = write(tmp_path / "x.parquet", **columns)
    data = open_source(path, one_class_map=False)
    assert data.why == "the columns img and fine_label"
    assert [(data.class_names[s.label], s.split, s.group) for s in data.samples] == [
        ("1", "val", "p"),
        ("0", "train", "q"),
    ]
    assert data.column_names == ("coarse_label", "patient_id", "part")
    assert data.notes == (
        "columns: path from img, label from fine_label, split from is_valid, group from patient_id "
        "(--group-column none ignores it)",
    )
    layout = DataLayout(label_column="coarse_label", split_column="none", group_column="none")
    data = open_source(path, layout=layout, one_class_map=False)
    assert [(data.class_names[s.label], s.split, s.group) for s in data.samples] == [("0", None, None)] * 2


@pytest.mark.parametrize("declare", [False, True])
def test_paths_in_place_of_images(tmp_path, declare):
    for name in ("1.png", "2.png"):
        write_text(tmp_path / "images" / name, "")
    table = pa.table({"filename": ["1.png", "2"], "label": [1, 0], "caption": ["x", "y"]})
    if declare:
        table = table.replace_schema_metadata(
            {"huggingface": json.dumps({"info": {"features": {"label": {"names": ["ant", "bee"]}}}})}
        )
    pq.write_table(table, tmp_path / "x.parquet")
    data = open_source(tmp_path / "x.parquet")
    assert data.layout == "Parquet of paths and labels"
    expected = (
        [("images/1.png", "bee"), ("images/2.png", "ant")]
        if declare
        else [("images/1.png", "1"), ("images/2.png", "0")]
    )
    assert [(s.name, data.class_names[s.label]) for s in data.samples] == expected
    assert data.column_names == ("caption",)


@pytest.mark.parametrize("images", [(), ("photos",)])
def test_a_folder_of_tables_of_paths_is_one_list(tmp_path, images):
    folder = tmp_path / "tables"
    place = tmp_path / "photos" if images else folder / "images"
    place.mkdir(parents=True)
    for name in "abcd":
        (place / f"{name}.png").write_bytes(PNG)
    write(folder / "train-0.parquet", image_path=["a.png", "b.png"], label=[["ant"], ["bee"]])
    write(folder / "test-0.parquet", image_path=["c.png", "d.png"], label=[["ant"], ["bee"]])
    layout = DataLayout(images=tuple(str(tmp_path / name) for name in images))
    data = open_source(folder, layout=layout)
    assert (data.name, data.task, data.layout) == ("tables", "multiclass", "Parquet of paths and labels")
    assert [(s.name.rpartition("/")[2], s.split, s.label) for s in data.samples] == [
        ("c.png", "test", 0),
        ("d.png", "test", 1),
        ("a.png", "train", 0),
        ("b.png", "train", 1),
    ]
