"""The page of `recog scan --deep` in a browser: marks, the file that it downloads, keyboard, widths."""

import pytest
from small_findings import HOSTILE, dataset, findings

from recog.data.decisions import relabelled, without_decided
from recog.doctor.findings import Finding
from recog.doctor.page import render_findings


@pytest.fixture
def page_file(tmp_path):
    names = ["a.png", "b, c.png", '"d".png', "=e.png"]
    path = tmp_path / "findings.html"
    text = render_findings(findings(names=names), dataset(names).samples, version="1.0", data="photos")
    path.write_text(text, encoding="utf-8")
    return path


def choose(page, number, action):
    page.locator(f'fieldset[data-image="{number}"] input[value="{action}"]').first.check()


def test_marks_become_a_file_that_training_obeys(open_page, page_file, tmp_path):
    opened = open_page(page_file, accept_downloads=True)
    page = opened.page
    assert page.locator("#status").inner_text() == "Marked: 1 exclude"  # the copy in train, proposed
    choose(page, 1, "exclude")
    choose(page, 2, "relabel")
    assert page.locator('fieldset[data-image="2"] select').input_value() == "1"  # the suggested class
    assert page.locator("#status").inner_text() == "Marked: 2 exclude, 1 relabel"
    with page.expect_download() as download:
        page.locator("#download").click()
    marked = tmp_path / "marked.csv"
    download.value.save_as(marked)
    assert download.value.suggested_filename == "findings-marked.csv"
    data = without_decided(dataset(["a.png", "b, c.png", '"d".png', "=e.png"]), [str(marked)])
    assert [sample.name for sample in data.samples] == ['"d".png', "=e.png"]
    assert [data.class_names[s.label] for s in relabelled(data, str(marked)).samples] == [HOSTILE, HOSTILE]
    opened.check_clean()


def test_marks_are_kept_and_can_be_cleared(open_page, page_file):
    page = open_page(page_file).page
    choose(page, 1, "exclude")
    page.reload()
    assert page.locator("#status").inner_text() == "Marked: 2 exclude"
    page.locator("#clear").click()
    assert page.locator("#status").inner_text() == "Nothing is marked yet."
    assert page.locator("#download").is_disabled()


def test_an_image_without_a_new_label_is_not_downloaded(open_page, page_file):
    page = open_page(page_file).page
    choose(page, 1, "relabel")
    assert "1 to relabel without a new label" in page.locator("#status").inner_text()
    assert page.locator("#download").is_disabled()
    page.locator('fieldset[data-image="1"] select').select_option("0")
    assert page.locator("#download").is_enabled()


def test_all_suggestions_at_once(open_page, page_file):
    page = open_page(page_file).page
    page.locator("button.bulk").click()
    assert page.locator("#status").inner_text() == "Marked: 1 exclude, 1 relabel"


def test_duplicates_are_excluded_but_for_one_of_each_group_by_keyboard(open_page, tmp_path):
    """Two groups: the first has more images than are shown; of the second one is to be kept already."""
    groups = (tuple(range(0, 20, 2)), (1, 3, 5))
    data = dataset([f"{i}.png" for i in range(20)])
    found = tuple(Finding(kind="near_duplicate", reason="the same picture", images=each, score=1.0) for each in groups)
    path = tmp_path / "findings.html"
    text = render_findings(
        findings(found=found, names=[sample.name for sample in data.samples]),
        data.samples,
        version="1.0",
        data="photos",
    )
    path.write_text(text, encoding="utf-8")
    opened = open_page(path, accept_downloads=True)
    page = opened.page
    choose(page, 3, "keep")
    page.locator("button.thin").focus()
    page.keyboard.press("Enter")
    assert page.locator("#status").inner_text() == "Marked: 11 exclude, 1 keep"
    with page.expect_download() as download:
        page.locator("#download").click()
    marked = tmp_path / "marked.csv"
    download.value.save_as(marked)
    left = {sample.name for sample in without_decided(data, [str(marked)]).samples}
    assert left == {sample.name for sample in data.samples} - {f"{i}.png" for i in (*groups[0][1:], 1, 5)}
    opened.check_clean()


def test_the_keyboard_reaches_every_choice(open_page, page_file):
    page = open_page(page_file).page
    page.locator('fieldset[data-image="1"] input').first.focus()
    page.keyboard.press("ArrowRight")
    assert page.locator('fieldset[data-image="1"] input[value="exclude"]').first.is_checked()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [(1280, 900), (390, 844)])
def test_the_page_fits_its_window(open_page, page_file, size, scheme):
    opened = open_page(page_file, size=size, scheme=scheme)
    assert opened.overflow_px() <= 0
    opened.screenshot(f"findings-{size[0]}-{scheme}")
    opened.check_clean()
