import os
import random
from pathlib import Path

import pytest

from recog.core.errors import DataError
from recog.runtime.folders import list_images, walk_folder


def touch(path, content=b""):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def below(root, paths):
    return [Path(path).relative_to(root).as_posix() for path in paths]


@pytest.fixture(params=range(3))
def shuffled_file_system(request, monkeypatch):
    """Every way of listing a folder gives another order, as file systems do."""
    rng = random.Random(request.param)
    listdir, scandir, iterdir = os.listdir, os.scandir, Path.iterdir

    class Shuffled:
        def __init__(self, *arguments):
            with scandir(*arguments) as entries:
                self.entries = list(entries)
            rng.shuffle(self.entries)

        def __enter__(self):
            return iter(self.entries)

        def __exit__(self, *_):
            return None

        def __iter__(self):
            return iter(self.entries)

    def shuffle(entries):
        entries = list(entries)
        rng.shuffle(entries)
        return entries

    monkeypatch.setattr(os, "listdir", lambda *arguments: shuffle(listdir(*arguments)))
    monkeypatch.setattr(os, "scandir", Shuffled)
    monkeypatch.setattr(Path, "iterdir", lambda self: iter(shuffle(iterdir(self))))


def test_a_folder_is_listed_in_natural_order_and_depth(tmp_path):
    for name in ("b10.png", "b2.PNG", "a/x.jpg", ".hidden.png", "notes.txt", "a/.ipynb_checkpoints/x.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "download").write_bytes(b"\x89PNG\r\n\x1a\n")  # an image without a suffix
    listed = list_images(tmp_path)
    found = [Path(path).relative_to(tmp_path).as_posix() for path in listed.images]
    others = [Path(path).relative_to(tmp_path).as_posix() for path in listed.others]
    assert sorted(others) == [".hidden.png", "a/.ipynb_checkpoints", "notes.txt"]
    assert sorted(found) == sorted(["b2.PNG", "b10.png", "a/x.jpg", "download"])
    assert found.index("b2.PNG") < found.index("b10.png")


class TestListing:
    def test_folders_files_and_hidden_entries_apart(self, tmp_path):
        for name in ("class10", "class2", ".ipynb_checkpoints", "__MACOSX"):
            (tmp_path / name).mkdir()
            touch(tmp_path / name / "x.png")
        for name in ("b.png", "a.png", ".DS_Store", "Thumbs.db", "desktop.ini"):
            touch(tmp_path / name)
        walk = walk_folder(tmp_path)
        assert below(tmp_path, walk.files) == ["a.png", "b.png", "class2/x.png", "class10/x.png"]
        assert below(tmp_path, walk.hidden) == [
            ".DS_Store",
            ".ipynb_checkpoints",
            "__MACOSX",
            "desktop.ini",
            "Thumbs.db",
        ]

    def test_paths_begin_as_the_folder_is_given(self, tmp_path, monkeypatch):
        touch(tmp_path / "cat" / "1.png")
        monkeypatch.chdir(tmp_path)
        assert walk_folder(Path("cat/")).files == walk_folder(Path(".")).files == ["cat/1.png"]
        assert walk_folder(Path("../") / tmp_path.name).files == [f"../{tmp_path.name}/cat/1.png"]

    @pytest.mark.parametrize("make", [lambda path: None, touch], ids=["absent", "a file"])
    def test_what_cannot_be_listed_is_an_error_with_its_name(self, tmp_path, make):
        make(tmp_path / "photos")
        with pytest.raises(DataError, match=r"photos cannot be listed: "):
            walk_folder(tmp_path / "photos")

    def test_a_folder_whose_entries_cannot_be_looked_at_is_an_error(self, tmp_path, monkeypatch):
        touch(tmp_path / "a.png")
        monkeypatch.setattr(os, "access", lambda path, mode: mode != os.X_OK)  # readable, not searchable
        with pytest.raises(DataError, match="cannot be listed: Permission denied"):
            walk_folder(tmp_path)


class TestWalk:
    def test_every_depth_in_natural_order(self, tmp_path):
        for name in ("x/10/a.png", "x/2/b.png", "x/2/.hid/c.png", "x/img10.png", "x/img9.png", "x/2/.DS_Store"):
            touch(tmp_path / name)
        walk = walk_folder(tmp_path / "x")
        assert below(tmp_path, walk.files) == [
            "x/img9.png",
            "x/img10.png",
            "x/2/b.png",
            "x/10/a.png",
        ]
        assert below(tmp_path, walk.hidden) == ["x/2/.DS_Store", "x/2/.hid"]
        assert walk.loops == []

    def test_a_run_below_the_folder_is_not_walked(self, tmp_path):
        for name in ("a.png", "runs/x/train.lock", "runs/x/lr_range.svg", "runs/x/bundle/recog.json", "b/c.png"):
            touch(tmp_path / name)
        walk = walk_folder(tmp_path)
        assert below(tmp_path, walk.files) == ["a.png", "b/c.png"]
        assert below(tmp_path, walk.hidden) == ["runs/x"]

    @pytest.mark.usefixtures("shuffled_file_system")
    def test_the_order_is_not_the_file_systems(self, tmp_path):
        folders = [f"{kind}{number}" for kind in ("a", "b", "C") for number in (1, 2, 10)]
        expected = [f"{folder}/img{i}.png" for folder in folders for i in range(12)]
        for name in expected:
            touch(tmp_path / name)
        orders = {tuple(path.name for path in tmp_path.iterdir()) for _ in range(5)}
        assert len(orders) > 1, "the fixture shuffles nothing, so this test would prove nothing"
        assert below(tmp_path, walk_folder(tmp_path).files) == expected

    @pytest.mark.parametrize("target", [".", "..", "../..", "deep", "deep/er"])
    def test_a_link_that_leads_back_is_named_and_not_followed(self, tmp_path, target):
        """Into itself, its class, the data's root or a folder that is listed anyway: never the same file twice."""
        touch(tmp_path / "data/cat/deep/er/1.png")
        touch(tmp_path / "data/dog/2.png")
        link = tmp_path / "data/cat/zz_link"
        link.symlink_to(target)
        walk = walk_folder(tmp_path / "data/cat")
        assert [Path(p).name for p in walk.files] == ["1.png"]
        assert walk.loops == [str(link)]

    def test_a_root_that_is_a_link_up_the_tree_is_a_loop(self, tmp_path):
        """`data/cat -> .` would make every other class's images cats."""
        touch(tmp_path / "data/dog/2.png")
        (tmp_path / "data/cat").symlink_to(".")
        walk = walk_folder(tmp_path / "data/cat")
        assert (walk.files, walk.loops) == ([], [str(tmp_path / "data/cat")])

    def test_two_links_that_lead_to_each_other_are_entries_not_a_hang(self, tmp_path):
        (tmp_path / "a").symlink_to("b")
        (tmp_path / "b").symlink_to("a")
        assert below(tmp_path, walk_folder(tmp_path).files) == ["a", "b"]

    def test_a_link_to_a_folder_elsewhere_is_followed(self, tmp_path):
        touch(tmp_path / "disk/1.png")
        (tmp_path / "cat").mkdir()
        (tmp_path / "cat/more").symlink_to(tmp_path / "disk")
        assert below(tmp_path, walk_folder(tmp_path / "cat").files) == ["cat/more/1.png"]

    def test_a_root_that_is_a_link_elsewhere_is_followed(self, tmp_path):
        touch(tmp_path / "disk/cats/1.png")
        (tmp_path / "cat").symlink_to(tmp_path / "disk/cats")
        assert below(tmp_path, walk_folder(tmp_path / "cat").files) == ["cat/1.png"]
