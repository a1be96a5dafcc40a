"""Images whose pixels stand in a CSV: a column a pixel, as of handwritten digits, or one column of all, as of FER 2013."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from recog.core.errors import DataError
from recog.core.files import is_hidden, shown
from recog.data.data_layout import COLUMN_OPTIONS, DataLayout
from recog.data.dataset import Dataset, Exclusion
from recog.data.lists.columns import Columns, find_columns, further_columns, missing_label, split_of_cell
from recog.data.lists.csv_table import CSV_SUFFIXES, DELIMITERS
from recog.data.lists.image_finder import disk_place
from recog.data.lists.label_format import LabelFormat
from recog.data.lists.list_reader import ListReader
from recog.data.lists.rows import Row
from recog.data.names import split_of_name

_JOINED = ("pixels", "pixel")  # names of a column that holds all pixels of an image
_NAMED = re.compile(r"(?:pixel|px)[\s_-]*\d+|\d+x\d+", re.IGNORECASE)
_MIN_PIXELS = 49
_MAX_LINE = 16 << 20  # characters: 1024 x 1024 x 3 numbers
_MAX_BYTES = 4 << 30  # of pixels in memory
_LABEL = "label"


@dataclass(frozen=True)
class PixelTable:
    """Which columns of a CSV hold pixels, and how: `joined` is the one column of all, else they are `pixels`."""

    header: tuple[str, ...]  # of the other columns 'N' (counted from 1) where the file names none
    has_header: bool
    delimiter: str
    pixels: tuple[int, ...]
    joined: int | None
    shape: tuple[int, ...]  # [H, W] or [H, W, 3]
    encoding: str
    note: str | None = None

    @property
    def is_unlabelled(self) -> bool:
        return len(self.header) == len(self.pixels) + (self.joined is not None)

    @property
    def words(self) -> str:
        kind = "grey" if len(self.shape) == 2 else "RGB, a pixel's channels side by side,"
        size = f"{kind} images of {self.shape[1]} x {self.shape[0]} px"
        return f"the column {self.header[self.joined]}: {size}" if self.joined is not None else f"pixel columns: {size}"


def find_pixels(path: Path, layout: DataLayout) -> dict[Path, PixelTable]:
    """The tables of pixels that `path` is, or, of a folder without folders in it, that it holds; none where it has no such.

    DataError where the pixels of one make no square image.
    """
    files = [path]
    if path.is_dir():
        entries = [entry for entry in sorted(path.iterdir()) if not is_hidden(entry.name)]
        files = [] if any(entry.is_dir() for entry in entries) else entries
    found = {file: _find(file, layout) for file in files if file.name.lower().endswith(CSV_SUFFIXES) and file.is_file()}
    return {file: table for file, table in found.items() if table is not None}


def _find(path: Path, layout: DataLayout) -> PixelTable | None:
    encoding = layout.encoding or "utf-8-sig"
    with _open(path, encoding) as file:
        lines = [line for line in (file.readline(_MAX_LINE), file.readline(_MAX_LINE)) if line.strip()]
    if len(lines) < 2:
        return None
    delimiter = max(DELIMITERS, key=lines[0].count)
    csv.field_size_limit(_MAX_LINE)
    try:
        header, cells = (tuple(cell.strip() for cell in row) for row in csv.reader(lines, delimiter=delimiter))
    except (csv.Error, ValueError):
        return None
    if len(header) != len(cells):
        return None
    joined = next((i for i, name in enumerate(header) if name.lower() in _JOINED), None)
    if joined is not None and len(cells[joined].split()) >= _MIN_PIXELS:
        shape = _shape(len(cells[joined].split()), str(path))
        return PixelTable(header, True, delimiter, (), joined, shape, encoding)
    named = tuple(i for i, name in enumerate(header) if _NAMED.fullmatch(name))
    if len(named) >= _MIN_PIXELS:
        return PixelTable(header, True, delimiter, named, None, _shape(len(named), str(path)), encoding)
    return _unnamed(header, cells, delimiter, layout)


def _unnamed(header: tuple[str, ...], cells: tuple[str, ...], delimiter: str, layout: DataLayout) -> PixelTable | None:
    """The table of a CSV without names of columns: numbers only, one of them the label, the rest of a square image."""
    side = _side(len(header) - 1)
    if side is None or len(header) <= _MIN_PIXELS or not all(map(_is_number, (*header, *cells))):
        return None
    numbers = [float(cell) for cell in header]
    is_counted = numbers == list(range(len(numbers)))
    has_header = is_counted or not all(number.is_integer() for number in numbers)  # 0, 0.1, ... are pandas' names
    label, encoding = layout.label_column or "1", layout.encoding or "utf-8-sig"
    names = tuple(str(i + 1) for i in range(len(header)))
    if label not in names:
        raise DataError(f"the CSV has no names of columns; --label-column is then a number from 1 to {len(names)}.")
    place = names.index(label)
    note = f"no names of columns: column {label} is the label, the other {len(names) - 1} are pixels"
    pixels = tuple(i for i in range(len(names)) if i != place)
    names = (*names[:place], _LABEL, *names[place + 1 :])
    return PixelTable(names, has_header, delimiter, pixels, None, side, encoding, note)


def read_pixels(tables: Mapping[Path, PixelTable], path: Path, labels: LabelFormat, layout: DataLayout) -> Dataset:
    """A sample per line of the tables in `path`, a file or folder; its image is an array uint8 [H, W] or [H, W, 3].

    Tables without a label are left aside; several with labels are splits by their names, or parts of one.
    """
    layout.check_unused(str(path), "a CSV of pixels", takes=(*COLUMN_OPTIONS[1:], "--encoding"))
    labelled = {file: table for file, table in tables.items() if not table.is_unlabelled}
    if not labelled:
        raise DataError(f"{next(iter(tables))} has pixels only, and no column 'label'.")
    names = [file.name for file in labelled]
    splits = [split_of_name(file.stem) for file in labelled] if len(names) > 1 else [None]
    if None in splits and len(set(splits)) > 1:
        raise DataError(
            f"of the tables of pixels in {path}, {names[splits.index(None)]} is named for no split; rename it."
        )
    aside = [file.name for file in path.iterdir() if file not in labelled] if path.is_dir() else []
    reader = ListReader(
        name=path.stem if path.is_file() else path.resolve().name,
        where=str(path),
        task=labels.task,
        exclusions=[Exclusion(name=name, reason="no pixels with labels") for name in sorted(aside)],
        beside=[disk_place(next(iter(tables)).parent, "")],
    )
    num_bytes = 0
    for (file, table), split in zip(labelled.items(), splits, strict=True):
        columns, notes = _columns(file, table, layout)
        reader.notes += [note for note in notes if note not in reader.notes]
        for row, name, image in _rows(file, table, columns, labels):
            num_bytes += image.nbytes
            if num_bytes > _MAX_BYTES:
                raise DataError(
                    f"{path} holds more than {_MAX_BYTES >> 30} GiB of pixels; write the images to files instead."
                )
            reader.add(row if row.split or split is None else replace(row, split=split), name, image)
    kind = "CSV of pixels and labels" if len(labelled) == 1 else f"{len(labelled)} CSV files of pixels and labels"
    return reader.dataset(layout=kind, why=next(iter(labelled.values())).words)


def _rows(
    path: Path, table: PixelTable, columns: Columns, labels: LabelFormat
) -> Iterator[tuple[Row, str, NDArray[np.uint8]]]:
    """(row, name of the sample, image) of each line."""
    at = columns.at
    further = {name: i for name, i in further_columns(columns, {}).items() if i not in table.pixels}
    for number, cells in _lines(path, table):
        line = f"{path}, line {number}"
        split, group = (cells[at[role]].strip() or None if role in at else None for role in ("split", "group"))
        row = Row(
            line,
            "",
            labels.labels_in(cells[at["label"]].strip()),
            split_of_cell(split, line, columns.names["split"]) if "split" in at else None,
            group,
            task="multilabel" if labels.separator else "multiclass",
            columns=tuple((name, cells[i].strip()) for name, i in further.items()),
        )
        yield row, f"{path.stem}/{number:06d}", _image(cells, table, line)


def _columns(path: Path, table: PixelTable, layout: DataLayout) -> tuple[Columns, list[str]]:
    """The columns of labels, splits and groups: where none is called a label, the only one that is left."""
    others = {i for i in range(len(table.header)) if i not in table.pixels and i != table.joined}
    named = tuple(name if i in others else "" for i, name in enumerate(table.header))
    given = replace(layout, label_column="") if table.note else layout

    def cells(place: int) -> Iterator[str]:
        return (row[place].strip() for _, row in _lines(path, table))

    columns = find_columns(named, cells, str(path), given, first=None)
    notes = [*([table.note] if table.note else []), *columns.notes]
    if "label" not in columns.at:
        left = sorted(others - set(columns.at.values()))
        if len(left) != 1:
            raise missing_label(
                replace(columns, header=tuple(table.header[i] for i in sorted(others)) or ("",)), str(path)
            )
        columns = replace(columns, at={**columns.at, "label": left[0]})
        notes.append(f"labels from {table.header[left[0]]}, the only column beside the pixels")
    return columns, notes


def _open(path: Path, encoding: str) -> TextIO:
    return path.open(encoding=encoding, errors="replace", newline="")


def _lines(path: Path, table: PixelTable) -> Iterator[tuple[int, list[str]]]:
    """(number, cells) of the lines with data."""
    with _open(path, table.encoding) as file:
        lines = csv.reader(file, delimiter=table.delimiter, strict=True)
        try:
            for row, cells in enumerate(lines):
                if (row == 0 and table.has_header) or not cells:
                    continue
                if len(cells) != len(table.header):
                    raise DataError(
                        f"{path}, line {lines.line_num} has {len(cells)} cells, but the first has {len(table.header)}."
                    )
                yield lines.line_num, cells
        except csv.Error as error:
            raise DataError(f"{path}, line {lines.line_num} is not valid CSV: {error}.") from None


def _image(cells: Sequence[str], table: PixelTable, line: str) -> NDArray[np.uint8]:
    values = cells[table.joined].split() if table.joined is not None else [cells[i] for i in table.pixels]
    size = math.prod(table.shape)
    if len(values) != size:
        raise DataError(f"{line} has {len(values):,} pixels; expected {size:,} as the first line has.")
    try:
        data = bytes(map(int, values))
    except ValueError:
        data = bytes(_byte(value, line) for value in values)
    return np.frombuffer(data, dtype=np.uint8).reshape(table.shape)


def _byte(text: str, line: str) -> int:
    """A pixel such as 12 or 12.0."""
    try:
        value = float(text)
        if value.is_integer() and 0 <= value <= 255:
            return int(value)
    except (ValueError, OverflowError):
        pass
    raise DataError(f"{line} has the pixel {shown(text[:20])}; expected whole numbers from 0 to 255.")


def _shape(num_pixels: int, where: str) -> tuple[int, ...]:
    shape = _side(num_pixels)
    if shape is None:
        raise DataError(
            f"{where} has {num_pixels:,} pixels an image, which make no square, neither grey nor RGB. Expected such as 784 (28 x "
            "28) or 2,352 (28 x 28 x 3); write other images to files."
        )
    return shape


def _side(num_pixels: int) -> tuple[int, ...] | None:
    """[H, W] or [H, W, 3] of a square image of so many values; three times a square is no square."""
    for count, channels in ((num_pixels, ()), (num_pixels // 3 if num_pixels % 3 == 0 else 0, (3,))):
        side = math.isqrt(count)
        if count and side * side == count:
            return (side, side, *channels)
    return None


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
