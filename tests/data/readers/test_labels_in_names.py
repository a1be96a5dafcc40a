"""Labels in file names, and what file names suggest. A layout is right where its fingerprint is that of class folders."""

import pytest
from containers import labelled_pngs, write_folder

from recog.core.errors import DataError
from recog.data.data_layout import DataLayout
from recog.data.inspection import fingerprint, hash_samples
from recog.data.readers.labels_in_names import mask_notes, suggest_label_pattern
from recog.data.sources import open_source

IMAGES = labelled_pngs(4)


def digest(dataset):
    names = [sample.name for sample in dataset.samples]
    return fingerprint(dataset, dict(zip(names, hash_samples(dataset.samples), strict=True)))


def write_files(root, paths):
    """{path: (class, i)} as files."""
    for path, image in paths.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(IMAGES[image])
    return root


def split_of(i):
    return "train" if i < 3 else "test"


FORMS = {  # path of image i of a class, the pattern, whether in splits
    "flat": ("{name}.{i}.png", "{label}.{}.png", False),
    "wrapped": ("download/pets/{name}_{i}.png", "{label}_{}.png", False),
    "splits": ("{split}/{name}.{i}.png", "{label}.{}.png", True),
    "splits in a folder": ("pets/{split}/{i}_{name}.png", "{number}_{label}.png", True),
    "folders within": ("{name}/P{i}/scan.png", "{label}/{}/scan.png", False),
}


@pytest.mark.parametrize("form", FORMS)
def test_it_is_the_data_of_class_folders(tmp_path, form):
    path, pattern, has_splits = FORMS[form]
    names = {path.format(name=name, i=i, split=split_of(i)): (name, i) for name, i in IMAGES}
    root = write_files(tmp_path / "names", names)
    folders = {f"{split_of(i) + '/' if has_splits else ''}{name}/{i}.png": (name, i) for name, i in IMAGES}
    expected = open_source(write_files(tmp_path / "folders", folders))
    data = open_source(root, layout=DataLayout(label_pattern=pattern))
    assert digest(data) == digest(expected)
    assert data.class_names == ("ant", "bee", "cow")
    assert data.why.startswith(f"pattern {pattern}, such as ")


def test_unlabelled_test_images_and_other_files_are_left_aside_by_name(tmp_path):
    write_files(tmp_path, {f"train/{name}.{i}.png": (name, i) for name, i in IMAGES})
    write_files(tmp_path, {f"test1/{i}.png": ("ant", i) for i in range(4)})
    (tmp_path / "readme.txt").write_text("pets")
    data = open_source(tmp_path, layout=DataLayout(label_pattern="{label}.{}.png"))
    assert len(data.samples) == 12
    assert data.given_splits == ("train",)
    assert data.notes == ("test1/ has no labels and is left aside; recog predict can label its images",)
    assert {e.name: e.reason for e in data.exclusions if not e.name.endswith("/0.png")} == {
        **{f"test1/{i}.png": "no image in it matches the label pattern" for i in (1, 2, 3)},
        "readme.txt": "not an image file",
    }


def test_splits_that_the_user_states(tmp_path):
    for folder in ("one", "two", "three"):
        write_files(tmp_path, {f"{folder}/{name}.{i}.png": (name, i) for name, i in IMAGES})
    layout = DataLayout(label_pattern="{label}.{}.png", split_folders=("train=one", "test=two"))
    data = open_source(tmp_path, layout=layout)
    assert {split: len(data.subset(split)) for split in data.given_splits} == {"train": 12, "test": 12}
    assert {e.reason for e in data.exclusions} == {"not one of the given split folders"}
    with pytest.raises(DataError, match=r"no folder 'tow' for the split 'test'. Did you mean 'two'"):
        open_source(tmp_path, layout=DataLayout(label_pattern="{label}.{}.png", split_folders=("test=tow",)))


def test_images_beside_a_split_folder(tmp_path):
    write_files(tmp_path, {f"train/{name}.{i}.png": (name, i) for name, i in IMAGES})
    write_files(tmp_path, {"ant.9.png": ("ant", 0)})
    with pytest.raises(DataError, match=r"outside of them, such as ant.9.png.*--split-folders train=train"):
        open_source(tmp_path, layout=DataLayout(label_pattern="{label}.{}.png"))


def test_names_that_do_not_match(tmp_path):
    write_files(tmp_path, {f"{name}.{i}.png": (name, i) for name, i in IMAGES})
    with pytest.raises(
        DataError, match=r"none of the 12 images .* matches .*'{label}_{}.png'; the first is 'ant.0.png'"
    ):
        open_source(tmp_path, layout=DataLayout(label_pattern="{label}_{}.png"))
    write_files(tmp_path, {"cover.png": ("ant", 0)})
    with pytest.raises(DataError, match=r"cover.png: no label \(it does not match .*--exclude"):
        open_source(tmp_path, layout=DataLayout(label_pattern="{label}.{}.png"))
    data = open_source(tmp_path, layout=DataLayout(label_pattern="{label}.{}.png", exclude=("cover*",)))
    assert len(data.samples) == 12
    assert data.notes == ("left out by --exclude: 1 by 'cover*'",)


def test_masks_that_do_not_match_are_named(tmp_path):
    write_files(tmp_path, {f"{name}.{i}{end}.png": (name, i) for name, i in IMAGES for end in ("", "_mask")})
    with pytest.raises(
        DataError, match=r"12 of 24 images .* have no label.*if they are masks.*--exclude '\*_mask.png'"
    ):
        open_source(tmp_path, layout=DataLayout(label_pattern="{label}.{number}.png"))


def test_a_pattern_needs_a_folder_of_images():
    with pytest.raises(DataError, match="--label-pattern is for folders of images"):
        open_source("digits", layout=DataLayout(label_pattern="{label}_{}"))


SUGGESTED = [  # two classes with twelve files each -> what their names suggest
    ("{name}.{i}.jpg", "'{label}.{number}.jpg' gives 2 classes: cat, dog"),
    ("great_{name}_{i}.jpg", "'{label}_{number}.jpg' gives 2 classes: great_cat, great_dog"),
    ("{name}{i}.jpg", "'{label}{number}.jpg'"),
    ("{name} ({i}).jpg", "'{label} ({number}).jpg'"),
    ("{i}_{name}.jpg", "'{number}_{label}.jpg'"),
    ("{i}_label_{name}.jpg", "'{number}_{label}.jpg' gives 2 classes: label_cat, label_dog"),
    ("{name}-{i}a.jpg", "'{label}-{}.jpg'"),
    ("{name}0{i}-1{i}.jpg", "'{label}{number}-{number}.jpg' gives 2 classes: cat, dog"),
    ("{name}_{i}_flip.jpg", "'{label}_{number}_{}.jpg' gives 2 classes: cat, dog"),
    ("IMG_{i}{name}.jpg", ""),  # every name would be a class
    ("P{i}_00{name}.jpg", ""),
]


@pytest.mark.parametrize(("form", "says"), SUGGESTED)
def test_what_names_suggest(form, says):
    names = [form.format(name=name, i=i) for name in ("cat", "dog") for i in range(12)]
    suggestion = suggest_label_pattern(names)
    assert says in suggestion
    assert bool(says) == bool(suggestion)


def test_numbers_of_imagenet_are_classes():
    names = [f"n0{synset}_{i}.JPEG" for synset in (1440764, 1443537) for i in range(9)]
    assert "'{label}_{number}.JPEG' gives 2 classes: n01440764, n01443537" in suggest_label_pattern(names)


def test_parts_of_patients_are_no_classes():
    assert suggest_label_pattern([f"patient{p:02d}_{i}.png" for p in range(4) for i in range(5)]) == ""


@pytest.mark.parametrize("folder", ["", "train/"])
def test_the_error_on_loose_images_suggests_it(tmp_path, folder):
    write_files(tmp_path, {f"{folder}{name}.{i}.png": (name, i) for name, i in IMAGES})
    if folder:
        write_files(tmp_path, {f"test1/{i}.png": ("ant", i) for i in range(4)})
    with pytest.raises(DataError, match=r"--label-pattern '{label}.{number}.png' gives 3 classes: ant, bee, cow"):
        open_source(tmp_path)


MASKS = {  # names -> the end of what is said
    ("a/1.png", "a/1_mask.png", "a/2.png", "a/2_mask.png"): "--exclude '*_mask.png'",
    ("a/b (1).png", "a/b (1)_mask.png", "a/b (1)_mask_1.png"): "--exclude '*_mask*'",
    ("1.jpg", "1-Segmentation.png"): "--exclude '*-Segmentation.png'",
    ("1.jpg", "2_mask.png"): None,
    ("a/1.jpg", "b/1_mask.jpg"): None,
    ("gas_mask.png", "1.png"): None,
}


@pytest.mark.parametrize("names", MASKS)
def test_masks_beside_images(names):
    notes = list(mask_notes(names))
    assert [note.rpartition("leave them out: ")[2] for note in notes] == ([MASKS[names]] if MASKS[names] else [])


def test_masks_are_excluded_and_the_rest_is_the_data(tmp_path):
    expected = digest(open_source(write_folder(IMAGES, tmp_path / "plain")))
    root = write_folder(IMAGES, tmp_path / "masked")
    for name, i in IMAGES:
        (root / name / f"{i:03d}_mask.png").write_bytes(IMAGES["ant", 0])
    assert "--exclude '*_mask.png'" in open_source(root).notes[0]
    data = open_source(root, layout=DataLayout(exclude=("*_mask.png",)))
    assert digest(data) == expected
    assert data.notes == ("left out by --exclude: 12 by '*_mask.png'",)


def test_folders_of_masks(tmp_path):
    for name, i in IMAGES:
        paths = {f"{name}/images/{i}.png": (name, i), f"{name}/masks/{i}.png": ("ant", 0)}
        write_files(tmp_path / "masked", paths)
    with pytest.raises(DataError, match="If 'masks' holds masks: --exclude masks"):
        open_source(tmp_path / "masked")
    data = open_source(tmp_path / "masked", layout=DataLayout(exclude=("masks",)))
    assert digest(data) == digest(open_source(write_folder(IMAGES, tmp_path / "plain")))


def test_a_list_is_read_without_what_is_excluded(tmp_path):
    write_files(tmp_path, {f"{name}{i}{end}.png": (name, i) for name, i in IMAGES for end in ("", "_mask")})
    rows = [f"{name}{i}{end}.png,{name}" for name, i in IMAGES for end in ("", "_mask")]
    (tmp_path / "list.csv").write_text("path,label\n" + "\n".join([*rows, "x_mask.png,"]))
    data = open_source(tmp_path / "list.csv", layout=DataLayout(exclude=("*_mask.png",)))
    assert (len(data.samples), len(data.exclusions)) == (12, 13)


@pytest.mark.parametrize(
    ("exclude", "says"), [("*_msk.png", "matches no file of .*first image is"), ("*.png", "leaves no file")]
)
def test_exclusions_that_do_nothing_or_too_much(tmp_path, exclude, says):
    root = write_folder(IMAGES, tmp_path)
    with pytest.raises(DataError, match=says):
        open_source(root, layout=DataLayout(exclude=(exclude,)))
