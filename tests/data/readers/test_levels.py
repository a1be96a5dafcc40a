"""Tables of (paths -> classes, splits): every level above and below the classes, in folders, zip and tar.

Expected values are read off the paths: the class is the folder that a person would name, the split the word above it.
"""

import re
import tarfile
import zipfile

import numpy as np
import pytest
from containers import add, png

from recog.core.errors import DataError
from recog.data.data_layout import DataLayout
from recog.data.sources import open_source

PIXEL = png(np.zeros((4, 4, 3), dtype=np.uint8))


def folder(root, paths):
    for path in paths:
        (root / "pets" / path).parent.mkdir(parents=True, exist_ok=True)
        (root / "pets" / path).write_bytes(PIXEL)
    return root / "pets"


def zipped(root, paths):
    with zipfile.ZipFile(root / "pets.zip", "w") as archive:
        for path in paths:
            archive.writestr(f"pets/{path}", PIXEL)
    return root / "pets.zip"


def tarred(root, paths):
    with tarfile.open(root / "pets.tar", "w") as archive:
        for path in paths:
            add(archive, f"./{path}", PIXEL)
    return root / "pets.tar"


CONTAINERS = {"folder": folder, "zip": zipped, "tar": tarred}


def in_folders(*folders, names=("a.png", "b.png")):
    return [f"{each}/{name}" for each in folders for name in names]


def read_off(dataset):
    """{(split, class): number of images}"""
    found = {}
    for sample in dataset.samples:
        key = sample.split, dataset.class_names[sample.label]
        found[key] = found.get(key, 0) + 1
    return found


def two(*keys):
    return dict.fromkeys(keys, 2)


TRAIN_TEST = two(("train", "cat"), ("train", "dog"), ("test", "cat"), ("test", "dog"))
TRAIN_VAL = two(("train", "cat"), ("train", "dog"), ("val", "cat"), ("val", "dog"))
PLAIN = two((None, "cat"), (None, "dog"))

READ = {  # folders -> what is read without any option
    "a folder of the same name within": (
        in_folders(*(f"seg_{s}/seg_{s}/{c}" for s in ("train", "test") for c in ("cat", "dog"))),
        TRAIN_TEST,
    ),
    "words": (in_folders("Train Data/cat", "Train Data/dog", "Test Data/cat", "Test Data/dog"), TRAIN_TEST),
    "suffix": (in_folders("train_images/cat", "train_images/dog", "test_images/cat", "test_images/dog"), TRAIN_TEST),
    "number": (in_folders("train1/cat", "train1/dog", "test1/cat", "test1/dog"), TRAIN_TEST),
    "year": (in_folders("train2017/cat", "train2017/dog", "val2017/cat", "val2017/dog"), TRAIN_VAL),
    "dev": (in_folders("train/cat", "train/dog", "dev/cat", "dev/dog"), TRAIN_VAL),
    "eval": (in_folders("train/cat", "train/dog", "eval/cat", "eval/dog"), TRAIN_TEST),
    "case": (in_folders("TRAIN/cat", "TRAIN/dog", "PublicTest/cat", "PublicTest/dog"), TRAIN_TEST),
    "one word": (in_folders("trainset/cat", "trainset/dog", "testset/cat", "testset/dog"), TRAIN_TEST),
    "splits below classes": (in_folders("cat/train", "cat/test", "dog/train", "dog/test"), TRAIN_TEST),
    "a class called train": (
        in_folders("train", "car", "bus"),
        two((None, "bus"), (None, "car"), (None, "train")),
    ),
    "classes with words of splits": (
        in_folders("bullet train", "test tube", "car"),
        two((None, "bullet train"), (None, "car"), (None, "test tube")),
    ),
    "numbered parts": (in_folders("cat/P001", "cat/P002", "dog/P003", "dog/P004"), dict.fromkeys(PLAIN, 4)),
    "one folder in each class": (in_folders("cat/images", "dog/images"), PLAIN),
    "the class again": (in_folders("cat/cat", "dog/dog"), PLAIN),
    "images beside the folders": (
        ["cat/1.png", "cat/kitten/2.png", "dog/1.png", "dog/poodle/2.png"],
        PLAIN,
    ),
}


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("case", READ)
def test_levels_that_names_tell(tmp_path, container, case):
    paths, expected = READ[case]
    assert read_off(open_source(CONTAINERS[container](tmp_path, paths))) == expected


def test_splits_below_classes_are_named(tmp_path):
    data = open_source(folder(tmp_path, READ["splits below classes"][0]))
    assert (data.layout, data.why) == (
        "class folders above train, test",
        "folders test, train with 2 folders of images",
    )


BOTH = {  # folders -> (patterns of the message, {options: what is read with them})
    "kingdoms": (
        in_folders("animals/cat", "plants/rose"),
        ["2 classes animals, plants .--classes-at-depth 1", "2 classes cat, rose .--classes-at-depth 2"],
        {
            1: two((None, "animals"), (None, "plants")),
            2: two((None, "cat"), (None, "rose")),
        },
    ),
    "letters": (
        in_folders("a/airfield", "a/alley", "b/beach"),
        ["2 classes a, b .--classes-at-depth 1", "3 classes airfield, alley, beach .--classes-at-depth 2"],
        {
            1: {(None, "a"): 4, (None, "b"): 2},
            2: two((None, "airfield"), (None, "alley"), (None, "beach")),
        },
    ),
    "letters in splits": (
        in_folders("train/a/airfield", "train/b/beach", "test/a/airfield", "test/b/beach"),
        ["--classes-at-depth 2", "airfield, beach .--classes-at-depth 3"],
        {
            2: two(("train", "a"), ("train", "b"), ("test", "a"), ("test", "b")),
            3: two(("train", "airfield"), ("train", "beach"), ("test", "airfield"), ("test", "beach")),
        },
    ),
    "names that repeat": (
        in_folders("site1/cat", "site1/dog", "site2/cat", "site2/dog"),
        [
            "2 classes site1, site2",
            "2 classes cat, dog .--classes-at-depth 2",
            "--split-folders train=site1,test=site2",
        ],
        {
            2: {(None, "cat"): 4, (None, "dog"): 4},
            "train=site1,test=site2": TRAIN_TEST,
        },
    ),
    "digits that repeat": (
        in_folders("ann/0", "ann/1", "bob/0", "bob/1"),
        ["2 classes ann, bob", "2 classes 0, 1 .--classes-at-depth 2"],
        {2: {(None, "0"): 4, (None, "1"): 4}},
    ),
    **{
        word: (
            in_folders("train/cat", "train/dog", f"{word}/cat", f"{word}/dog"),
            [f"train and beside them {word}", f"test={word}", "--classes-at-depth 1"],
            {
                "train=train": two(("train", "cat"), ("train", "dog")),
                f"train=train,test={word}": TRAIN_TEST,
                f"train=train,train={word}": {("train", "cat"): 4, ("train", "dog"): 4},
                1: {(None, "train"): 4, (None, word): 4},
            },
        )
        for word in ("holdout", "extra", "inference", "unlabeled")
    },
    "images without labels": (
        [*in_folders("train/cat", "train/dog"), "unlabeled/1.png", "unlabeled/2.png", "unlabeled/3.png"],
        ["train and beside them unlabeled"],
        {"train=train": two(("train", "cat"), ("train", "dog"))},
    ),
    "two folders of one split": (
        in_folders("train_1/cat", "train_2/cat", "train_1/dog", "train_2/dog"),
        ["train_1 and .*train_2 both mean the split 'train'", "--split-folders train=train_1,train=train_2"],
        {"train=train_1,test=train_2": TRAIN_TEST},
    ),
    "splits without classes": (
        ["train_images/1.png", "test_images/2.png"],
        ["is a split by its name but holds no class folders"],
        {1: {(None, "train_images"): 1, (None, "test_images"): 1}},
    ),
}


def layout_of(option):
    return (
        DataLayout(classes_at_depth=option)
        if isinstance(option, int)
        else DataLayout(split_folders=tuple(option.split(",")))
    )


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("case", BOTH)
def test_two_readings_are_refused_with_the_options_that_choose(tmp_path, container, case):
    paths, patterns, readings = BOTH[case]
    source = CONTAINERS[container](tmp_path, paths)
    with pytest.raises(DataError) as caught:
        open_source(source)
    for pattern in patterns:
        assert re.search(pattern, str(caught.value))
    for option, expected in readings.items():
        assert read_off(open_source(source, layout=layout_of(option))) == expected


def test_what_the_options_leave_out_is_counted(tmp_path):
    paths = [*in_folders("train/cat", "train/dog"), "unlabeled/1.png", "unlabeled/2.png"]
    data = open_source(folder(tmp_path, paths), layout=DataLayout(split_folders=("train=train",)))
    assert [(e.name, e.reason) for e in data.exclusions] == [
        ("unlabeled", "not one of the given split folders; 2 images")
    ]
    deep = folder(tmp_path / "deep", ["a/x/1.png", "a/y/1.png", "a/2.png"])
    data = open_source(deep, layout=DataLayout(classes_at_depth=2))
    assert [(e.name, e.reason) for e in data.exclusions] == [("a/2.png", "not in a class folder")]


def test_sub_folders_with_images_are_noted_with_both_readings(tmp_path):
    source = folder(tmp_path, READ["images beside the folders"][0])
    (note,) = open_source(source).notes
    assert note == (
        "class folders hold 2 sub-folders, such as cat/kitten, whose images are read as of the class above; if the "
        "sub-folders are the classes, use --classes-at-depth 2"
    )
    assert open_source(source, layout=DataLayout(classes_at_depth=1)).notes == ()


@pytest.mark.parametrize(
    ("layout", "says"),
    [
        (
            DataLayout(split_folders=("train=nowhere",)),
            "has no folder 'nowhere' for the split 'train'; it has: cat, dog",
        ),
        (DataLayout(split_folders=("train=cat",)), "pets/cat is a split by its name but holds no class folders"),
        (DataLayout(classes_at_depth=3), "no folders at depth 3"),
    ],
)
def test_options_that_do_not_fit_the_folders(tmp_path, layout, says):
    with pytest.raises(DataError, match=says):
        open_source(folder(tmp_path, in_folders("cat", "dog")), layout=layout)
