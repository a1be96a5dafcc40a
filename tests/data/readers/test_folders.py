"""Layouts that archives have; those of folders on disk are in test_sources.py."""

import pytest
from containers import labelled_pngs, write_folder, write_text

from recog.core.errors import DataError
from recog.data.names import class_name_of
from recog.data.readers.folders import read_class_folders
from recog.data.sources import open_source
from recog.data.tree import walk_tree

IMAGES = labelled_pngs(2)


def test_a_folder_within_a_folder_is_looked_into(tmp_path):
    write_folder(IMAGES, tmp_path / "download/pets-v2")
    data = read_class_folders(walk_tree(tmp_path))
    assert (data.class_names, data.layout) == (("ant", "bee", "cow"), "class folders in download/pets-v2/")


def test_splits_stand_in_their_usual_order(tmp_path):
    for split in ("test", "Validation", "train"):
        write_folder(IMAGES, tmp_path / "pets" / split)
    data = read_class_folders(walk_tree(tmp_path))
    assert data.layout == "class folders below train, val, test in pets/"
    assert data.given_splits == ("train", "val", "test")


def test_one_class_of_many_folders_stays_one_class_when_it_holds_images(tmp_path):
    write_folder(IMAGES, tmp_path / "cat")
    (tmp_path / "cat/0.png").write_bytes(IMAGES["ant", 0])
    assert read_class_folders(walk_tree(tmp_path)).class_names == ("cat",)


def test_a_list_beside_loose_images_is_pointed_to(tmp_path):
    write_text(tmp_path / "labels.csv", "path,label")
    with pytest.raises(DataError, match="The list labels.csv in it cannot be used: .*labels.csv lists no image"):
        open_source(tmp_path)


def test_two_unicode_forms_are_one_name():
    assert class_name_of("cafe\u0301") == class_name_of("caf\u00e9") == "caf\u00e9"
