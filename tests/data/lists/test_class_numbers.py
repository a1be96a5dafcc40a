import pytest
from containers import write_text

from recog.core.errors import DataError
from recog.data.lists.class_numbers import find_class_numbers
from recog.data.lists.image_finder import disk_place


def numbers(folder):
    return find_class_numbers([disk_place(folder, "")])


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        ("classes.txt", "ant\nbee\n\n", {0: "ant", 1: "bee"}),
        ("Classes.txt", "\ufeffant\r\nbee", {0: "ant", 1: "bee"}),
        ("classes.txt", "1 001.Ant\n2 002.Bee", {1: "001.Ant", 2: "002.Bee"}),
        ("classes.txt", "0: ant\n5:\tbee", {0: "ant", 5: "bee"}),
        ("classes.txt", "3 Doors Down\nbee", {0: "3 Doors Down", 1: "bee"}),
        ("data.yaml", "nc: 2\nnames: ['ant', \"bee, small\"]\n", {0: "ant", 1: "bee, small"}),
        ("data.yaml", "names: [ant,\n  bee]\nnc: 2\n", {0: "ant", 1: "bee"}),
        ("data.yml", "names:\n  - ant # first\n  - 'bee'\ntrain: x\n", {0: "ant", 1: "bee"}),
        ("data.yaml", "names:\n- ant\n- bee\n", {0: "ant", 1: "bee"}),
        ("data.yaml", "path: .\nnames:\n  0: ant\n  1: bee\n", {0: "ant", 1: "bee"}),
        ("data.yaml", "names: {0: ant, 1: bee}", {0: "ant", 1: "bee"}),
    ],
)
def test_names_of_numbers(tmp_path, file, text, expected):
    write_text(tmp_path / file, text)
    found = numbers(tmp_path)
    assert (dict(found.names), found.file) == (expected, file)


def test_files_without_names_are_none(tmp_path):
    write_text(tmp_path / "data.yaml", "train: images\nfilenames: [a]\n")
    write_text(tmp_path / "classes.txt", "\n")
    assert numbers(tmp_path) is None


def test_two_files_must_agree(tmp_path):
    write_text(tmp_path / "classes.txt", "ant\nbee")
    write_text(tmp_path / "data.yaml", "names: [ant, bee]")
    assert numbers(tmp_path).names == {0: "ant", 1: "bee"}
    write_text(tmp_path / "data.yaml", "names: [bee, ant]")
    with pytest.raises(DataError, match=r"classes.txt and data.yaml in .* name the classes differently; keep one"):
        numbers(tmp_path)


def test_numbers_may_begin_with_1_where_they_fit_so_only(tmp_path):
    write_text(tmp_path / "classes.txt", "ant\nbee")
    found = numbers(tmp_path)
    assert found.name_all({0, 1}) == ({0: "ant", 1: "bee"}, "class names from classes.txt, numbered from 0")
    assert found.name_all({1}) == ({1: "bee"}, "class names from classes.txt, numbered from 0")
    assert found.name_all({1, 2}) == ({1: "ant", 2: "bee"}, "class names from classes.txt, numbered from 1")
    with pytest.raises(DataError, match="the label 3 has no name in classes.txt, which names 2 classes from 0"):
        found.name_all({1, 3})
