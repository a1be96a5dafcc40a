"""The report in the terminal, within 80 columns; no information by colour alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import isnan, log
from types import MappingProxyType
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from recog.core.task import Task
from recog.core.text import visible
from recog.evaluation.measures.counts import MeanMeasures, most_confused
from recog.evaluation.results.report import MulticlassReport, MultilabelReport, Report
from recog.evaluation.results.rows import ClassRow
from recog.evaluation.results.slices import Slicing
from recog.report.notes import Note, notes
from recog.report.sections import Section, metric_rows, training_sections, trust_sections
from recog.report.text import number_range, percent, percent_range, plural

MAX_LABELS = 25
MAX_CLASSES = 25
NUM_WEAKEST = 10
MAX_PAIRS = 5
MAX_EXCLUDED = 10
MAX_SLICES = 10


def print_report(report: Report, console: Console) -> None:
    """Headline, classes, most confused pairs, and what to know first. Names are text, not markup."""
    for table in _TABLES[report.task](report):
        console.print(table)
    for section in [*trust_sections(report), *training_sections(report.training)]:
        console.print(_trust_table(section))
    for slicing in report.slices:
        console.print(_slice_table(slicing, report.accuracy))
    _print_notes(notes(report), console)


def _of_classes(report: MulticlassReport) -> Iterator[Table]:
    yield _headline(report)
    yield _class_table(report)
    if report.num_errors:
        yield _pair_table(report)
    yield _threshold_table(report)


def _of_labels(report: MultilabelReport) -> Iterator[Table]:
    yield _label_headline(report)
    yield _label_table(report)


_TABLES: Mapping[Task, Callable[[Any], Iterator[Table]]] = MappingProxyType(
    {"multiclass": _of_classes, "multilabel": _of_labels}
)


def _print_notes(notes: Sequence[Note], console: Console) -> None:
    for note in notes:
        console.print(Text(f"{'Warning' if note.is_warning else 'Note'}: {note.title}.", style="bold"))
        console.print(Padding(Text(note.text), (0, 0, 0, 2)))
        for name, reason in note.items[:MAX_EXCLUDED]:
            console.print(Padding(Text(f"- {visible(name)}: {visible(reason)}"), (0, 0, 0, 2)))
        if len(note.items) > MAX_EXCLUDED:
            console.print(Text(f"  - and {len(note.items) - MAX_EXCLUDED:,} more, listed in report.json"))


def _headline(report: MulticlassReport) -> Table:
    table = headline_table(report, plural(report.num_classes, "class", "classes"))
    low_high = percent_range(report.accuracy_ci95)
    of = f"{report.num_correct:,} of {report.num_images:,}; 95% interval {low_high}"
    table.add_row("Accuracy", Text(percent(report.accuracy), style="bold"), of)
    for name, value, means, interval in _means(report):
        table.add_row(name, value, f"{means}; 95% {interval}" if interval else means)
    table.add_row("Baseline", percent(report.largest_class_share), "always naming the largest class")
    for row in metric_rows(report):
        table.add_row(row.name, row.value, f"{row.means}; 95% {row.interval}" if row.interval else row.means)
    return table


def _means(report: MulticlassReport) -> Iterator[tuple[str, str, str, str | None]]:
    """(name, value, what it means, interval)."""
    balanced, f1, nll = (report.interval(name) for name in ("balanced_accuracy", "macro_f1", "nll"))
    yield (
        "Balanced accuracy",
        percent(report.balanced_accuracy),
        "mean recall of the classes",
        balanced and percent_range(balanced),
    )
    yield "Macro F1", percent(report.macro.f1), "mean F1 of the classes", f1 and percent_range(f1)
    yield "NLL", f"{report.nll:.3f}", f"uniform guess: {log(report.num_classes):.3f}", nll and number_range(nll)


def _class_table(report: MulticlassReport) -> Table:
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


def _pair_table(report: MulticlassReport) -> Table:
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


def _threshold_table(report: MulticlassReport) -> Table:
    table = Table(
        title="If only answers at least this sure are taken",
        title_style="bold",
        title_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1),
    )
    for name in ("Confidence", "Automated", "Share", "Wrong", "Error rate", "95%"):
        table.add_column(name, justify="right", no_wrap=True)
    for cut in report.scores.thresholds:
        table.add_row(
            f"{100 * cut.confidence:g}%",
            f"{cut.num_automated:,} of {cut.num_images:,}",
            percent(cut.share),
            f"{cut.num_errors:,}",
            percent(cut.error_rate),
            percent_range(cut.error_rate_ci95) if cut.error_rate_ci95 else "",
        )
    return table


def _trust_table(section: Section) -> Group:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1))
    for i, name in enumerate(section.columns):
        table.add_column(name, justify="right" if i else "left", overflow="fold")
    for row in section.rows:
        table.add_row(*(Text(visible(cell)) for cell in row))
    return Group(Text(section.title, style="bold"), Padding(Text(visible(section.text)), (0, 0, 0, 1)), table)


def _slice_table(slicing: Slicing, accuracy: float) -> Table:
    total = len(slicing.slices)
    title = f"By {visible(slicing.by)}, the worst first" + (
        f": {MAX_SLICES} of {total:,}" if total > MAX_SLICES else ""
    )
    table = Table(title=Text(title), title_style="bold", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1))
    table.add_column("Slice", overflow="fold", min_width=8)
    for name in ("Right", "Accuracy", "95%"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("")
    for part in slicing.slices[:MAX_SLICES]:
        below = "below the whole" if part.accuracy_ci95[1] < accuracy else ""
        right = f"{part.num_correct:,} of {part.num_images:,}"
        few = "few images" if part.is_small else ""
        remark = ", ".join(filter(None, (few, below)))
        table.add_row(
            Text(visible(part.name)), right, percent(part.accuracy), percent_range(part.accuracy_ci95), remark
        )
    return table


def headline_table(report: Report, classes: str) -> Table:
    """The table of the measures, still empty, below what was measured; `classes` in words."""
    split = f", {visible(report.data.split_text)}" if report.data.split else ""
    title = f"{visible(report.data.name)}{split}: {plural(report.num_images, 'image')}, {classes}"
    table = Table(title=Text(title), title_style="bold", title_justify="left", box=None, show_header=False)
    table.add_column()
    table.add_column(justify="right", no_wrap=True)
    table.add_column()
    return table


def _label_headline(report: MultilabelReport) -> Table:
    labels = f"{plural(report.num_classes, 'label')}, {report.labels_per_image[0]:.2f} an image"
    table = headline_table(report, labels)
    for name, value, means in _label_rows(report):
        table.add_row(name, value, means)
    return table


def _label_rows(report: MultilabelReport) -> Iterator[tuple[str, str | Text, str]]:
    """(name, value, what it means)."""
    chance = f"guessing has {percent(report.chance_map)}" if report.chance_map is not None else "undefined here"
    found = report.interval("mean_average_precision")
    yield "mAP", Text(percent(report.mean_average_precision), style="bold"), _with(chance, found)
    yield "Macro F1", _percent(report.macro.f1), _with("mean F1 of the labels", report.interval("macro_f1"))
    yield "Micro F1", _percent(report.micro.f1), _with("over all labels and images", report.interval("micro_f1"))
    right = f"{report.num_correct:,} of {report.num_images:,}"
    yield "All labels right", percent(report.accuracy), _with(right, report.accuracy_ci95)
    for row in metric_rows(report):
        yield row.name, row.value, f"{row.means}; 95% {row.interval}" if row.interval else row.means


def _with(text: str, interval: tuple[float, float] | None) -> str:
    return text if interval is None else f"{text}; 95% {percent_range(interval)}"


def _percent(value: float) -> str:
    return percent(None if isnan(value) else value)


def _label_table(report: MultilabelReport) -> Table:
    rows, title = report.classes, ""
    if report.num_classes > MAX_LABELS:
        present = [row for row in report.classes if row.f1 is not None]
        rows = tuple(sorted(present, key=lambda row: row.f1 or 0.0)[:NUM_WEAKEST])
        title = f"The {len(rows)} labels with the lowest F1 of {report.num_classes}"
    table = Table(title=title or None, title_style="bold", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1))
    table.add_column("Label", overflow="fold", min_width=8)
    for name in ("Images", "From", "Precision", "Recall", "95%", "F1", "Av. prec."):
        table.add_column(name, justify="right", no_wrap=True)
    for i, row in enumerate(rows):
        table.add_row(*_label_cells(row), end_section=i == len(rows) - 1)
    for name, mean in (("Macro", report.macro), ("Micro", report.micro), ("Weighted", report.weighted)):
        table.add_row(name, "", "", *_label_mean_cells(mean))
    return table


def _label_cells(row: ClassRow) -> tuple[str | Text, ...]:
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


def _label_mean_cells(mean: MeanMeasures) -> tuple[str, ...]:
    return _percent(mean.precision), _percent(mean.recall), "", _percent(mean.f1), ""
