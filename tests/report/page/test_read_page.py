import numpy as np

from recog.report.page.read_page import read_pictures
from recog.report.page.thumbnails import thumbnail

URI = thumbnail(np.zeros((4, 4, 3), np.uint8))


def test_pictures_come_from_tiles_and_from_the_island(tmp_path):
    page = tmp_path / "report.html"
    page.write_text(
        f'<img data-name="a&amp;b.png" src="{URI}"><script type="application/json" id="gallery">'
        f'{{"images": {{"c.png": "{URI}", "evil": "https://example.org/x.png", "n": 3}}}}</script>'
    )
    assert read_pictures(page) == {"a&b.png": URI, "c.png": URI}


def test_a_page_without_pictures_and_no_page(tmp_path):
    (tmp_path / "report.html").write_text('<script id="gallery">{"images": </script><p>')
    assert read_pictures(tmp_path / "report.html") == {}
    assert read_pictures(tmp_path / "none.html") == {}


def test_the_page_of_a_run_has_the_pictures_of_its_errors(digits_run):
    pictures = read_pictures(digits_run.folder / "report.html")
    assert {error.name for error in digits_run.report.errors[:50]} <= set(pictures)
