import re

import numpy as np
import pytest

from recog.core import notebook
from recog.core.notebook import MAX_ROWS, bars, card, picture_of, table

EVIL = "<script>alert('1')</script>\u202e"


@pytest.mark.parametrize(
    "html",
    [card(EVIL, EVIL), table((EVIL,), [(EVIL,)]), bars([(EVIL, 0.5, EVIL)]), notebook.paragraph(EVIL)],
)
def test_names_are_text(html):
    assert "<script" not in html
    assert "&lt;script&gt;alert(&#x27;1&#x27;)&lt;/script&gt;\\u202e" in html


def test_long_tables_are_cut_and_counted():
    html = table(("n",), [(str(i),) for i in range(MAX_ROWS + 7)])
    assert html.count("<td") == MAX_ROWS
    assert "and 7 more" in html


@pytest.mark.parametrize(("share", "width"), [(0.25, "25.0%"), (1.5, "100.0%"), (-1.0, "0.0%")])
def test_bars_stay_within_their_column(share, width):
    assert f"width:{width}" in bars([("a", share, "")])


def test_a_picture_is_embedded_and_what_is_gone_is_left_out(tmp_path):
    html = picture_of(np.zeros((4, 6, 3), np.uint8), "a")
    assert re.match(r'<img src="data:image/png;base64,[A-Za-z0-9+/=]+" alt="a"', html)
    assert picture_of(tmp_path / "gone.png", "gone") == ""
    assert picture_of(None, "none") == ""


def test_results_show_themselves(digits_run):
    import recog

    predictor = recog.load(digits_run.bundle)
    image = np.zeros((8, 8), np.uint8)
    prediction = predictor.predict(image)
    shown = prediction._repr_html_()
    assert "data:image/png" in shown
    assert prediction.label in shown
    assert prediction == predictor.predict_each([image]).__next__()  # which keeps no image
    for result in (digits_run, digits_run.report, predictor):
        html = result._repr_html_()
        assert html.startswith("<div")
        assert "<script" not in html
        assert "http" not in html
    assert f"{digits_run.report.accuracy:.1%}" in digits_run._repr_html_()


def test_a_scan_and_a_comparison_show_themselves(digits_run):
    import recog

    scanned = recog.scan("digits")._repr_html_()
    assert "1,797 images" in scanned
    compared = recog.compare(digits_run.bundle, digits_run.bundle, "digits", include_seen=True)._repr_html_()
    assert "no significant difference" in compared
