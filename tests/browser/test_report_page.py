"""The report page in a browser: what a person sees, clicks, types and prints."""

import pytest

SIZES = {"desktop": (1280, 900), "phone": (390, 844)}


@pytest.fixture
def path(digits_run):
    return digits_run.folder / "report.html"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_renders_without_errors_or_requests(path, open_page, size, scheme):
    page = open_page(path, size=SIZES[size], scheme=scheme)
    page.page.click(".fold-all")
    assert page.page.locator("details.section:not([open])").count() == 0
    assert page.overflow_px() <= 0
    assert page.screenshot(f"report-{size}-{scheme}").stat().st_size > 10_000
    page.check_clean()


def test_a_click_on_a_cell_opens_its_images_and_escape_closes_them(path, open_page):
    page = open_page(path)
    cell = page.page.locator("table.cells button").first
    count = int(cell.inner_text())
    cell.click()
    assert page.page.locator("#viewer").is_visible()
    assert "predicted" in page.page.locator("#viewer-title").inner_text()
    images = page.page.locator("#viewer-images img")
    assert 1 <= images.count() <= count
    assert all(
        images.nth(i).evaluate("image => image.complete && image.naturalWidth > 0") for i in range(images.count())
    )
    page.page.keyboard.press("Escape")
    assert not page.page.locator("#viewer").is_visible()
    page.check_clean()


def test_a_heading_sorts_its_table_both_ways(path, open_page):
    page = open_page(path)
    heading = page.page.locator("table.classes th", has_text="Recall").first

    def recalls():
        return [
            float(text.split("%")[0])
            for text in page.page.locator("table.classes tbody tr td:nth-child(5)").all_inner_texts()
        ]

    before = recalls()
    heading.locator("button").click()
    assert heading.get_attribute("aria-sort") == "ascending"
    assert recalls() == sorted(before)
    heading.locator("button").click()
    assert heading.get_attribute("aria-sort") == "descending"
    assert recalls() == sorted(before, reverse=True)


def test_the_keyboard_reaches_links_terms_sections_and_cells_in_reading_order(path, open_page):
    page = open_page(path)
    seen = []
    for _ in range(80):
        page.page.keyboard.press("Tab")
        seen.append(
            page.page.evaluate(
                "[document.activeElement.tagName, document.activeElement.getBoundingClientRect().top + scrollY]"
            )
        )
    assert [tag for tag, _ in seen[:3]] == ["A", "A", "A"]
    assert {"A", "BUTTON", "SUMMARY"} <= {tag for tag, _ in seen}
    tops = [top for _, top in seen]
    # from one to the next never far up the page: a row has one height, two columns may differ by a figure
    assert all(later > earlier - 400 for earlier, later in zip(tops, tops[1:], strict=False))


def test_a_term_explains_itself_on_focus_and_on_a_phone_within_the_screen(path, open_page):
    for size in SIZES.values():
        page = open_page(path, size=size)
        page.page.locator("button.term", has_text="Balanced accuracy").first.focus()
        tip = page.page.locator(".tip:visible")
        assert tip.inner_text().startswith("Mean of the recall of the classes")
        box = tip.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= size[0]


def test_a_link_unfolds_its_section(path, open_page):
    page = open_page(path)
    assert not page.page.locator("#terms").evaluate("section => section.open")
    page.page.locator("nav a", has_text="Terms").click()
    assert page.page.locator("#terms").evaluate("section => section.open")


def test_print_shows_every_section_and_folds_them_again(path, open_page):
    page = open_page(path)
    folded = page.page.locator("details.section:not([open])").count()
    page.page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert page.page.locator("details.section:not([open])").count() == 0
    page.page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert page.page.locator("details.section:not([open])").count() == folded
    assert page.page.pdf().startswith(b"%PDF")


def test_without_scripts_the_numbers_and_the_errors_are_there(path, open_page):
    page = open_page(path, java_script_enabled=False)
    assert page.page.locator("table.cells td").count() == 100 + 1  # 10 x 10, and the corner
    assert page.page.locator("#errors img").first.is_visible()
    page.check_clean()


def test_what_a_screen_reader_is_told(path, open_page):
    page = open_page(path)
    tree = page.page.locator("body").aria_snapshot()
    assert 'heading "digits, test split" [level=1]' in tree
    assert 'heading "What to do next" [level=2]' in tree
    assert 'heading "Confusion matrix" [level=2]' in tree
    unnamed = page.page.locator("img:not([alt])").count()
    assert unnamed == 0
