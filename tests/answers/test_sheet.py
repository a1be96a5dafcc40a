import re
from html.parser import HTMLParser

import pytest
from answers.examples import ANIMALS, bad, prediction, write_images

from recog.answers.sheet import Sheet, check_sheet, sheet_file
from recog.answers.stream import Answer, Summary
from recog.core.errors import ConfigError, DataError

EVIL = "<script>alert(1)</script>"


class Tags(HTMLParser):
    def __init__(self, page):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def make_sheet(path, results, *, title="photos", class_names=ANIMALS):
    summary = Summary()
    with sheet_file(path, title, class_names, summary) as sheet:
        for item in results:
            summary.add(item)
            sheet.add(item)
    return path.read_text(encoding="utf-8")


def answered(image, result, *, name=None, labels=None):
    return Answer(
        name=name or image.name, source=str(image), result=result, labels=result.labels if labels is None else labels
    )


def test_thumbnails_by_answer_in_the_order_of_the_classes(tmp_path):
    images = write_images(tmp_path, ["a.png", "b.png", "c.png", "d.png"])
    eel, cat = prediction([0.1, 0.1, 0.8]), prediction([0.9, 0.05, 0.05])
    page = make_sheet(
        tmp_path / "sheet.html",
        [
            answered(images[0], eel),
            answered(images[1], cat),
            answered(images[2], cat),
            answered(images[3], prediction([0.5, 0.3, 0.2]), labels=("unsure",)),
            bad("e.png"),
        ],
    )
    found = Tags(page)
    assert re.findall(r'<h2 id="answer-\d+"><bdi>(.*?)</bdi>', page) == ["cat", "eel", "unsure"]
    assert [attrs["alt"] for tag, attrs in found.tags if tag == "img"] == [
        "b.png, cat",
        "c.png, cat",
        "a.png, eel",
        "d.png, unsure",
    ]
    assert "80.0%" in found.text
    assert "cat50.0%" in found.text.split("unsure")[-1]  # the most probable class of an unsure image
    assert "1 image: truncated. Replace it." in found.text
    assert "5 images" in found.text


def test_it_is_one_file_without_scripts_in_which_names_are_escaped(tmp_path):
    (image,) = write_images(tmp_path, ["a.png"])
    result = prediction([0.9, 0.1], class_names=(EVIL, "dog"))
    page = make_sheet(
        tmp_path / "sheet.html",
        [answered(image, result, name=f"{EVIL}\x1b\u202e.png")],
        title=EVIL,
        class_names=(EVIL, "dog"),
    )
    found = Tags(page)
    assert "script" not in {tag for tag, _ in found.tags}
    sources = [attrs[key] for _, attrs in found.tags for key in ("src", "href") if key in attrs]
    assert all(source.startswith(("data:image/", "#")) for source in sources)
    assert "default-src 'none'" in page
    assert "\x1b" not in page
    assert "\u202e" not in page


def test_a_bounded_number_of_images_is_shown(tmp_path):
    (image,) = write_images(tmp_path, ["a.png"])
    sheet = Sheet("photos", [str(i) for i in range(1000)])  # 2,000 images in all: fewer than 4 of each, so 4
    result = prediction([0.9, 0.1], class_names=("0", "1"))
    for _ in range(6):
        sheet.add(answered(image, result))
    page = sheet.render(Summary()).decode()
    assert page.count("<img") == 4
    assert "6 images, the first 4 are shown" in page


def test_of_several_labels_an_image_is_in_the_section_of_each(tmp_path):
    images = write_images(tmp_path, ["a.png", "b.png"])
    both = prediction([0.9, 0.1, 0.7], preds=[1, 0, 1], task="multilabel")
    none = prediction([0.1, 0.1, 0.2], preds=[0, 0, 0], task="multilabel")
    page = make_sheet(tmp_path / "sheet.html", [answered(images[0], both), answered(images[1], none)])
    assert re.findall(r'<h2 id="answer-\d+"><bdi>(.*?)</bdi>', page) == ["cat", "eel", "(no label)"]
    assert "90.0%" in page
    assert "70.0%" in page


def test_the_name_is_checked_and_an_interrupted_sheet_vanishes(tmp_path):
    check_sheet(tmp_path / "new" / "sheet.html")
    with pytest.raises(ConfigError, match="has to end with .html"):
        check_sheet(tmp_path / "sheet.pdf")
    (tmp_path / "sheet.html").write_text("mine")
    with pytest.raises(DataError, match="exists already"):
        check_sheet(tmp_path / "sheet.html")
    with pytest.raises(KeyboardInterrupt), sheet_file(tmp_path / "b.html", "x", ANIMALS, Summary()):
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["sheet.html"]
