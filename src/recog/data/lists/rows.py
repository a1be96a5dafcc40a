"""The rows of a list of images, whatever file holds it: which columns it must have, and which are there to slice by."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from recog.core.config import nearest
from recog.core.errors import DataError
from recog.data.names import split_of_name

RESERVED = frozenset({"path", "file_name", "split", "group"})
_MAX_CELL = 200  # characters of a cell to slice by; a caption is none


@dataclass(frozen=True)
class Row:
    """One line of a list; `where` names it for a person."""

    where: str
    path: str
    labels: tuple[str, ...] | None  # None: nobody has labelled the image
    split: str | None = None
    group: str | None = None
    is_list: bool = False  # written so that there may be none or several
    columns: tuple[tuple[str, str], ...] = ()  # (name, cell) of all others


@dataclass(frozen=True)
class Listing:
    """The rows of one file, and the columns of 0 and 1 that hold their labels, if such do."""

    rows: Iterator[Row]
    label_columns: tuple[str, ...]
    notes: list[str]


def find_columns(columns: list[str], where: str, path_column: str, *, label_column: str | None) -> dict[str, int]:
    """{column: its place}; `label_column` is None where other columns hold the labels."""
    if not any(columns):
        raise DataError(f"{where} is empty; expected a header with the columns {path_column} and label.")
    needed = [column for column in (path_column, label_column) if column is not None]
    for wanted in needed:
        if wanted not in columns:
            listed = ", ".join(column or "(no name)" for column in columns[:20])
            near = nearest(wanted, columns)
            rename = f"{near} Rename that column to '{wanted}'." if near else ""
            several = " For several labels an image, name the separator that joins them, or give columns of 0 and 1."
            raise DataError(
                f"{where} has no column '{wanted}'; it has: {listed}. Expected {path_column} and label, "
                f"and if you like, split and group.{rename}{several if wanted == 'label' else ''}"
            )
    twice = [column for column in (*needed, "split", "group") if columns.count(column) > 1]
    if twice:
        raise DataError(f"{where} has the column '{twice[0]}' twice; keep one of them.")
    return {column: i for i, column in enumerate(columns)}


def split_of_cell(cell: str | None, line: str) -> str:
    split = split_of_name(cell or "")
    if split is None:
        raise DataError(
            f"{line} has the split '{cell or ''}'; it must be train, val or test, in every row or in none (dev is read as "
            "val, eval as test)."
        )
    return split


def cells_of(row: Mapping[str, object]) -> tuple[tuple[str, str], ...]:
    """(name, text) of the numbers and texts of a row; what holds more, such as a list, is no column to slice by."""
    return tuple(
        (name, "" if cell is None else sys.intern(str(cell)))
        for name, cell in row.items()
        if cell is None or (isinstance(cell, (str, int, float)) and len(str(cell)) <= _MAX_CELL)
    )
