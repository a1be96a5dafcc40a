"""The summary that `train` and `evaluate` print: at most 25 lines of at most 80 columns. Everything else is in the report."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from recog.core.task import Task
from recog.core.text import visible
from recog.evaluation.measures.counts import most_confused
from recog.evaluation.measures.task import TASK_MEASURES
from recog.evaluation.results.report import MulticlassReport, MultilabelReport, Report
from recog.evaluation.results.slices import Slicing
from recog.report.notes import Note, notes
from recog.report.text import listing, percent, percent_range, plural

NUM_WORST, NUM_PAIRS, MAX_WARNINGS = 3, 3, 6
MAX_NAME, MAX_LINES, MAX_REASON, MAX_ITEMS, WIDTH = 24, 25, 2, 2, 80


def brief_lines(report: Report, *, max_name: int | None = MAX_NAME) -> list[str]:
    """Headline with interval and n, the worst classes, the commonest confusions, and the warnings that need action.

    Names are cut to `max_name` characters, and lines to 80; with None nothing is cut or padded.
    """
    split = f", {visible(report.data.split_text)}" if report.data.split else ""
    measures = TASK_MEASURES[report.task]
    classes = plural(report.num_classes, measures.thing, measures.things)
    lines = [f"{_short(report.data.name, max_name)}{split}: {plural(report.num_images, 'image')}, {classes}"]
    lines += [*_HEADLINES[report.task](report), *_lowest_f1(report, max_name)]
    lines += _CONFUSIONS[report.task](report, max_name)
    warnings = _warnings([note for note in notes(report) if note.is_warning], max_name)
    return [*lines, *_of_slices(report, max_name, MAX_LINES - len(lines) - len(warnings)), *warnings]


def _warnings(found: Sequence[Note], max_name: int | None) -> list[str]:
    lines = []
    for note in found[:MAX_WARNINGS]:
        lines.append(f"  warning: {note.title}"[: WIDTH if max_name else None])
        if note.reason:
            indent = " " * 4
            wide = textwrap.wrap(note.reason, WIDTH, initial_indent=indent, subsequent_indent=indent)
            lines += wide[:MAX_REASON] if max_name else [f"{indent}{note.reason}"]
        for name, reason in note.items[:MAX_ITEMS]:
            lines.append(f"    {visible(name)}: {visible(reason)}"[: WIDTH if max_name else None])
        if len(note.items) > MAX_ITEMS:
            lines.append(f"    and {len(note.items) - MAX_ITEMS:,} more in the report")
    if len(found) > MAX_WARNINGS:
        lines.append(f"  and {plural(len(found) - MAX_WARNINGS, 'more warning')} in the report")
    return lines


def _of_classes(report: MulticlassReport) -> Iterator[str]:
    yield (
        f"  accuracy {percent(report.accuracy)} (95% interval {percent_range(report.accuracy_ci95)}, "
        f"{report.num_correct:,} of {report.num_images:,})"
    )
    yield f"  macro F1 {percent(report.macro.f1)}, NLL {report.nll:.3f}, ECE {percent(report.ece)}"
    if (rule := report.trust.decision) is not None:
        yield f"  threshold {rule.threshold:.3g} for {_short(report.class_names[rule.positive], MAX_NAME)}, {rule.aim}"
        yield (
            f"    where chosen: precision {percent(rule.precision)}, recall {percent(rule.recall)}, "
            f"F1 {percent(rule.f1)}, n = {rule.num_images:,}"
        )


def _of_labels(report: MultilabelReport) -> Iterator[str]:
    interval = report.interval("mean_average_precision")
    between = f" (95% interval {percent_range(interval)})" if interval else ""
    yield f"  mAP {percent(report.mean_average_precision)}{between}"
    yield (
        f"  macro F1 {percent(report.macro.f1)}, micro F1 {percent(report.micro.f1)}, "
        f"all labels correct {percent(report.accuracy)}"
    )


def _lowest_f1(report: Report, max_name: int | None) -> Iterator[str]:
    rows = [row for row in report.classes if row.support and (row.f1 or 0.0) < 1]
    if rows:
        yield "  lowest F1:"
    shown = sorted(rows, key=lambda row: (row.f1 or 0.0, row.recall or 0.0))[:NUM_WORST]
    names = _padded([row.name for row in shown], max_name)
    for row, name in zip(shown, names, strict=True):
        yield f"    {name}  F1 {percent(row.f1)}, recall {percent(row.recall)} of {row.support:,}"


def _most_confused(report: MulticlassReport, max_name: int | None) -> Iterator[str]:
    pairs = most_confused(np.array(report.confusion), NUM_PAIRS)
    if pairs:
        yield "  most confused:"
    for i, j, count in pairs:
        truth, predicted = report.classes[i], report.classes[j]
        yield f"    {_short(truth.name, max_name)} as {_short(predicted.name, max_name)}: {count:,} of {truth.support:,}"


_HEADLINES: Mapping[Task, Callable[[Any], Iterator[str]]] = MappingProxyType(
    {"multiclass": _of_classes, "multilabel": _of_labels}
)
_CONFUSIONS: Mapping[Task, Callable[[Any, int | None], Iterable[str]]] = MappingProxyType(
    {"multiclass": _most_confused, "multilabel": lambda report, max_name: ()}
)


def _of_slices(report: Report, max_name: int | None, max_lines: int) -> Iterator[str]:
    """The lowest groups of each slicing, in at most `max_lines` lines; the last counts the rest."""
    slicings = report.slices
    if not slicings:
        return
    # a title and at least one group for each, and one line for what is left out
    shown = slicings[: max(1, (max_lines - 1) // 2)]
    num_rows = max(1, min(NUM_WORST, (max_lines - 1) // len(shown) - 1))
    for slicing in shown:
        yield f"  lowest accuracy by {_short(slicing.by, max_name)}:"
        parts = slicing.slices[:num_rows]
        for part, name in zip(parts, _padded([part.name for part in parts], max_name), strict=True):
            between = percent_range(part.accuracy_ci95)
            yield f"    {name}  {percent(part.accuracy)} ({between}), n = {part.num_images:,}"
    num_left = sum(len(slicing.slices) for slicing in slicings) - sum(len(s.slices[:num_rows]) for s in shown)
    if num_left:
        yield f"  {plural(num_left, 'more group')} by {_by_names(slicings, max_name)}: report.html, --verbose"


def _by_names(slicings: Sequence[Slicing], max_name: int | None) -> str:
    return listing([_short(slicing.by, max_name) for slicing in slicings], limit=2)


def _short(name: str, max_name: int | None) -> str:
    text = visible(name)
    return text if max_name is None or len(text) <= max_name else text[: max_name - 3] + "..."


def _padded(names: Sequence[str], max_name: int | None) -> list[str]:
    """Equally long, where lines are for a terminal."""
    short = [_short(name, max_name) for name in names]
    return [name.ljust(max(map(len, short)) if max_name else 0) for name in short]
