"""Pixels in a CSV: right where each image is the array that was written, whatever the form of the table."""

import numpy as np
import pytest
from containers import digest, labelled_pngs, write_folder, write_text

from recog.core.errors import DataError
from recog.data.data_layout import DataLayout
from recog.data.sources import open_source

SIDE = 8
GREY = np.random.default_rng(0).integers(0, 256, (6, SIDE, SIDE), dtype=np.uint8)
RGB = np.random.default_rng(1).integers(0, 256, (6, SIDE, SIDE, 3), dtype=np.uint8)
LABELS = [3, 5, 3, 5, 3, 5]
SPLITS = ["Training", "Training", "Training", "PublicTest", "PrivateTest", "PublicTest"]


def joined(image, sign=","):
    return sign.join(map(str, image.ravel()))


def table(images, header, form="{label},{pixels}", sign=","):
    rows = [
        form.format(label=label, pixels=joined(image, sign), split=split)
        for image, label, split in zip(images, LABELS, SPLITS, strict=True)
    ]
    return "\n".join([*([header] if header else []), *rows]) + "\n"


def names(form, start=0, size=SIDE * SIDE):
    return ",".join(form.format(i) for i in range(start, start + size))


FORMS = {  # text of the CSV, images, whether it has splits
    "as of Kaggle's digits": (table(GREY, f"label,{names('pixel{}')}"), GREY, False),
    "label last": (table(GREY, f"{names('pixel_{}', 1)},class", "{pixels},{label}"), GREY, False),
    "rows and columns": (
        table(GREY, "label," + ",".join(f"{r}x{c}" for r in range(SIDE) for c in range(SIDE))), GREY, False,
    ),
    "no header": (table(GREY, ""), GREY, False),
    "numbers for a header": (table(GREY, names("{}", size=SIDE * SIDE + 1)), GREY, False),
    "pandas' numbers": (table(GREY, f"0,{names('0.{}', 1)}"), GREY, False),
    "colour": (table(RGB, f"label,{names('pixel{:04d}', size=3 * SIDE * SIDE)}"), RGB, False),
    "as of FER 2013": (table(GREY, "emotion,pixels,Usage", "{label},{pixels},{split}", " "), GREY, True),
    "quoted": (table(GREY, "pixels,label", '"{pixels}",{label}', " "), GREY, False),
    "floats": (table(GREY, "").replace(",", ".0,"), GREY, False),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_each_form_is_the_same_images(tmp_path, form):
    text, images, has_splits = FORMS[form]
    data = open_source(write_text(tmp_path / "x.csv", text))
    assert data.class_names == ("3", "5")
    assert all(np.array_equal(s.source, image) for s, image in zip(data.samples, images, strict=True))
    assert [data.class_names[s.label] for s in data.samples] == list(map(str, LABELS))
    assert [s.split for s in data.samples] == ([*["train"] * 3, *["test"] * 3] if has_splits else [None] * 6)
    assert data.layout == "CSV of pixels and labels"
    assert f"images of {SIDE} x {SIDE} px" in data.why


def test_it_is_the_data_of_the_arrays(tmp_path):
    data = open_source(write_text(tmp_path / "x.csv", FORMS["no header"][0]))
    pairs = [(image, str(label)) for image, label in zip(GREY, LABELS, strict=True)]
    assert digest(data) == digest(open_source(pairs))
    assert data.notes == ("no names of columns: column 1 is the label, the other 64 are pixels",)


def test_the_label_of_a_table_without_names(tmp_path):
    path = write_text(tmp_path / "x.csv", table(GREY, "", "{pixels},{label}"))
    data = open_source(path, layout=DataLayout(label_column="65"))
    assert data.class_names == ("3", "5")
    assert np.array_equal(data.samples[0].source, GREY[0])
    with pytest.raises(DataError, match="--label-column is then a number from 1 to 65"):
        open_source(path, layout=DataLayout(label_column="digit"))


def test_numbers_are_named_by_the_list_beside_it(tmp_path):
    write_text(tmp_path / "classes.txt", "angry\ndisgust\nfear\nhappy\nsad\nsurprise")
    data = open_source(write_text(tmp_path / "x.csv", FORMS["as of FER 2013"][0]))
    assert data.class_names == ("happy", "surprise")
    assert "labels from emotion, the only column beside the pixels" in data.notes


ROW = joined(GREY[0])
BAD = [
    (f"label,{names('pixel{}', size=60)}\n1,{names('{}', size=60)}\n", "has 60 pixels an image, which make no square"),
    (table(GREY, f"a,{names('pixel{}')},b", "1,{pixels},2"), "has no column 'label'"),
    (f"{names('pixel{}')}\n{ROW}\n", "no column 'label'"),
    (f"label,{names('pixel{}')}\n1,{ROW}\n1,2\n", "line 3 has 2 cells, but the first has 65"),
    (f"label,{names('pixel{}')}\n1,{ROW}\n1,256,{ROW.partition(',')[2]}\n", "line 3 has the pixel '256'; expected"),
    (f"label,{names('pixel{}')}\n1,{ROW}\n1,0.5,{ROW.partition(',')[2]}\n", "whole numbers from 0 to 255"),
    (f"label,{names('pixel{}')}\n1,{ROW}\n1,1e999,{ROW.partition(',')[2]}\n", "has the pixel '1e999'"),
    (f"label,pixels\n1,{joined(GREY[0], ' ')}\n2,1 2 3\n", "line 3 has 3 pixels; expected 64"),
    (f"label,pixels\n1,{joined(GREY[0], ' ')}\n,{joined(GREY[1], ' ')}\n", "1 of 2 images of x have no label"),
]


@pytest.mark.parametrize(("text", "says"), BAD)
def test_what_cannot_be_used_is_said(tmp_path, text, says):
    with pytest.raises(DataError, match=says):
        open_source(write_text(tmp_path / "x.csv", text))


def test_there_are_no_files_to_look_for(tmp_path):
    path = write_text(tmp_path / "x.csv", FORMS["no header"][0])
    with pytest.raises(DataError, match="--images is for lists of images, and .* is a CSV of pixels"):
        open_source(path, layout=DataLayout(images=(str(tmp_path),)))


HEADER = f"label,{names('pixel{}')}"


def test_a_folder_of_splits(tmp_path):
    write_text(tmp_path / "mnist_train.csv", table(GREY, HEADER))
    write_text(tmp_path / "mnist_test.csv", table(255 - GREY, HEADER))
    data = open_source(tmp_path)
    assert {split: len(data.subset(split)) for split in data.given_splits} == {"train": 6, "test": 6}
    assert np.array_equal(data.subset("test")[0].source, 255 - GREY[0])
    assert data.layout == "2 CSV files of pixels and labels"
    write_text(tmp_path / "more.csv", table(GREY, HEADER))
    with pytest.raises(DataError, match="more.csv is named for no split; rename it"):
        open_source(tmp_path)


def test_a_folder_of_a_competition(tmp_path):
    write_text(tmp_path / "train.csv", table(GREY, HEADER))
    write_text(tmp_path / "test.csv", table(GREY, names("pixel{}"), "{pixels}"))
    write_text(tmp_path / "sample_submission.csv", "ImageId,Label\n1,0\n")
    data = open_source(tmp_path)
    assert (len(data.samples), data.given_splits) == (6, ())
    assert {e.name: e.reason for e in data.exclusions} == dict.fromkeys(
        ("test.csv", "sample_submission.csv"), "no pixels with labels"
    )


def test_a_table_beside_class_folders_is_none_of_the_data(tmp_path):
    write_folder(labelled_pngs(2), tmp_path)
    write_text(tmp_path / "train.csv", table(GREY, HEADER))
    assert open_source(tmp_path).layout == "class folders"
