import pytest
from containers import write_list, write_text

from recog.core.errors import DataError
from recog.data.lists.list_reader import ListReader
from recog.data.lists.rows import Row
from recog.data.lists.tables import read_list


def reader_of(*rows):
    reader = ListReader(name="pets", where="x.csv")
    for number, (path, *labels) in enumerate(rows):
        reader.add(Row(f"x.csv, line {number + 2}", path, tuple(labels) or None), path, f"root/{path}")
    return reader


def test_rows_become_samples_with_classes_in_natural_order():
    data = reader_of(("b/1.png", "dog 10"), ("a/2.png", "dog 9"), ("a/3.png",)).dataset(layout="list", why="columns")
    assert data.class_names == ("dog 9", "dog 10")
    assert [(s.name, s.label, s.subfolder) for s in data.samples] == [("b/1.png", 1, "b"), ("a/2.png", 0, "a")]
    assert [(e.name, e.reason) for e in data.exclusions] == [("a/3.png", "no label (line 4)")]


def test_a_row_may_repeat_but_not_with_another_label():
    assert reader_of(("1.png", "a"), ("1.png", "a")).exclusions[0].reason == "listed again (line 3)"
    with pytest.raises(DataError, match="line 3 gives '1.png' the label 'b', but line 2 gives it 'a'"):
        reader_of(("1.png", "a"), ("1.png", "b"))


@pytest.mark.parametrize("cells", [("0", "1"), ("0.0", "1.0"), ("00", "01")])
def test_numbers_are_named_by_a_file_beside_the_list(tmp_path, cells):
    write_text(tmp_path / "classes.txt", "ant\nbee\ncow\n")
    data = read_list(write_list(tmp_path / "x.csv", f"path,label\n1.png,{cells[0]}\n2.png,{cells[1]}\n"))
    assert data.class_names == ("ant", "bee")
    assert data.notes[-1] == "class names from classes.txt, numbered from 0"


def test_names_are_not_numbered(tmp_path):
    write_text(tmp_path / "classes.txt", "x\ny\n")
    data = read_list(write_list(tmp_path / "x.csv", "path,label\n1.png,ant\n2.png,1\n"))
    assert data.class_names == ("1", "ant")
