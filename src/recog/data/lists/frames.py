"""DataFrames of pandas and polars as lists of images, told by their methods, so that neither has to be installed."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from recog.core.errors import DataError
from recog.core.files import shown, user_path
from recog.data.data_layout import COLUMN_OPTIONS, DataLayout
from recog.data.dataset import Dataset
from recog.data.lists.image_finder import ImageFinder, given_places
from recog.data.lists.json_lines import object_listing
from recog.data.lists.label_format import LabelFormat, check_same_columns
from recog.data.lists.list_reader import ListReader
from recog.data.lists.rows import Row

_MISSING = ("NAType", "NaTType")  # pandas' marks of a missing cell


def is_frame(value: object) -> bool:
    return hasattr(value, "columns") and (hasattr(value, "to_csv") or hasattr(value, "write_csv"))


def read_frames(
    frames: Mapping[str | None, Any], labels: LabelFormat, layout: DataLayout, *, class_names: Sequence[str] | None
) -> Dataset:
    """The rows of a DataFrame, or of one per split, with columns as in a CSV: path, label, and if there, split and group.

    Paths are absolute or begin at the working folder, unless `layout` names folders with `images`. A whole number as a label is
    the index of one of `class_names`, where these are given.
    """
    layout.check_unused("the data", "a DataFrame", takes=(*COLUMN_OPTIONS, "--images"))
    rows: list[Row] = []
    found: list[tuple[str, tuple[str, ...]]] = []
    notes: dict[str, None] = {}
    for split, frame in frames.items():
        where = f"the DataFrame of {split}" if split else "the DataFrame"
        listing = object_listing(_records(frame, where), where, labels, layout, form="DataFrame")
        found.append((where, listing.label_columns))
        notes |= dict.fromkeys(listing.notes)
        rows += (replace(row, split=split or row.split) for row in listing.rows)
    check_same_columns(found)
    reader = ListReader(name="dataframe", where=where, declared=found[0][1], notes=list(notes), task=labels.task)
    if layout.images:
        finder = ImageFinder(given_places(layout.images), is_given=True)
        for row in rows:
            image = finder.find(row.path, row.split, row.where)
            reader.add(_with_class_name(row, class_names), image.name, image.source)
        finder.check_any_found(where, len(reader.names))
        reader.notes += finder.notes
    else:
        files = [user_path(row.path) for row in rows]
        names, root = names_below(files)
        reader.name = root or reader.name
        for row, name, file in zip(rows, names, files, strict=True):
            reader.add(_with_class_name(row, class_names), name, file)
    return reader.dataset(layout=listing.kind, why=listing.why)


def _records(frame: Any, where: str) -> list[tuple[str, dict[str, object]]]:
    header = [str(name) for name in frame.columns]
    twice = next((name for name in header if header.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"{where} has the column {shown(twice)} twice; rename one of them.")
    columns = ([_plain(cell) for cell in frame[name]] for name in frame.columns)
    table = dict(zip(header, columns, strict=True))
    cells: Iterable[tuple[object, ...]] = zip(*table.values(), strict=True)
    return [(f"{where}, row {number}", dict(zip(header, row, strict=True))) for number, row in enumerate(cells)]


def _plain(cell: Any) -> object:
    """A cell as JSON has it: numbers of NumPy as numbers, what is missing as None, several values as a list."""
    if isinstance(cell, os.PathLike):
        return os.fspath(cell)
    if hasattr(cell, "tolist"):  # of NumPy; a polars Series has to_list
        cell = cell.tolist()
    elif hasattr(cell, "to_list"):
        cell = cell.to_list()
    is_missing = type(cell).__name__ in _MISSING or (isinstance(cell, float) and math.isnan(cell))
    return None if is_missing else cell


def _with_class_name(row: Row, class_names: Sequence[str] | None) -> Row:
    if class_names is None or row.labels is None:
        return row
    names = []
    for label in row.labels:
        is_index = label.isdecimal() and label not in class_names
        if is_index and int(label) >= len(class_names):
            raise DataError(f"{row.where} has the label {label}, but there are names for {len(class_names)} classes.")
        names.append(str(class_names[int(label)]) if is_index else label)
    return replace(row, labels=tuple(names))


def names_below(files: Sequence[Path]) -> tuple[list[str], str]:
    """The paths of `files` below the folder that holds all of them, with '/', and that folder's name.

    DataError where none of them exists.
    """
    if not files:
        return [], ""
    if not any(map(os.path.exists, files)):
        raise DataError(
            f"none of the {len(files):,} image files exists, such as {shown(str(files[0]))}. Relative paths begin at the working "
            "folder."
        )
    full = [os.path.abspath(file) for file in files]
    try:
        root = os.path.commonpath([os.path.dirname(path) for path in full])
    except ValueError:  # on several drives
        return [path.replace(os.sep, "/") for path in full], ""
    return [os.path.relpath(path, root).replace(os.sep, "/") for path in full], os.path.basename(root)
