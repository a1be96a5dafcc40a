from dataclasses import replace

import numpy as np
import pytest

from recog.evaluation.results.evaluate import evaluate
from recog.evaluation.results.facts import DataFacts
from recog.evaluation.results.slices import Slice, Slicing
from recog.evaluation.trust.calibration import CalibrationConfig, fit_calibration
from recog.report.brief import MAX_LINES, MAX_WARNINGS, brief_lines


def report_of(class_names, preds, labels, calibration=None, **facts):
    """A report of certain predictions."""
    logits = np.full((len(preds), len(class_names)), -20.0)
    logits[np.arange(len(preds)), preds] = 20.0
    names = [str(i) for i in range(len(preds))]
    data = DataFacts(name="pets", split="test", **facts)
    return evaluate(logits, np.array(labels), class_names=class_names, names=names, data=data, calibration=calibration)


def test_headline_worst_classes_and_confusions():
    # cat: 40 of 50 right, 10 as dog; dog: 45 of 50, 5 as cat; eel: all 50
    labels = [0] * 50 + [1] * 50 + [2] * 50
    preds = [0] * 40 + [1] * 10 + [1] * 45 + [0] * 5 + [2] * 50
    lines = brief_lines(report_of(("cat", "dog", "eel"), preds, labels, num_seen_in_training=0))
    assert lines[0] == "pets, test split: 150 images, 3 classes"
    assert lines[1].startswith("  accuracy 90.0% (95% interval ")
    assert lines[1].endswith("135 of 150)")
    # F1 of cat: 2 * 40 / (50 + 45); of dog: 2 * 45 / (50 + 55)
    at = lines.index("  lowest F1:")
    assert [line.split() for line in lines[at + 1 : at + 3]] == [
        ["cat", "F1", "84.2%,", "recall", "80.0%", "of", "50"],
        ["dog", "F1", "85.7%,", "recall", "90.0%", "of", "50"],
    ]
    at = lines.index("  most confused:")
    assert lines[at + 1 : at + 3] == ["    cat as dog: 10 of 50", "    dog as cat: 5 of 50"]


@pytest.mark.parametrize("num_slicings", [0, 1, 2, 3, 9])
@pytest.mark.parametrize("num_classes", [2, 30])
def test_it_stays_within_25_lines_of_80_columns_whatever_the_names(num_classes, num_slicings):
    names = tuple(f"{'long name ' * 9}{i}\x1b[31m" for i in range(num_classes))
    labels = list(range(num_classes)) * 2
    preds = [(label + 1) % num_classes for label in labels]
    excluded = tuple((f"{i}.jpg", "truncated") for i in range(5))
    facts = {"num_seen_in_training": 3, "num_seen_in_selection": 2, "test_openings": 9, "excluded": excluded}
    groups = tuple(Slice(name=name, num_images=2, num_correct=1) for name in names)
    report = report_of(names, preds, labels, **facts)
    lines = brief_lines(
        replace(report, slices=tuple(Slicing(by=f"column {i}", slices=groups) for i in range(num_slicings)))
    )
    assert len(lines) <= MAX_LINES
    assert max(map(len, lines)) <= 80
    assert not any("\x1b" in line for line in lines)
    assert sum("warning: " in line for line in lines) <= MAX_WARNINGS


def test_nothing_is_confused_where_all_is_right():
    lines = brief_lines(report_of(("cat", "dog"), [0, 1] * 100, [0, 1] * 100, num_seen_in_training=0))
    assert "100% (95% interval 98.1-100%, 200 of 200)" in lines[1]  # Wilson, by hand: 200 / (200 + 1.96^2)
    assert not any("confused" in line or "lowest" in line for line in lines)


def test_slices_that_were_asked_for_are_shown_the_lowest_first():
    report = report_of(("cat", "dog"), [0, 1] * 10, [0] * 10 + [1] * 10, num_seen_in_training=0)
    # 12 large images with 3 right, 8 small ones with 6
    parts = (Slice(name="large", num_images=12, num_correct=3), Slice(name="small", num_images=8, num_correct=6))
    lines = brief_lines(replace(report, slices=(Slicing(by="size", slices=parts),)))
    at = lines.index("  lowest accuracy by size:")
    assert lines[at + 1].split()[:2] == ["large", "25.0%"]
    assert lines[at + 2].split()[:2] == ["small", "75.0%"]


def test_all_slicings_that_were_asked_for_are_shown_and_what_is_left_out_is_counted():
    report = report_of(("cat", "dog"), [0, 1] * 10, [0] * 10 + [1] * 10, num_seen_in_training=0)
    parts = tuple(Slice(name=f"part {i}", num_images=4, num_correct=i) for i in range(5))
    slicings = tuple(Slicing(by=by, slices=parts) for by in ("size", "light", "clinic"))
    lines = brief_lines(replace(report, slices=slicings))
    assert [line for line in lines if "lowest accuracy by" in line] == [
        f"  lowest accuracy by {by}:" for by in ("size", "light", "clinic")
    ]
    num_shown = sum(line.startswith("    part ") for line in lines)
    assert f"  {15 - num_shown} more groups by size, light and 1 more: report.html, --verbose" in lines


def test_confidences_that_could_not_be_calibrated_are_a_warning_with_the_reason():
    logits, labels = np.array([[9.0, 0.0], [0.0, 9.0]] * 4, dtype=np.float32), np.array([0, 1] * 4)
    calibration = fit_calibration(logits, labels, CalibrationConfig(), data="val")
    report = report_of(("cat", "dog"), [0, 1] * 100, [0, 1] * 100, num_seen_in_training=0, calibration=calibration)
    lines = brief_lines(report)
    at = lines.index("  warning: Confidences could not be calibrated")
    assert lines[at + 1].startswith("    all predictions on the calibration images are right")


def test_confidences_that_are_not_calibrated_are_a_warning():
    lines = brief_lines(report_of(("cat", "dog"), [0, 1] * 100, [0, 1] * 100, num_seen_in_training=0))
    at = lines.index("  warning: Confidences are not calibrated")
    assert lines[at + 1] == "    no calibration was fitted"


def test_without_a_terminal_nothing_is_cut_or_padded():
    names = ("a-class-name-of-more-than-twenty-four-characters", "dog")
    report = report_of(names, [0, 1, 0, 1], [0, 1, 1, 1], num_seen_in_training=0)
    text = "\n".join(brief_lines(report, max_name=None))
    assert f"{names[0]}  F1" in text
    assert f"dog as {names[0]}: 1 of 3" in text
    assert "  dog  F1" in text


def test_images_that_could_not_be_used_are_named():
    excluded = tuple((f"{i}.jpg", "it is truncated") for i in range(4))
    lines = brief_lines(
        report_of(("cat", "dog"), [0, 1] * 100, [0, 1] * 100, num_seen_in_training=0, excluded=excluded)
    )
    at = lines.index("  warning: 4 of 204 images could not be used")
    assert lines[at + 1 : at + 4] == [
        "    0.jpg: it is truncated",
        "    1.jpg: it is truncated",
        "    and 2 more in the report",
    ]
