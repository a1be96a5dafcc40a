"""The confusion matrix as the page draws it: numbered cells for few classes, a picture for many."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil, sqrt

from recog.evaluation.results.report import Report

MAX_TABLE_CLASSES = 25  # beyond, a cell with its number no longer fits a page
NUM_LEVELS = 9  # shades in the style sheet


@dataclass(frozen=True, kw_only=True)
class Cell:
    count: int
    shade: str  # CSS classes
    title: str  # what the count says, in words


@dataclass(frozen=True, kw_only=True)
class Shading:
    """All cells of one shade as one SVG path in units of cells, so that 1,000 classes stay a small page."""

    shade: str
    path: str


def shade(count: int, support: int, *, is_correct: bool) -> str:
    """CSS classes of a cell with `count` of the `support` images of its true class; '' where it has none.

    Nine levels of the share; for errors of its square root, so that the first few errors show.
    """
    if count == 0:
        return ""
    share = count / support
    level = ceil(NUM_LEVELS * (share if is_correct else sqrt(share)))
    return f"{'hit' if is_correct else 'miss'} s{min(max(level, 1), NUM_LEVELS)}"


def matrix_cells(report: Report) -> list[list[Cell]]:
    """Row = true class, column = predicted class."""
    return [
        [
            Cell(
                count=count,
                shade=shade(count, truth.support, is_correct=truth is predicted),
                title=f"{count:,} of {truth.support:,} {truth.name} predicted as {predicted.name}",
            )
            for predicted, count in zip(report.classes, counts, strict=True)
        ]
        for truth, counts in zip(report.classes, report.confusion, strict=True)
    ]


def matrix_shadings(report: Report) -> list[Shading]:
    """The same shades as paths, errors last so that they lie on top."""
    squares: dict[str, list[str]] = {}
    for i, (row, counts) in enumerate(zip(report.classes, report.confusion, strict=True)):
        for j, count in _nonzero(counts):
            key = shade(count, row.support, is_correct=i == j)
            squares.setdefault(key, []).append(f"M{j} {i}h1v1h-1z")
    return [Shading(shade=key, path="".join(squares[key])) for key in sorted(squares)]


def tick_positions(num_classes: int) -> list[int]:
    """Class indices to write along the picture's edges: at most ten, at a round distance."""
    step = next(step for step in (5, 10, 20, 50, 100, 200, 500, num_classes) if num_classes <= 10 * step)
    return list(range(0, num_classes, step))


def _nonzero(counts: Iterable[int]) -> Iterable[tuple[int, int]]:
    return ((j, count) for j, count in enumerate(counts) if count)
