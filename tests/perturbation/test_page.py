"""The page: sections for what was measured, foreign names escaped, no requests."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from small_perturbations import REPORT

from recog.evaluation.measures.counts import Hits
from recog.perturbation.attack_suite import AttackReport, AttackRow
from recog.perturbation.page import eps_text, render_robustness, title_of
from recog.perturbation.report import RobustnessReport

ATTACKED = AttackReport(
    norm="linf", eps=8 / 255, steps=100, restarts=1, queries=5000, num_targets=9, seed=0,
    clean=Hits(num_images=4, num_correct=3),
    rows=(AttackRow(name="pgd", loss="cross-entropy", num_attacked=3, num_fooled=2, robust=Hits(num_images=4, num_correct=1)),),
    flags=("answers are random",), torch_version="2",
)  # fmt: skip
WHOLE = RobustnessReport(
    bundle="b", data="<script>", split=None, task="multiclass", num_images=4, image_size=(8, 8), engine="onnxruntime",
    seed=0, versions={"numpy": "2"}, corruptions=REPORT, attacks=ATTACKED,
)  # fmt: skip


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
