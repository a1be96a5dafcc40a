"""Layouts of well-known tools: each gives the same data as the class folders of the same images, by the fingerprint."""

import csv
import io
import json
import zipfile
from dataclasses import replace

import pytest
from containers import labelled_pngs, write_folder, write_text

from recog.core.errors import DataError
from recog.data.data_layout import DETECTED, DataLayout
from recog.data.inspection import fingerprint, hash_samples
from recog.data.lists.label_format import LabelFormat
from recog.data.sources import open_source

IMAGES = labelled_pngs(4)
SPLITS = ("train", "train", "valid", "test")  # of the images of each class
OTHERS = labelled_pngs(3, classes=("nothing",), size=8)


def print_of(dataset, *, splits=True):
    """The fingerprint; without `splits`, as if the data stated none."""
    if not splits:
        dataset = replace(dataset, samples=tuple(replace(sample, split=None) for sample in dataset.samples))
    hashes = hash_samples(dataset.samples)
    return fingerprint(dataset, {s.name: h for s, h in zip(dataset.samples, hashes, strict=True)})


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    return print_of(open_source(write_folder(IMAGES, tmp_path_factory.mktemp("folders"))))


def table(header, rows, delimiter=","):
    file = io.StringIO()
    csv.writer(file, delimiter=delimiter).writerows([header, *rows])
    return file.getvalue()


def write_images(folder, images, suffix=".png"):
    """Numbered files, each class in turn; (stem, class) of each."""
    folder.mkdir(parents=True, exist_ok=True)
    named = []
    for number, ((label, _), data) in enumerate(images.items()):
        (folder / f"{number:04d}{suffix}").write_bytes(data)
        named.append((f"{number:04d}", label))
    return named


def zipped(folder, path, wrap=""):
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, wrap + file.relative_to(folder).as_posix())
    return path


def kaggle(root, folder="train"):
    rows = write_images(root / folder, IMAGES)
    write_images(root / "test", OTHERS)
    write_text(root / "train.csv", table(["id", "breed"], rows))
    write_text(root / "test.csv", table(["id"], [[f"{i:04d}"] for i in range(3)]))
    write_text(root / "sample_submission.csv", table(["id", "breed"], [[f"{i:04d}", "ant"] for i in range(3)]))
    return root


def kaggle_with_images(root):
    return kaggle(root, "images")


def kaggle_with_other_folders(root):
    rows = write_images(root / "train_images", IMAGES)
    write_images(root / "test_images", OTHERS)
    write_text(root / "train.csv", table(["Image_ID", "Label"], [(f"{stem}.png", label) for stem, label in rows]))
    return root


def kaggle_in_a_zip(root):
    return zipped(kaggle(root / "files"), root / "competition.zip", "competition/")


def kaggle_with_zips(root):
    kaggle(root / "files")
    for name in ("train", "test"):
        zipped(root / "files" / name, root / "zips" / f"{name}.zip", f"{name}/")
    for name in ("train.csv", "test.csv", "sample_submission.csv"):
        (root / "files" / name).rename(root / "zips" / name)
    return root / "zips"


def teachable_machine(root):
    for label in dict.fromkeys(label for label, _ in IMAGES):
        write_images(root / "files" / label, {key: data for key, data in IMAGES.items() if key[0] == label})
        zipped(root / "files" / label, root / "zips" / f"{label}-samples.zip")
    return root / "zips"


def class_folders_in_parts_with_a_list(root):
    items = list(IMAGES.items())
    rows = []
    for part in ("part_1", "part_2"):
        images = dict(items[::2] if part == "part_1" else items[1::2])
        rows += [(f"{part}/{stem}.png", label) for stem, label in write_images(root / part, images)]
    write_text(root / "labels.tsv", table(["file", "class"], rows, "\t"))
    return root / "labels.tsv"


def list_without_a_header(root):
    rows = write_images(root / "images", IMAGES)
    write_text(
        root / "labels.csv",
        table((f"images/{rows[0][0]}.png", rows[0][1]), [(f"images/{s}.png", c) for s, c in rows[1:]]),
    )
    return root


def numbers_with_classes_txt(root):
    rows = write_images(root / "images", IMAGES)
    names = sorted({label for _, label in rows}, reverse=True)
    write_text(root / "classes.txt", "\n".join(names))
    write_text(root / "annotations.csv", table(["filename", "target"], [(f"{s}.png", names.index(c)) for s, c in rows]))
    return root


def label_studio(root):
    rows = write_images(root / "images", IMAGES)
    tasks = [
        {
            "id": number,
            "data": {"image": f"/data/upload/1/{number:08x}-{stem}.png"},
            "annotations": [{"result": [{"value": {"choices": [label]}, "from_name": "choice", "to_name": "image"}]}],
        }
        for number, (stem, label) in enumerate(rows)
    ]
    write_text(root / "project-1-at-2026-01-01-10-00-0a1b2c3d.json", json.dumps(tasks))
    return root


def cvat_in_a_zip(root):
    rows = write_images(root / "files/images", IMAGES)
    images = "".join(f'<image id="0" name="{stem}.png"><tag label="{label}"/></image>' for stem, label in rows)
    write_text(root / "files/annotations.xml", f"<annotations><version>1.1</version>{images}</annotations>")
    return zipped(root / "files", root / "task.zip")


@pytest.mark.parametrize(
    "build",
    [
        label_studio,
        cvat_in_a_zip,
        kaggle,
        kaggle_with_images,
        kaggle_with_other_folders,
        kaggle_in_a_zip,
        kaggle_with_zips,
        teachable_machine,
        class_folders_in_parts_with_a_list,
        list_without_a_header,
        numbers_with_classes_txt,
    ],
    ids=lambda build: build.__name__,
)
def test_the_same_data_as_class_folders(tmp_path, expected, build):
    dataset = open_source(build(tmp_path / "data"))
    assert print_of(dataset) == expected


def test_what_is_left_aside_of_a_kaggle_folder_is_named(tmp_path):
    data = open_source(kaggle(tmp_path / "dogs"))
    assert (data.layout, data.why) == (
        "CSV of paths and labels, in the folder of its images",
        "train.csv: it has the columns id and breed",
    )
    assert [(e.name, e.reason) for e in data.exclusions] == [
        ("test", "unlabelled, as train.csv does not list it; 3 images"),
        ("sample_submission.csv", "a sample submission"),
        ("test.csv", "no list of images and labels"),
    ]
    where = tmp_path / "dogs"
    assert data.notes == (
        "columns: path from id, label from breed",
        f"images: {where}/train (12); paths without a suffix matched by the file's name",
        f"images without labels are left aside: test; once trained: recog predict RUN {where}/test",
    )


def roboflow(root):
    for split in dict.fromkeys(SPLITS):
        images = {key: data for key, data in IMAGES.items() if SPLITS[key[1]] == split}
        rows = write_images(root / split, images)
        cells = [[f"{stem}.png", *(int(label == name) for name in ("ant", "bee", "cow"))] for stem, label in rows]
        write_text(root / split / "_classes.csv", table(["filename", " ant", " bee", " cow"], cells))
    write_text(root / "README.dataset.txt", "exported")
    return root


def test_roboflow_has_a_list_in_each_split(tmp_path):
    data = open_source(roboflow(tmp_path / "rf"), labels=LabelFormat(columns=("ant", "bee", "cow")))
    assert data.given_splits == ("train", "val", "test")
    assert data.exclusions[-1].name == "README.dataset.txt"
    rows = [
        f"{label}/{i:03d}.png,{SPLITS[i]},{int(label == 'ant')},{int(label == 'bee')},{int(label == 'cow')}"
        for label, i in IMAGES
    ]
    write_folder(IMAGES, tmp_path / "all")
    path = write_text(tmp_path / "all/list.csv", "\n".join(["path,split,ant,bee,cow", *rows]))
    as_list = open_source(path, labels=LabelFormat(columns=("ant", "bee", "cow")))
    assert print_of(data) == print_of(as_list)


@pytest.mark.parametrize("inner", ["", "test", "unknown"])
def test_unlabelled_test_images_beside_class_folders(tmp_path, expected, inner):
    write_folder(IMAGES, tmp_path / "train")
    write_images(tmp_path / "test" / inner, OTHERS)
    data = open_source(tmp_path)
    assert print_of(data, splits=False) == expected
    assert [(e.name, e.reason) for e in data.exclusions] == [
        ("test", "unlabelled, as it has no class folders; 3 images")
    ]
    assert data.notes == (
        f"images without labels are left aside: test; once trained: recog predict RUN {tmp_path}/test",
    )


def test_a_misspelt_class_is_not_taken_for_unlabelled(tmp_path):
    write_folder(IMAGES, tmp_path / "train")
    write_folder(labelled_pngs(2, classes=("Ant",)), tmp_path / "test")
    with pytest.raises(DataError, match="lacks 1 of 4 classes: Ant. Did you mean 'ant'"):
        open_source(tmp_path)


def test_lists_named_for_splits(tmp_path):
    rows = write_images(tmp_path / "images", IMAGES)
    for split in dict.fromkeys(SPLITS):
        mine = [row for row, key in zip(rows, IMAGES, strict=True) if SPLITS[key[1]] == split]
        write_text(tmp_path / f"{split}.csv", table(["image_id", "label"], mine))
    data = open_source(tmp_path)
    assert {split: len(data.subset(split)) for split in data.given_splits} == {"train": 6, "val": 3, "test": 3}
    (tmp_path / "valid.csv").rename(tmp_path / "more.csv")
    with pytest.raises(DataError, match=r"several lists of its images: more.csv, test.csv, train.csv. Name the one"):
        open_source(tmp_path)
    assert open_source(tmp_path, layout=DataLayout(exclude=("more.csv",))).given_splits == ("train", "test")


def with_list(tmp_path, rows, header=("path", "label")):
    write_folder(IMAGES, tmp_path)
    write_text(tmp_path / "labels.csv", table(header, rows))
    return tmp_path


def test_class_folders_beside_a_list_that_agrees(tmp_path, expected):
    paths = [(f"{label}/{i:03d}.png", f"class {label}") for label, i in IMAGES]
    data = open_source(with_list(tmp_path, paths))
    assert print_of(data) == expected
    assert data.notes == ("labels.csv lists the images by the same classes as the folders, which are read",)
    rows = [(path, label, split) for (path, label), split in zip(paths, SPLITS * 3, strict=True)]
    data = open_source(with_list(tmp_path, rows, ("path", "label", "split")))
    assert data.given_splits == ("train", "val", "test")
    assert data.class_names == ("class ant", "class bee", "class cow")


def test_class_folders_beside_a_list_that_differs(tmp_path):
    rows = [(f"{label}/{i:03d}.png", "sick" if i else "healthy") for label, i in IMAGES]
    root = with_list(tmp_path, rows)
    with pytest.raises(DataError, match=r"in two ways: as 3 class folders ant, bee, cow .* or by the list labels.csv"):
        open_source(root)
    assert open_source(root, layout=DataLayout(classes_at_depth=1)).class_names == ("ant", "bee", "cow")
    assert open_source(root, layout=DataLayout(label_column="label")).class_names == ("healthy", "sick")
    assert open_source(root / "labels.csv").class_names == ("healthy", "sick")


@pytest.mark.parametrize(
    ("header", "layout", "says"),
    [
        (["id", "dx"], DETECTED, r"has no column 'label'.* it has: id, dx.*--label-column"),
        (
            ["id", "dx"],
            DataLayout(label_column="dy"),
            r"train.csv has no column 'dy', which --label-column names; it has: id, dx",
        ),
        (["id", "image", "label"], DETECTED, r"The list train.csv in it cannot be used: .*several columns"),
    ],
)
def test_a_list_that_cannot_be_used_is_named_with_the_reason(tmp_path, header, layout, says):
    rows = write_images(tmp_path / "train", IMAGES)
    write_text(tmp_path / "train.csv", table(header, [(stem, *[label] * (len(header) - 1)) for stem, label in rows]))
    with pytest.raises(DataError, match=says):
        open_source(tmp_path, layout=layout)


def test_a_list_deeper_in_the_folder_is_named(tmp_path):
    write_images(tmp_path / "train", IMAGES)
    write_images(tmp_path / "test", OTHERS)
    write_text(tmp_path / "test/meta/labels.csv", "x,y\n")
    with pytest.raises(
        DataError, match=r"It holds test/meta/labels.csv; name that file instead if it lists the images"
    ):
        open_source(tmp_path)


def test_options_of_lists_need_one(tmp_path):
    with pytest.raises(DataError, match=r"--images is for lists of images, and .* is without a list of images"):
        open_source(write_folder(IMAGES, tmp_path), layout=DataLayout(images=(str(tmp_path),)))
