import io
from dataclasses import replace

import numpy as np
from label_batches import label_report
from rich.console import Console

from recog.evaluation.results.slices import slice_by_name
from recog.report.table import print_report


def printed(report, width=80):
    file = io.StringIO()
    print_report(report, Console(file=file, width=width, highlight=False))
    return file.getvalue()


def test_headline_labels_means_and_notes_within_80_columns():
    report, *_ = label_report()
    text = printed(report)
    assert all(len(line) <= 80 for line in text.splitlines())
    for words in (
        "mAP",
        "Macro F1",
        "Micro F1",
        "All labels right",
        "Hamming loss",
        "Micro F1",
        "Weighted",
        "dog",
        "0.30",
    ):
        assert words in text
    assert f"{100 * report.mean_average_precision:.1f}%" in text
    assert "1 of 121 images could not be used" in text


def test_names_are_text_and_nothing_defined_is_no_error():
    report, *_ = label_report(2, shown=np.zeros((2, 4), bool), names=("[red]x", "a\u202eb", "c", "d"))
    text = printed(report)
    assert "[red]x" in text
    assert "\u202e" not in text
    assert "n/a" in text


def test_of_many_labels_the_weakest_are_shown_and_slices_are_printed():
    report, *_ = label_report()
    is_right = np.arange(120) < report.num_correct
    sliced = replace(report, slices=(slice_by_name("source-folder", ["a", "b"] * 60, is_right),))
    assert "By source-folder, the worst first" in printed(sliced)
    rows = tuple(replace(report.classes[0], name=f"label {i}") for i in range(30))
    many = replace(report, class_names=tuple(row.name for row in rows), classes=rows)
    assert "The 10 labels with the lowest F1 of 30" in printed(many)
