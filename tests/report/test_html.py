import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from recog.core.errors import DataError
from recog.evaluation.results.evaluate import evaluate
from recog.evaluation.results.facts import DataFacts
from recog.evaluation.results.rows import Predictions
from recog.evaluation.results.slices import slice_by_name
from recog.report.html import _SPELLINGS, TERMS, render_html, term_marker
from recog.report.page.gallery import MAX_ERRORS_SHOWN, Gallery, choose_cells, choose_uncertain
from recog.report.pictures import thumbnail

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
            self.open.append("tip" if dict(attrs).get("class") == "tip" else tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() in (tag, "tip")

    def handle_data(self, data):
        self.texts.append((self.open[-1] if self.open else "", data))

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self):
        return " ".join("".join(text for tag, text in self.texts if tag not in ("style", "script", "tip")).split())


def results_of(report, seed=0):
    """The predictions that `report_of` was made from."""
    probs, labels = answers(report.class_names, report.num_images, seed)
    k = len(report.class_names)
    return Predictions(
        task="multiclass",
        paths=names_of(report.class_names, labels),
        class_names=report.class_names,
        is_class=labels[:, None] == np.arange(k),
        preds=probs.argmax(axis=1)[:, None] == np.arange(k),
        probs=np.exp(probs) / np.exp(probs).sum(axis=1, keepdims=True),
    )


def answers(class_names, num_images, seed):
    rng = np.random.default_rng(seed)
    labels = np.arange(num_images) % len(class_names)
    return rng.normal(0, 1, (num_images, len(class_names))) + 1.5 * np.eye(len(class_names))[labels], labels


def names_of(class_names, labels):
    return tuple(f"{class_names[label]}/{i}.jpg" for i, label in enumerate(labels))


def report_of(class_names=("daisy", "roses", "tulips"), num_images=60, data=None, seed=0):
    logits, labels = answers(class_names, num_images, seed)
    return evaluate(
        logits.astype(np.float32),
        labels,
        class_names=class_names,
        names=names_of(class_names, labels),
        data=data or DataFacts(name="flowers", split="test"),
    )


def photo(height=300, width=400, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def pictures_of(report):
    return {error.name: thumbnail(photo(seed=i)) for i, error in enumerate(report.errors)}


def gallery_of(report, results):
    """Every image that the page may show, and the cells that open."""
    cells = choose_cells(results)
    names = {error.name for error in report.errors} | {image.name for cell in cells.values() for image in cell}
    pictures = {name: thumbnail(photo(60, 80, seed=i)) for i, name in enumerate(sorted(names))}
    return Gallery(pictures=pictures, cells=cells, uncertain=choose_uncertain(report, results))


MANY = tuple(f"class{i:03d}" for i in range(100))
PAGES = {
    "few": lambda: render_html(report_of(), gallery_of(report_of(), results_of(report_of()))),
    "many": lambda: render_html(report_of(MANY, 500)),
    "hostile": lambda: render_html(report_of(HOSTILE), gallery_of(report_of(HOSTILE), results_of(report_of(HOSTILE)))),
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


def sha256(text):
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def test_policy_allows_the_style_sheet_and_the_script_by_their_hashes_and_nothing_else(page):
    (style,) = re.findall("<style>(.*?)</style>", page.source, re.DOTALL)
    (script,) = re.findall("<script>(.*?)</script>", page.source, re.DOTALL)
    (policy,) = [m["content"] for m in page.all("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    directives = [directive.strip() for directive in policy.split(";")]
    assert directives == [
        "default-src 'none'", "img-src data:", f"style-src 'sha256-{sha256(style)}'", f"script-src 'sha256-{sha256(script)}'",
        "base-uri 'none'", "form-action 'none'",
    ]  # fmt: skip


def test_nothing_is_fetched_and_only_the_own_script_runs(page):
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"link", "iframe", "object", "embed", "base"}
    # one script that runs, and at most one that holds data
    assert [attributes for attributes in page.all("script") if attributes.get("type") != "application/json"] == [{}]
    assert all(attributes == {"method": "dialog", "class": "viewer-head"} for attributes in page.all("form"))
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on") or name in {"style", "srcset"}]
        assert attributes.get("href", "#").startswith("#")
        assert tag != "img" or attributes["src"].startswith("data:image/")
    assert "http://" not in page.source
    assert "https://" not in page.source
    assert "url(" not in page.source
    assert "@import" not in page.source


def test_links_within_the_page_lead_somewhere(page):
    ids = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    assert {attributes["href"][1:] for attributes in page.all("a")} <= ids
    described = {attributes.get("aria-describedby") for _, attributes in page.elements} - {None}
    assert described <= ids


def test_every_section_begins_with_a_sentence(page):
    conclusions = re.findall(r'<span class="conclusion">(.*?)</span>', page.source, re.DOTALL)
    assert len(conclusions) == page.source.count('<details class="section"')
    assert all(text.strip().endswith((".", ". ")) or ":" in text for text in conclusions), conclusions


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
    island = json.loads(re.search(r'id="gallery">(.*?)</script>', page.source, re.DOTALL)[1])
    assert island["classes"][0] == "<script>alert(1)</script>"
    titles = [attributes.get("title") for attributes in page.all("td")]
    assert any("\"quotes' & <b>" in title for title in titles if title)


def test_headline():
    report = report_of(
        data=DataFacts(name="flowers", split="test", test_openings=1, num_seen_in_training=0, num_seen_in_selection=0)
    )
    text = Page(render_html(report)).text
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
    text = Page(render_html(report_of(data=data))).text
    assert "6 of 60 images used in model selection and calibration" in text
    assert "4 of 60 images used in training" in text
    assert "1 of 61 images could not be used" in text
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
    source = render_html(report)
    cells = re.findall(r'<td class="(?:hit s\d|miss s\d|zero)" title="[^"]*">(\d+)</td>', source)
    assert list(map(int, cells)) == [count for row in report.confusion for count in row]


def test_many_classes_have_a_picture_and_the_weakest_first():
    report = report_of(MANY, 500)
    page = Page(render_html(report))
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
    page = Page(render_html(report))
    # of the absent class: precision, recall, F1, AUROC, average precision; and the error rate of no answer above 99 %
    assert page.source.count("n/a</span>") == 6
    assert "No errors" in page.text


def test_each_cell_with_pictures_opens_and_has_its_count():
    report = report_of()
    results = results_of(report)
    source = render_html(report, gallery_of(report, results))
    island = json.loads(re.search(r'id="gallery">(.*?)</script>', source, re.DOTALL)[1])
    confusion = np.array(report.confusion)
    assert {key: cell["count"] for key, cell in island["cells"].items()} == {
        f"{i},{j}": int(confusion[i, j]) for i, j in zip(*np.nonzero(confusion), strict=True)
    }
    opened = set(re.findall(r'data-cell="(\d+,\d+)"', source))
    assert opened == set(island["cells"])
    shown = set(re.findall(r'data-name="([^"]*)"', source)) | set(island["images"])
    assert shown >= {name for cell in island["cells"].values() for name, _ in cell["images"]}


def test_errors_come_with_their_pictures_up_to_a_bound():
    report = report_of(MANY, 400)
    assert report.num_errors > MAX_ERRORS_SHOWN
    pictures = pictures_of(report)
    page = Page(render_html(report, Gallery(pictures=pictures)))
    shown = report.errors[:MAX_ERRORS_SHOWN]
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
        render_html(report_of(), Gallery(pictures={"x": uri}))


def test_confidence_is_drawn_and_tabled():
    report = report_of(num_images=300)
    page = Page(render_html(report))
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
    page = Page(render_html(replace(report, slices=(slice_by_name("source-folder", names, is_correct),))))
    assert "By source folder" in page.text
    assert "<script>x</script>" in page.text
    assert "below overall accuracy" in page.text
    assert "Show the other 3" in page.text
    assert "few images" in page.text
    assert page.all("script") == [{}]


class TestSeveralLabels:
    def test_a_page_of_hostile_names_is_complete_and_has_its_numbers(self):
        from label_batches import FACTS, label_report

        report, *_ = label_report(
            names=(HOSTILE[0], HOSTILE[1], HOSTILE[2], "dog"), facts=replace(FACTS, name=HOSTILE[0])
        )
        source = render_html(report)
        page = Page(source)
        page.feed(source)
        assert not page.open
        assert source.count("<script") == 1
        assert "\u202e" not in source
        assert f"{100 * report.mean_average_precision:.1f}" in source
        assert f"{report.num_correct} of 120 images with no label missed or added" in source
        assert source.count("missed <bdi>") == sum(len(error.missed) for error in report.errors[:MAX_ERRORS_SHOWN])
        assert "Before you rely on these results" in source

    def test_nothing_defined_and_no_errors(self):
        from label_batches import label_report

        report, *_ = label_report(1, (1.0, 1.0, 1.0, 1.0), shown=np.zeros((1, 4), bool))
        source = render_html(report)
        assert "No errors" in source
        assert "Undefined: no label has both positive and negative images here." in source

    def test_many_labels_show_the_weakest_first_and_unfold_the_rest(self):
        from label_batches import label_report

        report, *_ = label_report()
        rows = tuple(replace(report.classes[i % 4], name=f"label {i}") for i in range(60))
        many = replace(report, class_names=tuple(row.name for row in rows), classes=rows)
        assert "The 10 labels with the lowest average precision" in render_html(many)


def test_a_known_word_has_its_meaning_and_a_number_of_its_own():
    term = term_marker()
    first, second = term("ECE"), term("Classwise ECE", "sort")
    assert first == (
        '<button type="button" class="term" aria-describedby="tip-1">ECE</button>'
        f'<span class="tip" role="tooltip" id="tip-1">{TERMS["ECE"]}</span>'
    )
    assert 'class="term sort" aria-describedby="tip-2"' in second


def test_an_unknown_word_is_text_and_escaped():
    assert term_marker()("<b>") == "&lt;b&gt;"
    assert term_marker()("<b>", "sort") == '<button type="button" class="sort">&lt;b&gt;</button>'


def test_every_spelling_leads_to_a_term():
    assert set(_SPELLINGS.values()) <= set(TERMS)
