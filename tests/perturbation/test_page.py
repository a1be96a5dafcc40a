"""The page: sections for what was measured, foreign names escaped, no requests."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from small_perturbations import WHOLE

from recog.perturbation.page import eps_text, render_robustness, title_of


def test_sections():
    page = render_robustness(WHOLE, [("fog", np.zeros((8, 8, 3), np.uint8))])
    assert "<script" not in page
    for text in (
        "Accuracy by severity",
        "Classes that lose most",
        "Attacks",
        "8/255",
        "answers are random",
        "Fog",
        "<svg",
    ):
        assert text in page
    attacked = render_robustness(replace(WHOLE, corruptions=None))
    assert "Accuracy by severity" not in attacked
    assert "Still right" in attacked
    assert "Attacks" not in render_robustness(replace(WHOLE, attacks=None))


def test_names_and_sizes():
    assert [title_of(name) for name in ("jpeg_compression", "fog")] == ["JPEG compression", "Fog"]
    assert [eps_text(eps) for eps in (8 / 255, 0.3, 1.0)] == ["8/255", "0.3", "1"]
