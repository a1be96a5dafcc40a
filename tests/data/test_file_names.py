import pytest

from recog.core.errors import ConfigError
from recog.data.file_names import LabelPattern, check_globs, excluded_by

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
