import pytest

from recog.core.errors import DataError
from recog.data.data_layout import DETECTED, DataLayout
from recog.data.lists.csv_table import csv_listing, decode_text, read_table
from recog.data.lists.label_format import AS_FOUND, LabelFormat


def listing(text, layout=DETECTED, labels=AS_FOUND, there=()):
    return csv_listing(read_table(text, "x.csv", layout, lambda path: path in there), labels, layout)


def rows(found):
    return [(row.path, row.labels, row.split, row.group) for row in found.rows]


def test_columns_by_other_names():
    found = listing("Image ID,Breed,subset,patient,age\n7,pug,Train,p1,3\n8,cat,test,p2,4\n")
    assert rows(found) == [("7", ("pug",), "train", "p1"), ("8", ("cat",), "test", "p2")]
    assert found.why == "it has the columns Image ID and Breed"
    assert found.notes == [
        "columns: path from Image ID, label from Breed, split from subset, group from patient (--group-column none ignores it)"
    ]


def test_cells_to_slice_by_are_those_without_another_use_and_the_group():
    found = listing("image,label,patient,age\n7,pug,p1,3\n8,cat,p2,4\n")
    assert next(found.rows).columns == (("patient", "p1"), ("age", "3"))
    found = listing("path,label,group,file_name\n7,pug,p1,x\n8,cat,p2,y\n")
    assert next(found.rows).columns == ()


def test_columns_of_0_and_1_beside_other_names():
    found = listing("filename,ant,bee,is_valid\na.jpg,1,0,False\nb.jpg,1,1,True\n")
    assert rows(found) == [("a.jpg", ("ant",), "train", None), ("b.jpg", ("ant", "bee"), "val", None)]
    assert found.label_columns == ("ant", "bee")
    found = listing("image,class,ant,bee\na.jpg,x,1,0\n", labels=LabelFormat(columns=("ant", "bee")))
    assert rows(found) == [("a.jpg", ("ant",), None, None)]


@pytest.mark.parametrize(
    ("text", "layout", "expected"),
    [
        ("a.png,ant\nb.png,bee\n", {}, [("a.png", "ant", None), ("b.png", "bee", None)]),
        ("0,a.png\n1,b.png\n", {}, [("a.png", "0", None), ("b.png", "1", None)]),
        ("a.png,train,ant\nb.png,test,bee\n", {}, [("a.png", "ant", "train"), ("b.png", "bee", "test")]),
        ("a.png,7,ant\nb.png,8,bee\n", {"label_column": "3"}, [("a.png", "ant", None), ("b.png", "bee", None)]),
        ("a.png,b.png,ant\n", {"path_column": "2", "label_column": "3"}, [("b.png", "ant", None)]),
    ],
)
def test_a_list_without_a_header(text, layout, expected):
    found = listing(text, DataLayout(**layout), there=("a.png", "b.png"))
    assert [(path, labels[0], split) for path, labels, split, _ in rows(found)] == expected
    assert found.notes[0].startswith("no header, as the first line names an image")


def test_a_list_without_a_header_and_a_clear_label_is_refused():
    with pytest.raises(DataError, match="it has: path, 2, 3. Name it: --label-column COLUMN"):
        listing("a.png,7,ant\n", there=("a.png",))


def test_text_in_other_encodings():
    assert decode_text("é".encode("cp1252"), "x", "cp1252") == "é"
    assert decode_text("é".encode("utf-16"), "x", "utf-16") == "é"
    assert decode_text("\ufeffé".encode(), "x", "utf-8") == decode_text("\ufeffé".encode(), "x") == "é"
    with pytest.raises(DataError, match="x is not UTF-8: line 1 has the byte 0xe9 near 'é'. .*--encoding cp1252"):
        decode_text("é".encode("cp1252"), "x")
    with pytest.raises(DataError, match="x is UTF-16 text. Use --encoding utf-16"):
        decode_text("é".encode("utf-16"), "x")
    with pytest.raises(DataError, match="x is not ascii"):
        decode_text("é".encode(), "x", "ascii")


@pytest.mark.parametrize("path", ["../photos/a.jpg", "/data/a.jpg", "C:\\data\\a.jpg", "~/a.jpg"])
def test_a_first_line_with_a_path_outside_the_folder_is_no_header(path):
    found = listing(f"{path},cat\n{path},dog\n")
    assert rows(found) == [(path, ("cat",), None, None), (path, ("dog",), None, None)]


def test_of_two_columns_of_paths_the_one_that_names_images():
    found = listing("id,name,label\n1,a.jpg,cat\n2,b.jpg,dog\n", there=("a.jpg",))
    assert [row.path for row in found.rows] == ["a.jpg", "b.jpg"]
