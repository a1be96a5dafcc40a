"""Class names: one Unicode form, and none that a later step could not write; the words of splits in names."""

import json

import numpy as np
import pytest
from containers import labelled_pngs, write_csv, write_folder

from recog.core.errors import DataError
from recog.data.names import are_numbered, class_name_of, split_of_name, splits_of_files
from recog.data.sources import open_source


def test_names_that_look_the_same_are_the_same():
    assert class_name_of("cafe\u0301") == "caf\u00e9"


@pytest.mark.parametrize("name", ["x" * 200, "\N{CAT FACE}" * 200, "a\tb"])
def test_names_that_are_kept(name):
    assert class_name_of(name) == name


BAD = [
    ("x" * 201, "a class has a name of 201 characters, 'x{40}' and so on; at most 200 are read"),
    ("a\0b", r"a class has the name 'a\\x00b', with a NUL character"),
    ("a\ud800b", r"a class has the name 'a\\ud800b', with .* half of a surrogate pair"),
]


@pytest.mark.parametrize(("name", "says"), BAD)
def test_names_that_are_refused(name, says):
    with pytest.raises(DataError, match=says):
        class_name_of(name)


@pytest.mark.parametrize(("name", "says"), BAD)
def test_they_are_refused_by_every_list(tmp_path, name, says):
    images = labelled_pngs(2)
    lists = [tmp_path / "json"]
    write_folder(images, tmp_path / "json")
    rows = [json.dumps({"file_name": f"{n}/{i:03d}.png", "label": name if n == "ant" else n}) for n, i in images]
    (tmp_path / "json/metadata.jsonl").write_text("\n".join(rows))
    if "\ud800" not in name:  # no text file can have it but by an escape
        path = write_csv(images, tmp_path / "csv")
        path.write_text(path.read_text().replace("ant,", f"{name},"))
        lists.append(path)
    for path in lists:
        with pytest.raises(DataError, match=says):
            open_source(path)
    with pytest.raises(DataError, match=says):
        open_source([(np.zeros((1, 1), np.uint8), 0)], class_names=[name, "b"])


def test_the_split_that_a_name_means():
    """The word is Hugging Face's keyword (data_files.py); prefix, suffix, number and case do not matter."""
    expected = {
        "train": ["train", "Training", "seg_train", "Train Data", "train_images", "train1", "trainset", "TRAIN-2017"],
        "val": ["val", "valid", "Validation", "dev", "val2017", "valset", "my-dev"],
        "test": ["test", "Testing", "eval", "Evaluation", "PublicTest", "PrivateTest", "test_data", "testimages"],
        None: ["holdout", "extra", "inference", "unlabeled", "latest", "invalid", "trained", "train_test", "cat", ""],
    }
    assert {
        split: [name for name in names if split_of_name(name) == split] for split, names in expected.items()
    } == expected


def test_the_split_of_files_by_name():
    assert splits_of_files(["pets-train-0.tar", "pets-test-0.tar"]) == ["train", "test"]
    assert splits_of_files(["train-0.tar", "dev-0.tar"]) == ["train", "val"]
    assert splits_of_files(["my-test-data.tar"]) == [None]  # all there is
    assert splits_of_files(["test-0.tar"]) == ["test"]
    assert splits_of_files(["pets-train-0.tar", "pets-a.tar"]) == [None, None]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["P003", "P004"], True),
        (["1", "2", "3"], True),
        (["9f86d081884c", "e3b0c44298fc"], True),  # hexadecimal
        (["cat", "rose"], False),
        (["P003", "rose"], False),
        (["cat1", "dog2", "emu3"], False),  # each another word
    ],
)
def test_names_that_are_numbers_of_parts(names, expected):
    assert are_numbered(names) is expected
