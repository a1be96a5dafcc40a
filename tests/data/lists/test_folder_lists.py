import pytest
from containers import labelled_pngs, write_folder, write_text

from recog.core.errors import DataError
from recog.data.data_layout import DataLayout
from recog.data.lists.folder_lists import find_lists, list_hint, read_lists
from recog.data.readers.folders import read_class_folders
from recog.data.tree import walk_tree

IMAGES = labelled_pngs(2)


def tree_of(folder, **lists):
    write_folder(IMAGES, folder)
    for name, text in lists.items():
        write_text(folder / f"{name}.csv", text)
    return walk_tree(folder)


def listed(sort):
    return "path,label\n" + "".join(f"{label}/{i:03d}.png,{sort(label, i)}\n" for label, i in IMAGES)


def test_lists_are_files_whose_columns_and_images_are_there(tmp_path):
    lists = {
        "a": listed(lambda label, i: i),
        "b": "x,y\n1,2\n",
        "c": "path,label\nnone.png,x\n",
        "my_submission": "path,label\nant/000.png,x\n",
    }
    tree = tree_of(tmp_path, **lists)
    found = find_lists(tree)
    assert found.names == "a.csv"
    assert [name for name, _ in found.refused] == ["b.csv", "c.csv", "my_submission.csv"]
    whys = [why for _, why in found.refused]
    assert "no column 'path'" in whys[0]
    assert "none is in" in whys[1]
    assert whys[2] == "a sample submission"
    assert list_hint(tree, found).startswith(" The list b.csv in it cannot be used: ")


def test_whether_a_list_sorts_as_the_folders_do(tmp_path):
    sorts = {
        "same": lambda label, i: f"a {label}",
        "coarser": lambda label, i: label == "ant",
        "finer": lambda label, i: f"{label}{i}",
    }
    for name, sort in sorts.items():
        tree = tree_of(tmp_path / name, list=listed(sort))
        found, dataset = find_lists(tree), read_class_folders(tree)
        assert found.agrees_with(dataset) == (name == "same")
        assert not found.in_one_class_of(dataset)
        assert not found.states_splits


def test_what_a_list_does_not_name_is_left_aside(tmp_path):
    rows = listed(lambda label, i: label).split("\n")
    text = "\n".join(row for row in rows if not row.startswith(("cow", "bee/001")))
    tree = tree_of(tmp_path, list=text)
    write_text(tmp_path / "readme.txt", "")
    data = read_lists(walk_tree(tmp_path), find_lists(tree))
    assert data.class_names == ("ant", "bee")
    assert [(e.name, e.reason) for e in data.exclusions] == [
        ("cow", "unlabelled, as list.csv does not list it; 2 images"),
        ("readme.txt", "not listed in list.csv"),
        ("bee/001.png", "not listed in list.csv"),
    ]
    assert data.notes == (f"images without labels are left aside: cow; once trained: recog predict RUN {tmp_path}/cow",)


def test_options_for_folders_are_refused(tmp_path):
    tree = tree_of(tmp_path, list=listed(lambda label, i: label))
    with pytest.raises(
        DataError, match="--split-folders is for folders of images, and .* is read by its list list.csv"
    ):
        read_lists(tree, find_lists(tree), layout=DataLayout(split_folders=("train=ant",)))
