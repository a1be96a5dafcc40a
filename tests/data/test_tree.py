import zipfile

from containers import labelled_pngs, write_folder, write_tar, write_zip

from recog.data.archives.tars import read_tar
from recog.data.archives.trees import tar_tree, zip_tree
from recog.data.tree import HIDDEN, OWN, Tree, ancestors_of, walk_tree


def test_a_folder_and_its_archives_are_one_tree(tmp_path):
    images = labelled_pngs(12)
    tar = write_tar(images, tmp_path / "t")
    trees = [walk_tree(write_folder(images, tmp_path / "f")), zip_tree(write_zip(images, tmp_path / "z"))]
    trees.append(tar_tree(tar, read_tar(tar)))
    assert [sorted(t.folders)[-1].split("/")[-1] for t in trees] == ["cow"] * 3
    assert trees[0].folders_in("") == ["ant", "bee", "cow"]
    assert trees[1].folders_in("pets") == ["pets/ant", "pets/bee", "pets/cow"]
    assert [name.split("/")[-1] for name in trees[1].files_in("pets/ant")] == [f"{i}.png" for i in range(12)]
    assert list(trees[2].files_below(""))[10] == "ant/image 10.png"  # in natural order


def test_files_come_before_those_of_the_folders_below():
    tree = Tree(name="x", where="x", files={"a/b/1": b"", "a/2": b"", "0": b""}, folders=frozenset({"a", "a/b"}))
    assert list(tree.files_below("")) == ["0", "a/2", "a/b/1"]
    assert list(ancestors_of("a/b/1")) == ["a/b", "a"]


OWN_FILES = [  # a run that was stopped, a finished one, a bundle that was moved, an evaluation, the user's cache
    "runs/a/train.lock",
    "runs/a/run.toml",
    "runs/b/run.toml",
    "runs/b/bundle/recog.json",
    "runs/notes.txt",
    "best/recog.json",
    "best/model.onnx",
    "ant/scores/report.json",
    "ant/scores/report.html",
    "cache/recog/images/0123.images",
]


def test_what_recog_wrote_is_left_out_of_folders_and_archives_by_name(tmp_path):
    root = write_folder(labelled_pngs(2), tmp_path / "pets")
    for name in (*OWN_FILES, "lost+found/x", "ant/@eaDir/000.png"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    with zipfile.ZipFile(tmp_path / "pets.zip", "w") as archive:
        for path in root.rglob("*"):
            archive.write(path, path.relative_to(root))
    for tree in (walk_tree(root), zip_tree(tmp_path / "pets.zip")):
        assert tree.folders == {"ant", "bee", "cow"}
        assert sorted(tree.files) == [f"{name}/00{i}.png" for name in ("ant", "bee", "cow") for i in range(2)]
        assert {e.name: e.reason for e in tree.exclusions} == {
            "runs": OWN,
            "best": OWN,
            "ant/scores": OWN,
            "cache": OWN,
            "lost+found": HIDDEN,
            "ant/@eaDir": HIDDEN,
        }
        assert len(tree.exclusions) == 6  # each once


def test_an_empty_folder_of_runs_is_left_out_and_a_class_of_that_name_is_not(tmp_path):
    write_folder(labelled_pngs(1), tmp_path)
    (tmp_path / "runs").mkdir()
    assert [(e.name, e.reason) for e in walk_tree(tmp_path).exclusions] == [("runs", OWN)]
    write_folder(labelled_pngs(1, classes=("runs",)), tmp_path)
    assert "runs" in walk_tree(tmp_path).folders


def test_a_link_to_itself_is_a_file_that_cannot_be_read(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    assert list(walk_tree(tmp_path).files) == ["loop"]
