"""annotations.xml as "CVAT for images 1.1" exports it."""

import pytest
from containers import write_text

from recog.core.errors import DataError
from recog.data.lists.exports.cvat import cvat_listing
from recog.data.sources import open_source

HEAD = '<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version><meta><task><name>pets</name></task></meta>'


def image(name, *tags, subset="", shape=""):
    subset = f' subset="{subset}"' if subset else ""
    inner = "".join(f'<tag label="{tag}" source="manual"><attribute name="x">1</attribute></tag>' for tag in tags)
    return f'<image id="0" name="{name}" width="8" height="8"{subset}>{inner}{shape}</image>'


def export(*images):
    return HEAD + "".join(images) + "</annotations>"


def rows(text):
    return [
        (row.path, row.labels, row.split, row.task == "multilabel")
        for row in cvat_listing(text, "annotations.xml").rows
    ]


def test_the_tags_of_each_image():
    text = export(image("a.png", "cat"), image("x/b&amp;.png", "cat", "dog", "cat"))
    assert rows(text) == [("a.png", ("cat",), None, False), ("x/b&.png", ("cat", "dog"), None, True)]


def test_subsets_that_are_splits():
    assert [row[2] for row in rows(export(image("a", "x", subset="Train"), image("b", "x", subset="Validation")))] == [
        "train",
        "val",
    ]
    found = cvat_listing(export(image("a", "x", subset="Train"), image("b", "x", subset="mine")), "x")
    assert [row.split for row in found.rows] == [None, None]
    assert found.notes == ["the subsets Train, mine are not used as splits"]


def test_what_is_left_aside_is_counted():
    box = '<box label="cat" xtl="1" ytl="1" xbr="2" ybr="2"></box>'
    found = cvat_listing(export(image("a", "x", shape=box), image("b", shape=box), image("c")), "x")
    assert [row.path for row in found.rows] == ["a"]
    assert found.notes == [
        "images without a tag are left aside: 2, such as 'b'",
        "shapes such as boxes are not used: 2",
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("<annotations><image", "annotations.xml is not valid XML"),
        ("<annotation><folder>x</folder></annotation>", "begins with <annotation>; expected annotations.xml of CVAT"),
        (export(image("a")), "has 1 images without tags"),
        (export('<image id="1"/>'), "an image without a name"),
        ('<!DOCTYPE a [<!ENTITY b "x">]><annotations>&b;</annotations>', "declares a document type or entities"),
        ("<annotations>" + "<a>" * 100, "levels deep"),
    ],
)
def test_what_cannot_be_read_is_said(text, says):
    with pytest.raises(DataError, match=says):
        cvat_listing(text, "annotations.xml")


@pytest.mark.parametrize("place", ["images", "images/Train"])
def test_an_export_with_images(tmp_path, place):
    for name in ("a.png", "b.png", "c.png"):
        write_text(tmp_path / place / name, "")
    subset = "Train" if place != "images" else ""
    text = export(image("a.png", "cat", subset=subset), image("b.png", "dog", subset=subset), image("c.png"))
    path = write_text(tmp_path / "annotations.xml", text)
    for source in (path, tmp_path):
        data = open_source(source)
        assert [(s.name, data.class_names[s.label]) for s in data.samples] == [
            (f"{place}/a.png", "cat"),
            (f"{place}/b.png", "dog"),
        ]
        assert data.notes[0] == "images without a tag are left aside: 1, such as 'c.png'"
    assert [(e.name, e.reason) for e in data.exclusions] == [(f"{place}/c.png", "not listed in annotations.xml")]
