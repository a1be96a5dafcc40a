import json

import pytest
from containers import digest, labelled_pngs, write_folder, write_named, write_text

from recog.core.errors import DataError
from recog.data.lists.exports.coco import coco_listing
from recog.data.lists.label_format import LabelFormat
from recog.data.sources import open_source

IMAGES = labelled_pngs(3)
CATEGORIES = {"ant": 3, "bee": 7, "cow": 1}
BOXES = {"bbox": [1, 2, 3, 4], "segmentation": [[1.5] * 6], "area": 12.0, "iscrowd": 0}


def coco(paths, boxes):
    """`boxes` are (number of the image, category)."""
    return {
        "info": {"year": 2017},
        "images": [{"id": number, "file_name": path, "width": 12} for number, path in enumerate(paths)],
        "annotations": [{"id": 5, "image_id": i, "category_id": CATEGORIES[name], **BOXES} for i, name in boxes],
        "categories": [{"id": i, "name": name, "supercategory": "pet"} for name, i in CATEGORIES.items()],
    }


def write_coco(path, document):
    return write_text(path, json.dumps(document))


def test_one_category_an_image_is_the_data_of_class_folders(tmp_path):
    expected = digest(open_source(write_folder(IMAGES, tmp_path / "folders")))
    paths = write_named(IMAGES, tmp_path / "coco/images")
    boxes = [(number, name) for number, (name, i) in enumerate(paths) for _ in range(1 + i)]  # some boxes repeat
    data = open_source(write_coco(tmp_path / "coco/annotations/x.json", coco(paths.values(), boxes)))
    assert digest(data) == expected
    assert (data.layout, data.task) == ("COCO JSON", "multiclass")
    assert "every annotated image has one category: one label an image" in data.notes


def test_the_images_of_a_split_stand_beside_the_annotations(tmp_path):
    paths = write_named(IMAGES, tmp_path / "val2017")
    boxes = [(number, name) for number, (name, _) in enumerate(paths)]
    data = open_source(write_coco(tmp_path / "annotations/instances_val2017.json", coco(paths.values(), boxes)))
    assert len(data.samples) == 9


def test_several_categories_are_several_labels(tmp_path):
    paths = list(write_named(IMAGES, tmp_path).values())[:3]
    path = write_coco(tmp_path / "x.json", coco(paths, [(0, "ant"), (0, "bee"), (1, "bee")]))
    data = open_source(path)
    assert data.task == "multilabel"
    assert [{data.class_names[k] for k in s.labels} for s in data.samples] == [{"ant", "bee"}, {"bee"}, set()]
    assert data.notes[:2] == (
        "1 of 3 images have several categories: any number of labels an image",
        "categories without an annotation are no classes: cow",
    )
    with pytest.raises(DataError, match="none to several labels an image; expected exactly one"):
        open_source(path, labels=LabelFormat(task="multiclass"))


def test_images_without_annotation(tmp_path):
    paths = list(write_named(IMAGES, tmp_path).values())[:3]
    path = write_coco(tmp_path / "x.json", coco(paths, [(0, "ant"), (1, "bee")]))
    with pytest.raises(DataError, match="1 of 3 images of x have no label"):
        open_source(path)
    data = open_source(path, labels=LabelFormat(task="multilabel"))
    assert (data.task, [len(s.labels) for s in data.samples]) == ("multilabel", [1, 1, 0])


def changed(**changes):
    return coco(["a.png", "b.png"], [(0, "ant")]) | changes


BAD = [
    (changed(images=[{"id": 1}]), r"images\[.*\].file_name is missing"),
    (changed(images=[{"id": [1], "file_name": "a"}]), r"images\[.*\].id is a list; expected"),
    (
        changed(annotations=[{"image_id": 9, "category_id": 3}]),
        r"annotations\[0\] has the image_id '9', which no image",
    ),
    (changed(annotations=[{"image_id": 0, "category_id": 9}]), r"annotations\[0\] has the category_id '9', which no"),
    (changed(images=[{"id": 1, "file_name": name} for name in "ab"]), "two images with one id"),
    (changed(categories=[{"id": 3, "name": name} for name in "ab"]), "two categories with one id"),
    (changed(categories=[{"id": 3, "name": "x" * 201}]), "201 characters"),
]


@pytest.mark.parametrize(("document", "says"), BAD)
def test_what_cannot_be_used_is_said(document, says):
    with pytest.raises(DataError, match=says):
        coco_listing(json.dumps(document), "x.json", None)


def test_it_cannot_read_elsewhere(tmp_path):
    write_named(IMAGES, tmp_path)
    path = write_coco(tmp_path / "list/x.json", coco(["../ant0.png", "../bee0.png"], [(0, "ant"), (1, "bee")]))
    with pytest.raises(DataError, match="leads out of the list's folder"):
        open_source(path)


def test_labels_are_neither_joined_nor_columns(tmp_path):
    path = write_coco(tmp_path / "x.json", coco(["a.png"], [(0, "ant")]))
    with pytest.raises(DataError, match="is a COCO file, in which labels are neither joined nor columns"):
        open_source(path, labels=LabelFormat(separator="|"))


def test_a_file_in_each_split_folder(tmp_path):
    """As Roboflow writes it."""
    for split in ("train", "valid"):
        write_folder(IMAGES, tmp_path / "folders" / split)
        paths = write_named(IMAGES, tmp_path / "coco" / split)
        boxes = [(number, name) for number, (name, _) in enumerate(paths)]
        write_coco(tmp_path / "coco" / split / "_annotations.coco.json", coco(paths.values(), boxes))
    data = open_source(tmp_path / "coco")
    assert digest(data) == digest(open_source(tmp_path / "folders"))
    assert (data.layout, data.given_splits) == ("COCO JSON", ("train", "val"))
