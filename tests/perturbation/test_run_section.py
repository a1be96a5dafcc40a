"""The section on a run's page and model card: its rows by hand, in place of an earlier one."""

from __future__ import annotations

from dataclasses import replace

import pytest
from small_perturbations import WHOLE

from recog.perturbation.run_section import summary_rows, with_card_section, with_report_section

PAGE = (
    "<nav><!-- robustness-link:begin --><!-- robustness-link:end --></nav>"
    "<p>before</p><!-- robustness:begin --><!-- robustness:end --><p>after</p>"
)


def test_rows():
    clean, common, camera, attacked = summary_rows(WHOLE)
    assert (clean.accuracy, clean.relative_drop) == (3 / 4, None)
    assert (common.accuracy, common.relative_drop) == (pytest.approx(3 / 8), pytest.approx(1 / 2))
    assert camera.name.startswith("changes by cameras, phones and messengers (1 of 5), mean of 1 condition")
    assert attacked.name == "attacks, linf up to 8/255 (pgd), at most"
    assert attacked.relative_drop == pytest.approx(2 / 3)  # 1 of 3 right answers is left
    assert [row.name for row in summary_rows(replace(WHOLE, corruptions=None))] == ["as they are", attacked.name]


def test_the_page_has_one_section_with_escaped_names():
    once = with_report_section(PAGE, WHOLE, "robustness/a%20b/robustness.html")
    again = with_report_section(once, replace(WHOLE, num_images=7, num_seen=3), "other.html")
    for page in (once, again):
        assert page.count('<details class="section" id="robustness"') == page.count('href="#robustness"') == 1
        assert page.startswith("<nav>")
        assert page.endswith("<p>after</p>")
        assert "<script" not in page
    assert '<a href="robustness/a%20b/robustness.html">' in once
    assert "Warning: answers are random." in once
    assert "7 images of &lt;script&gt;" in again
    assert "Optimistically biased: the run trained, selected or calibrated with 3 of these images." in again
    assert with_report_section("<p>an old page</p>", WHOLE, "x") is None


def test_the_card_has_one_section_at_its_end():
    card = with_card_section(with_card_section("---\na: 1\n---\n\n# Model\n", replace(WHOLE, seed=9)), WHOLE)
    assert card.count("## Robustness") == 1
    assert card.startswith("---\na: 1\n---\n\n# Model\n\n## Robustness\n")
    assert "seed 9" not in card
    assert "| as they are | 75.0% (30.1-95.4%) |  |" in card
    assert "Fog 37.5%" in card or "fog 37.5%" in card
    assert "\\<script\\>" in card
