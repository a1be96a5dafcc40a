import base64
import hashlib
import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from recog.core.errors import DataError, ShapeError
from recog.evaluation.results.evaluate import evaluate
from recog.evaluation.results.facts import DataFacts
from recog.evaluation.results.slices import slice_by_name
from recog.report.html import (
    MAX_THUMBNAILS,
    THUMBNAIL_PX,
    render_html,
    render_html_without_evidence,
    thumbnail,
)

VOID = {"meta", "img", "br", "hr", "link", "input"}
HOSTILE = (
    "<script>alert(1)</script>",
    "\"quotes' & <b>",
    "a\u202egnp.exe",
    "line\nbreak\x00\x1b[31m",
    "שלום",
    "\udcff",
)


class Page(HTMLParser):
    """What a browser would see: elements with their attributes, text, and that all are closed in order."""

    def __init__(self, source):
        super().__init__(convert_charrefs=True)
        self.source, self.elements, self.texts, self.open = source, [], [], []
        self.feed(source)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append((self.open[-1] if self.open else "", data))

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self):
        return " ".join("".join(text for tag, text in self.texts if tag != "style").split())


def report_of(class_names=("daisy", "roses", "tulips"), num_images=60, data=None, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(num_images) % len(class_names)
    logits = rng.normal(0, 1, (num_images, len(class_names))) + 1.5 * np.eye(len(class_names))[labels]
    return evaluate(
        logits.astype(np.float32),
        labels,
        class_names=class_names,
        names=[f"{class_names[label]}/{i}.jpg" for i, label in enumerate(labels)],
        data=data or DataFacts(name="flowers", split="test"),
    )


def photo(height=300, width=400, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def pictures_of(report):
    return {error.name: thumbnail(photo(seed=i)) for i, error in enumerate(report.errors)}


MANY = tuple(f"class{i:03d}" for i in range(100))
PAGES = {
    "few": lambda: render_html(report_of(), pictures_of(report_of())),
    "many": lambda: render_html(report_of(MANY, 500), {}),
    "hostile": lambda: render_html(report_of(HOSTILE), {}),
    "none": lambda: render_html_without_evidence("<script>alert(1)</script>"),
}


@pytest.fixture(scope="module", params=PAGES)
def page(request):
    return Page(PAGES[request.param]())


def test_is_well_formed(page):
    assert page.source.startswith("<!doctype html>")
    assert page.open == []
    assert len(page.all("title")) >= 1
    assert page.all("html")[0]["lang"] == "en"
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(set(ids)) == len(ids)
    used = {attributes.get("aria-labelledby") for _, attributes in page.elements} - {None}
    assert used <= set(ids)


def test_policy_allows_the_style_sheet_by_its_hash_and_nothing_else(page):
    (style,) = re.findall("<style>(.*?)</style>", page.source, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    (policy,) = [m["content"] for m in page.all("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    directives = [directive.strip() for directive in policy.split(";")]
    assert directives[:3] == ["default-src 'none'", "img-src data:", f"style-src 'sha256-{digest}'"]
    assert "unsafe" not in policy


def test_nothing_is_fetched_and_nothing_runs(page):
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "link", "iframe", "object", "embed", "base", "form", "a"}
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on") or name in {"style", "href", "srcset"}]
        assert tag != "img" or attributes["src"].startswith("data:image/")
    assert "http://" not in page.source
    assert "https://" not in page.source
    assert "url(" not in page.source
    assert "@import" not in page.source


def test_page_can_be_written_as_utf8_and_stays_small(page):
    assert len(page.source.encode("utf-8")) < 2_000_000
    assert "\x00" not in page.source
    assert "\u202e" not in page.source


def test_hostile_names_are_text():
    page = Page(PAGES["hostile"]())
    for name in (
        "<script>alert(1)</script>",
        "\"quotes' & <b>",
        r"a\u202egnp.exe",
        r"line\nbreak\x00\x1b[31m",
    ):
        assert name in page.text
    assert "שלום" in page.text
    assert r"\udcff" in page.text
    titles = [attributes.get("title") for attributes in page.all("td")]
    assert any("\"quotes' & <b>" in title for title in titles if title)


def test_a_page_without_evaluation_gives_the_reason():
    text = Page(PAGES["none"]()).text
    assert "Not evaluated" in text
    assert "<script>alert(1)</script>" in text


def test_headline():
    report = report_of(
        data=DataFacts(name="flowers", split="test", test_openings=1, num_seen_in_training=0, num_seen_in_selection=0)
    )
    text = Page(render_html(report, {})).text
    assert "flowers, test split" in text
    assert f"{report.num_correct} of 60 images correct. 95% interval:" in text
    assert f"NLL{report.nll:.3f}" in text.replace(" ", "")
    assert "uniform guess: 1.099" in text  # ln 3
    assert "test split used once" in text
    assert "no overlap with the data of the run" in text


def test_warnings_are_on_the_page():
    data = DataFacts(
        name="flowers",
        split="val",
        excluded=(("roses/<broken>.jpg", "truncated"),),
        num_seen_in_training=4,
        num_seen_in_selection=6,
        test_openings=None,
    )
    text = Page(render_html(report_of(data=data), {})).text
    assert "6 of 60 images used in model selection and calibration" in text
    assert "4 of 60 images used in training" in text
    assert "1 of 61 files excluded" in text
    assert "roses/<broken>.jpg: truncated" in text
    assert "Small sample: 60 images" in text


def test_tables_are_readable_by_ear():
    page = Page(PAGES["few"]())
    assert {attributes["scope"] for attributes in page.all("th")} == {"col", "row"}
    assert all(attributes["alt"] for attributes in page.all("img"))
    for _, attributes in page.elements:
        assert attributes.get("role") != "img" or attributes.get("aria-labelledby")


def test_few_classes_have_a_matrix_of_numbers():
    report = report_of()
    source = render_html(report, {})
    cells = re.findall(r'<td class="(?:hit s\d|miss s\d|zero)" title="[^"]*">(\d+)</td>', source)
    assert list(map(int, cells)) == [count for row in report.confusion for count in row]


def test_many_classes_have_a_picture_and_the_weakest_first():
    report = report_of(MANY, 500)
    page = Page(render_html(report, {}))
    drawn = "".join(path["d"] for path in page.all("path") if path["class"].startswith(("hit", "miss")))
    assert drawn.count("M") == sum(count > 0 for row in report.confusion for count in row)
    assert "The 10 classes with the lowest F1" in page.text
    weakest = min(report.classes, key=lambda row: (row.f1, row.recall))
    rows = re.findall(r'<th scope="row"><bdi>(class\d+)</bdi></th>', page.source)
    assert rows[0] == weakest.name
    assert rows[10:] == list(MANY)


def test_undefined_is_written_as_such():
    names = ("daisy", "roses", "tulips", "absent")
    labels = np.arange(30) % 3
    report = evaluate(
        np.eye(4)[labels] * 5, labels, class_names=names, names=list(map(str, labels * 0 + np.arange(30))),
        data=DataFacts(name="flowers"),
    )  # fmt: skip
    page = Page(render_html(report, {}))
    # of the absent class: precision, recall, F1, AUROC, average precision; and the error rate of no answer above 99 %
    assert page.source.count("n/a</span>") == 6
    assert "No errors" in page.text


def test_errors_come_with_their_pictures_up_to_a_bound():
    report = report_of(MANY, 400)
    assert report.num_errors > MAX_THUMBNAILS
    pictures = pictures_of(report)
    page = Page(render_html(report, pictures))
    shown = report.errors[:MAX_THUMBNAILS]
    assert [img["src"] for img in page.all("img")] == [pictures[error.name] for error in shown]
    first = shown[0]
    assert page.all("img")[0]["alt"] == f"{first.name}, labelled {first.true_class}, predicted {first.predicted_class}"
    assert f"The 50 most confident of {report.num_errors}" in page.text


@pytest.mark.parametrize(
    "uri",
    [
        "https://example.org/a.png",
        "data:image/svg+xml;base64,AAAA",
        'data:image/png;base64,AAAA" onerror="alert(1)',
        "data:text/html;base64,AAAA",
        "",
    ],
)
def test_only_embedded_pictures_are_taken(uri):
    with pytest.raises(DataError, match="not a PNG or JPEG data URI"):
        render_html(report_of(), {"x": uri})


def opened(uri):
    head, _, data = uri.partition(";base64,")
    return head, Image.open(io.BytesIO(base64.b64decode(data, validate=True)))


def test_thumbnail_of_a_photo_is_a_small_jpeg():
    head, image = opened(thumbnail(photo(3000, 4000)))
    assert head == "data:image/jpeg"
    assert image.size == (THUMBNAIL_PX, THUMBNAIL_PX * 3 // 4)
    assert not image.getexif()
    assert set(image.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}


def test_thumbnail_of_a_tiny_image_keeps_every_pixel():
    tiny = photo(8, 8, 1)
    head, image = opened(thumbnail(tiny))
    assert head == "data:image/png"
    assert (np.asarray(image) == tiny[:, :, 0]).all()
    assert image.info == {}


def test_thumbnail_of_a_very_long_image():
    _, image = opened(thumbnail(photo(1, 5000)))
    assert image.size == (THUMBNAIL_PX, 1)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4, 3)),
        np.zeros((4, 4), dtype=np.uint8),
        np.zeros((4, 4, 2), dtype=np.uint8),
        np.zeros((0, 4, 3), dtype=np.uint8),
    ],
)
def test_thumbnail_refuses_what_is_no_image(image):
    with pytest.raises(ShapeError, match="expected uint8"):
        thumbnail(image)


def test_confidence_is_drawn_and_tabled():
    report = report_of(num_images=300)
    page = Page(render_html(report, {}))
    filled = [b for b in report.scores.reliability if b.num_images]
    drawn = [circle for circle in page.all("circle") if "cx" in circle and not circle["cx"].endswith("%")]
    assert len(drawn) >= len(filled)
    assert "Error rate against coverage" in page.text
    for cut in report.scores.thresholds:
        assert f"{cut.num_automated:,} of 300" in page.text
    assert f"Matthewscorrelation{report.matthews:.3f}" in page.text.replace(" ", "")


def test_slices_are_on_the_page_with_hostile_names_as_text():
    report = report_of(num_images=60)
    names = ["<script>x</script>"] * 20 + [f"f{i % 12}" for i in range(40)]
    is_correct = np.array([False] * 20 + [True] * 40)
    page = Page(render_html(replace(report, slices=(slice_by_name("source-folder", names, is_correct),)), {}))
    assert "By source folder" in page.text
    assert "<script>x</script>" in page.text
    assert "below overall accuracy" in page.text
    assert "Show the other 3" in page.text
    assert "few images" in page.text
    assert not page.all("script")


class TestSeveralLabels:
    def test_a_page_of_hostile_names_is_complete_and_has_its_numbers(self):
        from label_batches import FACTS, label_report

        report, *_ = label_report(
            names=(HOSTILE[0], HOSTILE[1], HOSTILE[2], "dog"), facts=replace(FACTS, name=HOSTILE[0])
        )
        source = render_html(report, {})
        page = Page(source)
        page.feed(source)
        assert not page.open
        assert "<script" not in source
        assert "\u202e" not in source
        assert f"{100 * report.mean_average_precision:.1f}" in source
        assert f"{report.num_correct} of 120 images with no label missed or added" in source
        assert source.count("missed <bdi>") == sum(len(error.missed) for error in report.errors[:MAX_THUMBNAILS])
        assert "Before you rely on these results" in source

    def test_nothing_defined_and_no_errors(self):
        from label_batches import label_report

        report, *_ = label_report(1, (1.0, 1.0, 1.0, 1.0), shown=np.zeros((1, 4), bool))
        source = render_html(report, {})
        assert "No errors" in source
        assert "Undefined: no label has both positive and negative images here." in source

    def test_many_labels_show_the_weakest_first_and_unfold_the_rest(self):
        from label_batches import label_report

        report, *_ = label_report()
        rows = tuple(replace(report.classes[i % 4], name=f"label {i}") for i in range(60))
        many = replace(report, class_names=tuple(row.name for row in rows), classes=rows)
        assert "The 10 labels with the lowest average precision" in render_html(many, {})
