"""A multi-label report in the terminal, within 80 columns; nothing is said by colour alone."""

from __future__ import annotations

from collections.abc import Iterator
from math import isnan

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from recog.evaluation.counts import MeanMeasures
from recog.evaluation.multilabel_report import AnyReport, LabelRow, MultilabelReport
from recog.report.summary import label_measure_rows
from recog.report.text import percent, percent_range, plural, visible

MAX_LABELS = 25
NUM_WEAKEST = 10


def headline_table(report: AnyReport, classes: str) -> Table:
    """The table of the measures, still empty, below what was measured; `classes` in words."""
    split = f", {visible(report.data.split)} split" if report.data.split else ""
    title = f"{visible(report.data.name)}{split}: {plural(report.num_images, 'image')}, {classes}"
    table = Table(title=Text(title), title_style="bold", title_justify="left", box=None, show_header=False)
    table.add_column()
    table.add_column(justify="right", no_wrap=True)
    table.add_column()
    return table


def print_multilabel_report(report: MultilabelReport, console: Console) -> None:
    """Headline, labels, measures. Names are text, not markup. Notes and slices are printed by `print_report`."""
    console.print(_headline(report))
    console.print(_label_table(report))


def _headline(report: MultilabelReport) -> Table:
    labels = f"{plural(report.num_classes, 'label')}, {report.labels_per_image[0]:.2f} an image"
    table = headline_table(report, labels)
    for name, value, means in _rows(report):
        table.add_row(name, value, means)
    return table


def _rows(report: MultilabelReport) -> Iterator[tuple[str, str | Text, str]]:
    """(name, value, what it means)."""
    chance = f"guessing has {percent(report.chance_map)}" if report.chance_map is not None else "undefined here"
    found = report.interval("mean_average_precision")
    yield "mAP", Text(percent(report.mean_average_precision), style="bold"), _with(chance, found)
    yield "Macro F1", _percent(report.macro.f1), _with("mean F1 of the labels", report.interval("macro_f1"))
    yield "Micro F1", _percent(report.micro.f1), _with("of all labels said and shown", report.interval("micro_f1"))
    right = f"{report.subset.num_correct:,} of {report.num_images:,}"
    yield "All labels right", percent(report.subset_accuracy), _with(right, report.subset.accuracy_ci95)
    for row in label_measure_rows(report):
        yield row.name, row.value, f"{row.means}; 95% {row.interval}" if row.interval else row.means


def _with(text: str, interval: tuple[float, float] | None) -> str:
    return text if interval is None else f"{text}; 95% {percent_range(interval)}"


def _percent(value: float) -> str:
    return percent(None if isnan(value) else value)


def _label_table(report: MultilabelReport) -> Table:
    rows, title = report.labels, ""
    if report.num_classes > MAX_LABELS:
        present = [row for row in report.labels if row.f1 is not None]
        rows = tuple(sorted(present, key=lambda row: row.f1 or 0.0)[:NUM_WEAKEST])
        title = f"The {len(rows)} labels with the lowest F1 of {report.num_classes}"
    table = Table(title=title or None, title_style="bold", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1))
    table.add_column("Label", overflow="fold", min_width=8)
    for name in ("Images", "From", "Precision", "Recall", "95%", "F1", "Av. prec."):
        table.add_column(name, justify="right", no_wrap=True)
    for i, row in enumerate(rows):
        table.add_row(*_cells(row), end_section=i == len(rows) - 1)
    for name, mean in (("Macro", report.macro), ("Micro", report.micro), ("Weighted", report.weighted)):
        table.add_row(name, "", "", *_mean_cells(mean))
    return table


def _cells(row: LabelRow) -> tuple[str | Text, ...]:
    return (
        Text(visible(row.name)),
        f"{row.support:,}",
        f"{row.threshold:.2f}",
        percent(row.precision),
        percent(row.recall),
        "" if row.recall_ci95 is None else percent_range(row.recall_ci95, decimals=0),
        percent(row.f1),
        "n/a" if row.average_precision is None else f"{row.average_precision:.3f}",
    )


def _mean_cells(mean: MeanMeasures) -> tuple[str, ...]:
    return _percent(mean.precision), _percent(mean.recall), "", _percent(mean.f1), ""
