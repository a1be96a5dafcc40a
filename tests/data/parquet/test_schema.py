"""Columns of every type of Arrow: read with the same result, or refused by the true reason."""

import pytest
from containers import labelled_pngs

from recog.core.errors import DataError
from recog.data.sources import open_source

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

IMAGES = list(labelled_pngs(2).values())
N = len(IMAGES)
NAMES = ["a", "b"] * (N // 2)
STRUCT_OF_VIEWS = pa.struct([("bytes", pa.binary_view()), ("path", pa.string_view())])
LISTS = [["a"], ["b"], ["a", "b"], [], ["a"], ["b"]]


def write(folder, columns):
    pq.write_table(pa.table(columns), folder / "t.parquet")
    return folder / "t.parquet"


@pytest.mark.parametrize(
    "columns",
    [
        {"image": IMAGES, "label": pa.array(NAMES).dictionary_encode()},
        {"image": pa.array(IMAGES).dictionary_encode(), "label": NAMES},
        {"image": pa.array(IMAGES, pa.large_binary()), "label": pa.array(NAMES, pa.large_string())},
        {"image": pa.array(IMAGES, pa.binary_view()), "label": pa.array(NAMES, pa.string_view())},
        {"image": pa.array([{"bytes": i, "path": None} for i in IMAGES], STRUCT_OF_VIEWS), "label": NAMES},
        {"image": IMAGES, "label": NAMES, "group": pa.array(NAMES).dictionary_encode()},
    ],
    ids=["dictionary of names", "dictionary of images", "large", "views", "struct of views", "group"],
)
def test_types_that_hold_the_same(tmp_path, columns):
    data = open_source(write(tmp_path, columns))
    assert data.class_names == ("a", "b")
    assert [sample.source.read() for sample in data.samples] == IMAGES
    assert [data.class_names[sample.label] for sample in data.samples] == NAMES


def test_a_dictionary_of_numbers(tmp_path):
    data = open_source(write(tmp_path, {"image": IMAGES, "label": pa.array([0, 1] * (N // 2)).dictionary_encode()}))
    assert data.class_names == ("0", "1")


@pytest.mark.parametrize(
    "kind",
    [pa.list_(pa.string()), pa.large_list(pa.string()), pa.list_(pa.dictionary(pa.int32(), pa.string()))],
    ids=str,
)
def test_lists_of_labels(tmp_path, kind):
    data = open_source(write(tmp_path, {"image": IMAGES, "labels": pa.array(LISTS, kind)}))
    assert data.task == "multilabel"
    assert [[data.class_names[label] for label in sample.labels] for sample in data.samples] == LISTS


def test_a_list_beyond_any_number_of_labels_is_refused(tmp_path):
    lists = [["a"], ["b"], ["a"] * 10_001, [], ["a"], ["b"]]
    with pytest.raises(DataError, match="10,001 labels for one image; at most 10,000 are read"):
        open_source(write(tmp_path, {"image": IMAGES, "labels": lists}))


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"image": [{"bytes": {"x": i}} for i in IMAGES]}, r"'bytes' of the column image of type struct<x: binary>"),
        ({"image": [{"bytes": "text"}] * N}, "'bytes' of the column image of type string; expected .* as binary"),
        ({"image": [{"bytes": [1, 2]}] * N}, "'bytes' of the column image of type list<"),
        ({"image": [[1, 2]] * N}, "the column image of type list<"),
        ({"label": [{"a": 1}] * N}, "the column label of type struct<a: int64>; expected whole numbers or names"),
        ({"label": [True] * N}, "the column label of type bool"),
        ({"label": pa.array([0] * N, pa.date32())}, "the column label of type date32"),
        ({"label": pa.array([[1, 0]] * N, pa.list_(pa.int64(), 2))}, r"the column label of type fixed_size_list<.*>\[2\]"),
        ({"group": [{"a": 1}] * N}, "the column group of type struct<a: int64>"),
        ({"split": [["train"]] * N}, "the column split of type list<"),
    ],
)  # fmt: skip
def test_other_types_are_refused_by_name(tmp_path, columns, says):
    with pytest.raises(DataError, match=says):
        open_source(write(tmp_path, {"image": IMAGES, "label": NAMES, **columns}))


@pytest.mark.parametrize("name", ["image", "label", "camera"])
def test_a_doubled_column_is_refused_by_name(tmp_path, name):
    columns = {"image": pa.array(IMAGES), "label": pa.array(NAMES), "camera": pa.array(NAMES)}
    arrays = [*columns.values(), columns[name]]
    pq.write_table(pa.Table.from_arrays(arrays, names=[*columns, name]), tmp_path / "t.parquet")
    with pytest.raises(DataError, match=f"has the column '{name}' twice; keep one of them"):
        open_source(tmp_path / "t.parquet")
