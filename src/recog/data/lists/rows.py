"""The rows of a list of images, whatever file holds it, and their cells to slice by."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from recog.core.task import Task

_MAX_CELL = 200  # characters of a cell to slice by; a caption is none


@dataclass(frozen=True)
class RowKind:
    """What a row gives its image: one label, or a list that may hold none or several."""

    noun: str
    is_complete: bool  # a further row of the image cannot add labels
    remedy: str  # for rows of one image that differ


_KINDS: Mapping[Task, RowKind] = MappingProxyType(
    {
        "multiclass": RowKind("label", False, " If an image may have several: --task multilabel."),
        "multilabel": RowKind("set of labels", True, " Join the labels of an image in one row."),
    }
)


@dataclass(frozen=True)
class Row:
    """One line of a list; `where` names it for a person."""

    where: str
    path: str
    labels: tuple[str, ...] | None  # None: the image has no label
    split: str | None = None
    group: str | None = None
    task: Task = "multiclass"  # multilabel: written so that there may be none or several labels
    columns: tuple[tuple[str, str], ...] = ()  # (name, cell) of all others

    @property
    def kind(self) -> RowKind:
        return _KINDS[self.task]


@dataclass(frozen=True)
class Listing:
    """The rows of one file, and the columns of 0 and 1 that hold their labels, if such do."""

    rows: Iterator[Row]
    label_columns: tuple[str, ...]
    notes: list[str]
    why: str  # what its columns were recognised by
    kind: str = "CSV of paths and labels"


def cells_of(row: Mapping[str, object]) -> tuple[tuple[str, str], ...]:
    """(name, text) of the numbers and texts of a row; what holds more, such as a list, is no column to slice by."""
    return tuple(
        (name, "" if cell is None else sys.intern(str(cell)))
        for name, cell in row.items()
        if cell is None or (isinstance(cell, (str, int, float)) and len(str(cell)) <= _MAX_CELL)
    )
