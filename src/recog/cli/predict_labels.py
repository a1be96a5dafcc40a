"""`recog predict` with a bundle that says none to several labels of an image: its table and its CSV."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from recog.core.errors import BadImage
from recog.report.text import spreadsheet_cell, visible

if TYPE_CHECKING:
    from recog.runtime.predictor import Prediction

SEPARATOR = " | "


def print_labels_csv(
    files: Sequence[Path], answers: Iterator[Prediction | BadImage], class_names: Sequence[str]
) -> int:
    """A row per image: its labels, joined, and every label's probability. Returns how many could not be used."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["file", "labels", *(spreadsheet_cell(f"prob_{name}") for name in class_names), "error"])
    num_bad = 0
    for file, answer in zip(files, answers, strict=True):
        name = spreadsheet_cell(str(file))
        if isinstance(answer, BadImage):
            num_bad += 1
            writer.writerow([name, "", *[""] * len(class_names), spreadsheet_cell(answer.reason)])
            continue
        labels = spreadsheet_cell(SEPARATOR.join(answer.labels))
        writer.writerow([name, labels, *(f"{prob:.6f}" for prob in answer.probs), ""])
    return num_bad


def print_labels_table(files: Sequence[Path], answers: Iterator[Prediction | BadImage]) -> int:
    """A line per label of each image, the most probable first. Returns how many images could not be used."""
    from rich.table import Column

    from recog.cli.answers import print_answers

    def lines_of(answer: Prediction) -> list[tuple[str, str]]:
        probs = dict(zip(answer.class_names, answer.probs.tolist(), strict=True))
        return [(visible(label), f"{probs[label]:.1%}") for label in answer.labels] or [("(no label)", "")]

    columns = (Column("labels", overflow="fold"), Column("probability", justify="right"))
    return print_answers(files, answers, columns, lines_of)
