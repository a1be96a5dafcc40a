"""Tables of (files, path in the list -> image): where each path leads, and what is said where it leads nowhere."""

import pytest

from recog.core.errors import BadImage, DataError
from recog.data.lists.image_finder import ImageFinder, MissingFile, given_places, places_in_tree, places_on_disk
from recog.data.tree import walk_tree


def write(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def image(finder, path, split=None):
    found = finder.find(path, split, "x.csv, line 2")
    return found.source.reason if isinstance(found.source, MissingFile) else found.name


@pytest.mark.parametrize("kind", ["disk", "tree"])
@pytest.mark.parametrize(
    ("files", "path", "split", "expected"),
    [
        (["a.png", "images/a.png"], "a.png", None, "a.png"),
        (["images/a.png"], "a.png", None, "images/a.png"),
        (["Images/x/a.png"], "x/a.png", None, "Images/x/a.png"),
        (["train/a.png", "test/b.png"], "a.png", None, "train/a.png"),
        (["train/1.png", "test/1.png"], "1.png", "test", "test/1.png"),
        (["train/1.png", "test/1.png"], "1.png", None, "2 files fit it: test/1.png and train/1.png"),
        (["images/train/a.png", "images/val/b.png"], "a.png", None, "images/train/a.png"),
        (["images/train/a.png", "images/val/a.png"], "a.png", "val", "images/val/a.png"),
        (["images/8f3c1d2a-a.png"], "/data/upload/1/8f3c1d2a-a.png", None, "images/8f3c1d2a-a.png"),
        (["images/a.png"], "/data/upload/8f3c1d2a-a.png", None, "images/a.png"),
        (["pets/a b.png"], "/data/local-files/?d=media/pets/a%20b.png", None, "pets/a b.png"),
        (["x/a.png"], "/data/local-files/?d=../../etc/passwd", None, "there is no such file"),
        (["train_images/7f.jpg"], "7f", None, "train_images/7f.jpg"),
        (["1.2.840.png"], "1.2.840", None, "1.2.840.png"),
        (["a.png", "a.jpg"], "a", None, "2 files fit it: a.jpg and a.png"),
        (["a.txt", "a.jpg"], "a", None, "a.jpg"),
        (["x/a.png"], "./x//a.png", None, "x/a.png"),
        (["x/a.png"], "x\\a.png", None, "x/a.png"),
        (["images/a.JPG"], "a.jpg", None, "there is no such file; the nearest is 'images/a.JPG'"),
        (["images/a.jpg"], "a.png", None, "there is no such file; the nearest is 'images/a.jpg'"),
        (["b.png"], "pets/cats/b.png", None, "there is no such file; the nearest is 'b.png'"),
        (["b.png"], "a.png", None, "there is no such file"),
        (["b.png"], "http://x.org/a.png", None, "there is no such file"),
    ],
)
def test_a_path_beside_the_list(tmp_path, kind, files, path, split, expected):
    root = write(tmp_path / "data", *files)
    places = places_on_disk(root) if kind == "disk" else places_in_tree(walk_tree(root), "")
    assert image(ImageFinder(places), path, split) == expected


def test_the_folder_images_beside_that_of_the_list(tmp_path):
    write(tmp_path, "images/1.png", "lists/x.csv")
    finder = ImageFinder(places_on_disk(tmp_path / "lists"))
    assert [image(finder, path) for path in ("1.png", "1", "images/1.png")] == ["images/1.png"] * 3
    assert finder.notes == [f"images: {tmp_path / 'images'} (3); paths without a suffix matched by the file's name"]
    tree = ImageFinder(places_in_tree(walk_tree(tmp_path), "lists"))
    assert image(tree, "1.png") == "images/1.png"


def test_a_list_that_is_named_for_a_split(tmp_path):
    root = write(tmp_path, "train/1.png", "test/1.png")
    assert image(ImageFinder(places_on_disk(root), "train"), "1.png") == "train/1.png"
    assert image(ImageFinder(places_on_disk(root), "train"), "1.png", "val") == "train/1.png"
    write(root, "images/1.png")
    assert image(ImageFinder(places_on_disk(root), "val"), "1.png") == "images/1.png"


def test_folders_that_the_user_names(tmp_path):
    write(tmp_path, "part_1/a.png", "part_2/b.png", "part_2/x/c.png")
    folders = [str(tmp_path / "part_1"), str(tmp_path / "part_2")]
    finder = ImageFinder(given_places(folders), is_given=True)
    paths = ["a.png", "b", "part_2/b.png", "/home/ann/data/x/c.png", "C:\\data\\x\\c.png", "../other/x/c.png"]
    expected = ["part_1/a.png", "part_2/b.png", "part_2/b.png", "part_2/x/c.png", "part_2/x/c.png", "part_2/x/c.png"]
    assert [image(finder, path) for path in paths] == expected
    assert finder.notes[0].endswith(
        "paths without a suffix matched by the file's name; paths from elsewhere matched by their end"
    )
    alone = ImageFinder(given_places(folders[1:]), is_given=True)
    assert image(alone, str(tmp_path / "part_2/x/c.png")) == "x/c.png"
    with pytest.raises(DataError, match="--images names nowhere, which is not there"):
        given_places(["nowhere"])
    with pytest.raises(DataError, match="a.png, which is no folder"):
        given_places([str(tmp_path / "part_1/a.png")])


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("", "line 2 has no path"),
        ("/", "line 2 has no path"),
        ("a\0.png", "NUL"),
        ("../a.png", r"'../a.png', which leads out of the list's folder. 'a.png' is there.*--images DIR"),
        ("x/../../a.png", "leads out of the list's folder"),
        ("/etc/passwd", "leads out of the list's folder. Write the paths"),
        ("C:\\pets\\a.png", "leads out of the list's folder. 'a.png' is there"),
    ],
)
def test_paths_that_are_refused(tmp_path, path, says):
    finder = ImageFinder(places_on_disk(write(tmp_path, "a.png")))
    with pytest.raises(DataError, match=says):
        finder.find(path, None, "x.csv, line 2")


def test_an_absolute_path_within_the_folder_of_the_list(tmp_path):
    finder = ImageFinder(places_on_disk(write(tmp_path, "x/a.png")))
    assert image(finder, str(tmp_path / "x/a.png")) == "x/a.png"
    assert finder.notes == []


def test_one_image_that_is_missing_is_a_bad_image_and_all_are_an_error(tmp_path):
    finder = ImageFinder(places_on_disk(write(tmp_path, "a.png")))
    missing = finder.find("b.png", None, "x.csv, line 2")
    with pytest.raises(BadImage, match=r"b.png: there is no such file. Correct the list, or .* --images DIR"):
        missing.source.read()
    with pytest.raises(DataError, match="x.csv lists 1 images, of which none is in .*: x.csv, line 2 names 'b.png'"):
        finder.check_any_found("x.csv", 1)
    finder.find("a.png", None, "x.csv, line 3")
    finder.check_any_found("x.csv", 2)


def test_what_is_there(tmp_path):
    finder = ImageFinder(places_on_disk(write(tmp_path, "images/a.png")))
    assert [finder.holds(path) for path in ("a.png", "a", "../a.png", "", "b.png", "/a.png")] == [True] + [False] * 5


@pytest.mark.parametrize(
    ("path", "folder"), [("../photos/a.png", ""), ("../../b.png", ".."), ("{0}/photos/a.png", "photos")]
)
def test_the_folder_that_a_path_leads_to_is_named(tmp_path, monkeypatch, path, folder):
    root = write(tmp_path / "data", "photos/a.png", "lists/x.csv", "../b.png")
    monkeypatch.chdir(root)
    finder = ImageFinder(places_on_disk(root / "lists"))
    with pytest.raises(DataError, match=f"Name the folder that it leads to, .*: --images '{folder or '.'}'"):
        finder.find(path.format(root), None, "x.csv, line 2")
    given = ImageFinder(given_places([folder or "."]), is_given=True)
    assert given.find(path.format(root), None, "x.csv, line 2").source.is_file()
