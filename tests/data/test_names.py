"""Class names: one Unicode form, and none that a later step could not write; splits and labels in names; files left out."""

import json

import numpy as np
import pytest
from containers import labelled_pngs, write_csv, write_folder

from recog.core.errors import ConfigError, DataError
from recog.data.names import (
    LabelPattern,
    are_numbered,
    check_globs,
    class_name_of,
    excluded_by,
    split_of_name,
    splits_of_files,
)
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


LABELS = [  # template, name, the label that a person reads in it
    ("{label}.{}.jpg", "train/cat.0.jpg", "cat"),
    ("{label}.{}.jpg", "cat.0.JPG", "cat"),
    ("{label}.{}.jpg", "cat.0.png", None),
    ("{label}.{}", "cat.0.png", "cat"),
    ("{label}.*.jpg", "dog.12.jpg", "dog"),
    ("{label}_{}.jpg", "great_pyrenees_12.jpg", "great_pyrenees"),  # the label is as long as possible
    ("{label}_{}_{}.jpg", "cat_front_12.jpg", "cat"),
    ("{label}{number}.jpg", "cat12.jpg", "cat"),
    ("{label}{number}.jpg", "cat.jpg", None),
    ("{label} ({number})", "benign (12).png", "benign"),
    ("{number}_{label}.png", "0012_frog.png", "frog"),
    ("{}_{label}_{}.png", "007_great_pyrenees_3.png", "great_pyrenees"),
    ("{label}/{}/{}.jpg", "data/cat/P1/3.jpg", "cat"),
    ("{label}/{}.jpg", "cat/P1/3.jpg", "P1"),
    ("[{label}] {number}", "[cat] 3.png", "cat"),
]


@pytest.mark.parametrize(("template", "name", "label"), LABELS)
def test_the_label_in_a_name(template, name, label):
    assert LabelPattern(template).label_of(name) == label


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("cat.{}.jpg", "has 0 times {label}"),
        ("{label}_{label}.jpg", "has 2 times {label}"),
        ("{label}_{id}.jpg", "has {id}; expected {label} once"),
        ("{label}{}.jpg", "nothing separates {label} and {}"),
        ("{}*{label}.jpg", "nothing separates {} and"),
        ("{}_" * 8 + "{label}", "has 9 fields"),
    ],
)
def test_a_template_without_a_meaning(template, says):
    with pytest.raises(ConfigError, match=says):
        LabelPattern(template)


EXCLUDED = [
    ("*_mask.png", "a/x_mask.png", True),
    ("*_mask.png", "a/x.png", False),
    ("masks", "cat/masks/1.png", True),
    ("masks/", "cat/masks/1.png", True),
    ("cat/masks", "cat/masks/1.png", True),
    ("cat/*.png", "dog/1.png", False),
    ("dog/*", "dog/a/1.png", True),
]


@pytest.mark.parametrize(("glob", "name", "is_excluded"), EXCLUDED)
def test_globs_match_names_of_files_and_folders(glob, name, is_excluded):
    assert (excluded_by(name, [glob]) == glob) is is_excluded


@pytest.mark.parametrize("glob", ["", " ", "*", "**/*"])
def test_a_glob_that_excludes_everything(glob):
    with pytest.raises(ConfigError, match=r"expected one that some files match, such as '\*_mask.png'"):
        check_globs([glob])
