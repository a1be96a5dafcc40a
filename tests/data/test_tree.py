from containers import labelled_pngs, write_folder, write_tar, write_zip

from recog.data.archives.tars import read_tar
from recog.data.archives.trees import tar_tree, zip_tree
from recog.data.tree import Tree, ancestors_of, walk_tree


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
