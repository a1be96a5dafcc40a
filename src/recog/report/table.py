"""The report in the terminal, within 80 columns; nothing is said by colour alone."""

from __future__ import annotations

from math import log

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from recog.evaluation.measures import MeanMeasures, most_confused
from recog.evaluation.report import ClassRow, Report
from recog.report.notes import notes
from recog.report.text import percent, percent_range, plural, visible

MAX_CLASSES = 25
NUM_WEAKEST = 10
MAX_PAIRS = 5
MAX_EXCLUDED = 10


def print_report(report: Report, console: Console) -> None:
    """Headline, classes, most confused pairs, and what to know first. Names are text, not markup."""
    console.print(_headline(report))
    console.print(_class_table(report))
    if report.num_errors:
        console.print(_pair_table(report))
    for note in notes(report):
        console.print(Text(f"{'Warning' if note.is_warning else 'Note'}: {note.title}.", style="bold"))
        console.print(Padding(Text(note.text), (0, 0, 0, 2)))
        for name, reason in note.items[:MAX_EXCLUDED]:
            console.print(Padding(Text(f"- {visible(name)}: {visible(reason)}"), (0, 0, 0, 2)))
        if len(note.items) > MAX_EXCLUDED:
            console.print(Text(f"  - and {len(note.items) - MAX_EXCLUDED:,} more, listed in report.json"))


def _headline(report: Report) -> Table:
    split = f", {visible(report.data.split)} split" if report.data.split else ""
    title = (
        f"{visible(report.data.name)}{split}: {plural(report.num_images, 'image')}, "
        f"{plural(report.num_classes, 'class', 'classes')}"
    )
    table = Table(title=Text(title), title_style="bold", title_justify="left", box=None, show_header=False)
    table.add_column()
    table.add_column(justify="right", no_wrap=True)
    table.add_column()
    low_high = percent_range(report.accuracy_ci95)
    of = f"{report.num_correct:,} of {report.num_images:,}; 95% interval {low_high}"
    table.add_row("Accuracy", Text(percent(report.accuracy), style="bold"), of)
    table.add_row("Balanced accuracy", percent(report.balanced_accuracy), "mean recall of the classes")
    table.add_row("Macro F1", percent(report.macro.f1), "mean F1 of the classes")
    table.add_row("NLL", f"{report.nll:.3f}", f"an even guess has {log(report.num_classes):.3f}")
    table.add_row("Baseline", percent(report.largest_class_share), "always naming the largest class")
    return table


def _class_table(report: Report) -> Table:
    rows, title = report.classes, ""
    if report.num_classes > MAX_CLASSES:
        present = [row for row in report.classes if row.support]
        rows = tuple(sorted(present, key=lambda row: (row.f1, row.recall))[:NUM_WEAKEST])
        title = f"The {len(rows)} classes with the lowest F1 of {report.num_classes}"
    table = Table(title=title or None, title_style="bold", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1))
    table.add_column("Class", overflow="fold", min_width=8)
    for name in ("Images", "Precision", "95%", "Recall", "95%", "F1"):
        table.add_column(name, justify="right", no_wrap=True)
    for i, row in enumerate(rows):
        table.add_row(*_class_cells(row), end_section=i == len(rows) - 1)
    table.add_row("Macro mean", "", *_mean_cells(report.macro))
    table.add_row("Weighted mean", "", *_mean_cells(report.weighted))
    return table


def _class_cells(row: ClassRow) -> tuple[str | Text, ...]:
    return (
        Text(visible(row.name)),
        f"{row.support:,}",
        percent(row.precision),
        _range(row.precision_ci95),
        percent(row.recall),
        _range(row.recall_ci95),
        percent(row.f1),
    )


def _mean_cells(mean: MeanMeasures) -> tuple[str, ...]:
    return percent(mean.precision), "", percent(mean.recall), "", percent(mean.f1)


def _range(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else percent_range(interval, decimals=0)


def _pair_table(report: Report) -> Table:
    table = Table(
        title="Confused most often", title_style="bold", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1)
    )
    table.add_column("True class", overflow="fold")
    table.add_column("Predicted as", overflow="fold")
    table.add_column("Images", justify="right", no_wrap=True)
    table.add_column("Of the class", justify="right", no_wrap=True)
    for i, j, count in most_confused(np.array(report.confusion), MAX_PAIRS):
        truth, predicted = report.classes[i], report.classes[j]
        of = f"{count:,} of {truth.support:,}"
        table.add_row(Text(visible(truth.name)), Text(visible(predicted.name)), of, percent(count / truth.support))
    return table
