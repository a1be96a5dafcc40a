"""Lists of images as CSV or TSV: their text, their cells, and the rows that these mean."""

from __future__ import annotations

import csv
import io
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from recog.core.errors import DataError
from recog.core.files import shown
from recog.core.images.formats import has_image_suffix
from recog.core.text import plural
from recog.data.data_layout import DataLayout
from recog.data.lists.columns import (
    Columns,
    describe_columns,
    find_columns,
    further_columns,
    missing_label,
    split_of_cell,
)
from recog.data.lists.label_format import (
    LabelFormat,
    choices_of,
    find_label_columns,
    label_column_notes,
    labels_of_bits,
)
from recog.data.lists.rows import Listing, Row
from recog.data.names import split_of_name

CSV_SUFFIXES = (".csv", ".tsv")
DELIMITERS = ",;\t"
_IS_AWAY = re.compile(r"\.\.[/\\]|[/~]|[A-Za-z]:[/\\]")  # begins a path outside the list's folder, and no column's name
_MAX_LINE = 1 << 20

Line = tuple[str, list[str]]  # (where, cells)


@dataclass(frozen=True)
class Table:
    """The cells of a CSV file, all lines of one length."""

    where: str
    header: list[str]
    lines: list[Line]
    notes: tuple[str, ...] = ()
    holds: Callable[[str], bool] = lambda path: False  # whether an image of a path is there

    def column(self, place: int) -> Iterator[str]:
        return (cells[place].strip() for _, cells in self.lines)


def decode_text(data: bytes, where: str, encoding: str = "") -> str:
    """The text of a list. DataError where it is not in `encoding`, or without one, not UTF-8."""
    if not encoding and data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(
            f"{where} is UTF-16 text. Use --encoding utf-16, or save it as UTF-8 (in a spreadsheet: 'CSV UTF-8')."
        )
    try:
        return data.decode(encoding or "utf-8-sig").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        before = data[max(0, error.start - 20) : error.start].decode("latin-1").rpartition("\n")[2]
        near = before + data[error.start : error.start + 20].decode("latin-1").partition("\n")[0].rstrip("\r")
        raise DataError(
            f"{where} is not {encoding or 'UTF-8'}: line {line} has the byte 0x{data[error.start]:02x} near "
            f"{shown(near)}. Name its encoding, such as --encoding cp1252 (Windows), latin-1 or gbk."
        ) from None


def read_table(text: str, where: str, layout: DataLayout, holds: Callable[[str], bool]) -> Table:
    """`holds` tells whether an image of a path is there: a first line with one, or with one from elsewhere, is no header."""
    first_line = text.partition("\n")[0]
    delimiter = max(DELIMITERS, key=first_line.count)
    csv.field_size_limit(_MAX_LINE)
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows: list[Line] = []
    try:
        header = [column.strip() for column in next(lines, [])]
        for cells in lines:
            line = f"{where}, line {lines.line_num}"
            if cells and len(cells) != len(header):
                remedy = f"Put a cell that holds '{delimiter}' in double quotes."
                if len(cells) < len(header):
                    remedy = f"Add the missing cells, or remove the line; an empty cell still needs its '{delimiter}'."
                raise DataError(f"{line} has {plural(len(cells), 'cell')}, but the header has {len(header)}. {remedy}")
            rows += [(line, cells)] if cells else []
    except csv.Error as error:
        raise DataError(f"{where}, line {lines.line_num} is not valid CSV: {error}.") from None
    paths = [i for i, cell in enumerate(header) if has_image_suffix(cell) and (holds(cell) or _IS_AWAY.match(cell))]
    if not paths:
        return Table(where, header, rows, holds=holds)
    return _without_header(Table(where, header, [(f"{where}, line 1", header), *rows], holds=holds), paths, layout)


def _without_header(table: Table, paths: Sequence[int], layout: DataLayout) -> Table:
    """The table with columns named by their numbers, and where these are plain, by their roles."""
    names = [str(place + 1) for place in range(len(table.header))]
    others = [place for place in range(len(names)) if place not in paths]
    splits = [place for place in others if all(split_of_name(cell) for cell in table.column(place))]
    if len(paths) == 1 and not layout.path_column:
        names[paths[0]] = "path"
    if len(splits) == 1 and len(others) > 1 and not layout.split_column:
        names[splits[0]] = "split"
        others.remove(splits[0])
    if len(others) == 1 and not layout.label_column:
        names[others[0]] = "label"
    found = [f"column {place + 1} is the {name}" for place, name in enumerate(names) if not name.isdigit()]
    note = f"no header, as the first line names an image{''.join(f'; {each}' for each in found)}"
    return Table(table.where, names, table.lines, (note,), table.holds)


def csv_listing(table: Table, labels: LabelFormat, layout: DataLayout, *, first: str = "path") -> Listing:
    """The rows of a table; columns of 0 and 1 hold the labels where they are named, or where no column is called a label."""
    columns = find_columns(table.header, table.column, table.where, layout, first=first, holds=table.holds)
    rows = partial(_rows, table)
    return listing_of(columns, labels, table.lines, rows, where=table.where, form="CSV", notes=table.notes)


def listing_of(
    columns: Columns,
    labels: LabelFormat,
    lines: Iterable[tuple[str, Sequence[str]]],
    rows: Callable[[Columns, Mapping[str, int], Mapping[str, int], LabelFormat], Iterator[Row]],
    *,
    where: str,
    form: str,
    notes: Sequence[str] = (),
) -> Listing:
    """The `rows` of (columns, bits, further columns, labels); `lines` are (where, texts of the cells), to look for 0 and 1."""
    bits: dict[str, int] = {}
    if not labels.separator and (labels.columns or "label" not in columns.at):
        bits = find_label_columns(columns.header, lines, where=where, reserved=columns.reserved, wanted=labels.columns)
    if not bits and "label" not in columns.at:
        raise missing_label(columns, where)
    further = further_columns(columns, bits)
    found = [*notes, *columns.notes, *label_column_notes(list(bits), list(further))]
    kind = f"{form} of paths and {'columns of 0 and 1' if bits else 'labels'}"
    return Listing(rows(columns, bits, further, labels), tuple(bits), found, describe_columns(columns, bits), kind)


def _rows(
    table: Table, columns: Columns, bits: Mapping[str, int], further: Mapping[str, int], labels: LabelFormat
) -> Iterator[Row]:
    at = columns.at
    for line, cells in table.lines:
        split, group = (cells[at[role]].strip() or None if role in at else None for role in ("split", "group"))
        cell = "" if bits else cells[at["label"]].strip()
        choices = choices_of(cell)
        yield Row(
            line,
            cells[at["path"]].strip(),
            labels_of_bits(cells, bits) if bits else choices or labels.labels_in(cell),
            split_of_cell(split, line, columns.names["split"]) if "split" in at else None,
            group,
            task="multilabel" if bits or labels.separator or choices else "multiclass",
            columns=tuple((name, sys.intern(cells[i].strip())) for name, i in further.items()),
        )
