import pytest

from recog.report.text import listing, percent, percent_range, plural, spreadsheet_cell


@pytest.mark.parametrize(
    ("rate", "text"),
    [
        (0.875, "87.5%"),
        (0.0, "0%"),
        (1.0, "100%"),
        (None, "n/a"),
        # What is not all must not read as all, nor what is not none as none.
        (0.9999, "99.99%"),
        (0.0004, "0.04%"),
        (1 - 1e-9, ">99.999%"),
        (1e-30, "<0.001%"),
    ],
)
def test_percent(rate, text):
    assert percent(rate) == text


def test_percent_range():
    assert percent_range((0.8221, 0.9138)) == "82.2-91.4%"
    assert percent_range((0.0, 1.0), dash="\u2013") == "0\u2013100%"
    assert percent_range((0.874, 0.996), decimals=0) == "87-99.6%"
    assert percent_range(None) == "n/a"


def test_plural():
    assert plural(1, "image") == "1 image"
    assert plural(2000, "class", "classes") == "2,000 classes"


def test_listing():
    assert listing([]) == ""
    assert listing(["a"]) == "a"
    assert listing(["a", "b"]) == "a and b"
    assert listing(["a", "b", "c"]) == "a, b and c"
    assert listing(["a", "b\n", "c", "d"], limit=2) == r"a, b\n and 2 more"


@pytest.mark.parametrize(
    "text",
    [
        *(
            "daisy",
            "-1",
            "+1",
            "-0.5",
            "-1e-3",
            "-4.jpg",
            "+x.png",
            "-dir/a b.png",
            "-.png",
            "--a.png",
            "-1 | daisy",
            "",
        ),
        *("a=b", "1+1.png", "-a\\b.png", "-ü/é.jpg"),
    ],
)
def test_a_cell_that_no_spreadsheet_runs_is_unchanged(text):
    assert spreadsheet_cell(text) == text


@pytest.mark.parametrize(
    "text",
    [
        *("=1+1.png", "@SUM(A1)", "\t=1", "\r=1", "+SUM(A1).png", "-2+3", "-A1", "-", "-1 | =1"),
        *("-2+cmd|' /C calc'!A0", "-1 | x'!A0", '-1.jpg&HYPERLINK("http://x")', "-a.jpg\n=1", "-1\n"),
    ],
)
def test_a_cell_that_a_spreadsheet_would_run_is_quoted(text):
    assert spreadsheet_cell(text) == f"'{text}"
