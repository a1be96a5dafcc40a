"""Means, drops and tables of a report, by hand."""

from __future__ import annotations

import pytest
from small_perturbations import REPORT

from recog.perturbation.report import table_of


def test_means_over_conditions():
    common, camera = REPORT.means
    assert (common.accuracy, common.num_conditions) == (pytest.approx(3 / 8), 2)
    assert common.relative_drop == pytest.approx((3 / 4 - 3 / 8) / (3 / 4))
    assert camera.relative_drop == pytest.approx(-1 / 3)
    assert camera.accuracy_ci95 is None  # no resample differs
    # images are right 1, 1, 1 and 0 times of 2; a resample's mean lies between the least and the most
    assert 0 <= common.accuracy_ci95[0] < 3 / 8 < common.accuracy_ci95[1] <= 1
    assert REPORT.mean_by_name == {"fog": pytest.approx(3 / 8), "rotation": 1.0}


def test_classes_that_lose_most_come_first():
    first, second = REPORT.classes
    assert (first.name, first.clean_recall, first.mean_recall) == ("a", 1.0, pytest.approx(2 / 3))
    assert (second.name, second.clean_recall, second.mean_recall) == ("b", 0.5, pytest.approx(1 / 2))


def test_table():
    header, clean, *rows = table_of(REPORT).splitlines()
    assert header.startswith(
        "corruption,group,severity,confidence,nll,ece,unknown_rate,sample_sha256,num_images,accuracy"
    )
    assert clean.startswith("clean,,0,0.8,0.5,0.1,0.25,")
    assert [row.split(",")[9] for row in rows] == ["0.5", "0.25", "1.0"]
