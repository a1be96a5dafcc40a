"""Lists of images: a CSV with path and label, and the metadata.csv or metadata.jsonl of a Hugging Face imagefolder."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from recog.core.config import did_you_mean
from recog.core.decode import Readable
from recog.core.errors import DataError
from recog.core.files import natural_key
from recog.core.task import Task
from recog.data.dataset import Dataset, Exclusion, Sample
from recog.data.folders import SPLIT_FOLDERS, case_notes, class_name_of
from recog.data.label_format import AS_FOUND, LabelFormat, find_label_columns, labels_of_bits
from recog.data.members import shown
from recog.data.tree import Tree, base_of, parent_of

CSV_SUFFIXES = (".csv", ".tsv")
_METADATA = ("metadata.csv", "metadata.jsonl")
_DELIMITERS = ",;\t"
_RESERVED = frozenset({"path", "file_name", "split", "group"})
_MAX_LINE = 1 << 20
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


def read_csv(path: Path, labels: LabelFormat = AS_FOUND) -> Dataset:
    """Columns path and label, and if there, split and group; paths are relative to the CSV's folder.

    In place of label there may be columns of 0 and 1, one per label.
    """
    table = _read_table(_decode(path.read_bytes(), path), str(path), "path", labels)
    root = path.parent
    reader = _ListReader(name=path.stem, where=str(path), declared=tuple(table.bits), notes=_bits_notes(table))
    absolute = os.path.abspath(root)
    for row in _csv_rows(table, "path", labels):
        relative = _inside(row, absolute)
        reader.add(row, relative, root / relative)
    if table.bits:
        why = f"it has the column path and {len(table.bits)} columns that hold only 0 and 1"
        return reader.dataset(layout="CSV of paths and columns of 0 and 1", why=why)
    return reader.dataset(layout="CSV of paths and labels", why="it has the columns path and label")


def find_metadata(tree: Tree) -> list[str]:
    """metadata.csv or .jsonl in the root or in folders directly below it, as a Hugging Face imagefolder has them."""
    places = ["", *tree.folders_in("")]
    found = [name for place in places for name in tree.files_in(place) if base_of(name) in _METADATA]
    folders = [parent_of(name) for name in found]
    if len(set(folders)) < len(folders):
        raise DataError(f"{tree.where} has metadata.csv and metadata.jsonl side by side; keep one of them.")
    return found


def read_metadata(tree: Tree, tables: Sequence[str], labels: LabelFormat = AS_FOUND) -> Dataset:
    """Rows file_name, label of each table, below the table's own folder; a split folder gives its rows their split."""
    reader = _ListReader(name=tree.name, where=tree.where, exclusions=list(tree.exclusions), notes=list(tree.notes))
    for table in tables:
        prefix = f"{parent_of(table)}/" if parent_of(table) else ""
        for row in _metadata_rows(tree, table, labels):
            name = prefix + _inside(row, "/root")
            split = row.split or SPLIT_FOLDERS.get(name.partition("/")[0].lower())
            source = tree.files.get(name)
            if source is None:
                raise DataError(
                    f"{row.where} names {shown(row.path)}, which is not in {tree.where}. Add the file or drop the row."
                )
            reader.add(replace(row, split=split), name, source)
    listed = set(reader.names)
    reader.exclusions += [
        Exclusion(name=name, reason="not listed in the metadata")
        for name in tree.files
        if name not in listed and name not in tables
    ]
    return reader.dataset(layout="Hugging Face imagefolder", why=f"it holds {', '.join(tables[:3])}")


def _metadata_rows(tree: Tree, table: str, labels: LabelFormat) -> Iterator[Row]:
    where = f"{tree.where.rstrip('/')}/{table}"
    source = tree.files[table]
    text = _decode(source.read_bytes() if isinstance(source, Path) else source.read(), Path(where))
    if table.endswith(".csv"):
        return _csv_rows(_read_table(text, where, "file_name", labels), "file_name", labels)
    return _json_rows(text, where, labels)


def _decode(data: bytes, path: Path) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(f"{path} is UTF-16 text; save it as UTF-8 (in a spreadsheet: 'CSV UTF-8').")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        guess = data[max(0, error.start - 20) : error.start + 20].decode("latin-1").splitlines()
        raise DataError(
            f"{path} is not UTF-8: line {line} has the byte 0x{data[error.start]:02x} near {shown(guess[0] if guess else '')}. "
            "It may be Latin-1 or Windows-1252; convert it: iconv -f WINDOWS-1252 -t UTF-8."
        ) from None


@dataclass(frozen=True, kw_only=True)
class _Table:
    """The cells of a CSV file, its columns by their names in lower case, and of its columns of 0 and 1, the labels."""

    where: str
    at: Mapping[str, int]
    rows: Sequence[tuple[str, list[str]]]  # (where, cells)
    bits: dict[str, int]
    further: dict[str, int]  # the columns that are none of these


def _read_table(text: str, where: str, path_column: str, labels: LabelFormat) -> _Table:
    first_line = text.partition("\n")[0]
    delimiter = max(_DELIMITERS, key=first_line.count)
    csv.field_size_limit(_MAX_LINE)
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows: list[tuple[str, list[str]]] = []
    try:
        header = [column.strip() for column in next(lines, [])]
        for cells in lines:
            line = f"{where}, line {lines.line_num}"
            if cells and len(cells) != len(header):
                raise DataError(
                    f"{line} has {len(cells)} cells, but the header has {len(header)}. Put a cell that holds "
                    f"'{delimiter}' in double quotes."
                )
            rows += [(line, cells)] if cells else []
    except csv.Error as error:
        raise DataError(f"{where}, line {lines.line_num} is not valid CSV: {error}.") from None
    columns = [column.lower() for column in header]
    bits: dict[str, int] = {}
    if path_column in columns and not labels.separator and (labels.columns or "label" not in columns):
        bits = find_label_columns(header, rows, reserved=_RESERVED, wanted=labels.columns)
    label_column = None if bits else _label_column(columns, labels)
    at = _find_columns(columns, where, path_column, label_column=label_column)
    known = {*_RESERVED, label_column}
    further = {
        name: i for i, name in enumerate(header) if name and name.lower() not in known and i not in bits.values()
    }
    return _Table(where=where, at=at, rows=rows, bits=bits, further=further)


def _bits_notes(table: _Table) -> list[str]:
    if not table.bits:
        return []
    others = f"; no labels: {', '.join(list(table.further)[:10])}" if table.further else ""
    return [f"labels are the {len(table.bits)} columns {', '.join(list(table.bits)[:10])}{others}"]


def _csv_rows(table: _Table, path_column: str, labels: LabelFormat) -> Iterator[Row]:
    at = table.at
    label_at = -1 if table.bits else at[_label_column(list(at), labels)]
    for line, cells in table.rows:
        optional = [cells[at[c]].strip() or None if c in at else None for c in ("split", "group")]
        named = labels_of_bits(cells, table.bits) if table.bits else labels.labels_in(cells[label_at].strip())
        yield Row(
            line,
            cells[at[path_column]].strip(),
            named,
            _split_of(optional[0], line) if "split" in at else None,
            optional[1],
            is_list=bool(table.bits or labels.separator),
            columns=tuple((name, sys.intern(cells[i].strip())) for name, i in table.further.items()),
        )


def _label_column(columns: Sequence[str], labels: LabelFormat) -> str:
    return "labels" if labels.separator and "labels" in columns and "label" not in columns else "label"


def _find_columns(columns: list[str], where: str, path_column: str, *, label_column: str | None) -> dict[str, int]:
    """{column: its place}; `label_column` is None where other columns hold the labels."""
    if not any(columns):
        raise DataError(f"{where} is empty; expected a header with the columns {path_column} and label.")
    needed = [column for column in (path_column, label_column) if column is not None]
    for wanted in needed:
        if wanted not in columns:
            listed = ", ".join(column or "(no name)" for column in columns[:20])
            near = did_you_mean(wanted, columns)
            rename = f"{near} Rename that column to '{wanted}'." if near.startswith(" Did") else ""
            several = " For several labels an image, name the separator that joins them, or give columns of 0 and 1."
            raise DataError(
                f"{where} has no column '{wanted}'; it has: {listed}. Expected {path_column} and label, "
                f"and if you like, split and group.{rename}{several if wanted == 'label' else ''}"
            )
    twice = [column for column in (*needed, "split", "group") if columns.count(column) > 1]
    if twice:
        raise DataError(f"{where} has the column '{twice[0]}' twice; keep one of them.")
    return {column: i for i, column in enumerate(columns)}


def _split_of(cell: str | None, line: str) -> str:
    split = SPLIT_FOLDERS.get((cell or "").lower())
    if split is None:
        raise DataError(f"{line} has the split '{cell or ''}'; it must be train, val or test, in every row or in none.")
    return split


def _json_rows(text: str, where: str, labels: LabelFormat) -> Iterator[Row]:
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        here = f"{where}, line {number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{here} is not valid JSON: {str(error).splitlines()[0]}.") from None
        if not isinstance(row, Mapping):
            raise DataError(f'{here} is no JSON object; expected {{"file_name": ..., "label": ...}}.')
        keys = [str(key) for key in row]
        label_key = "labels" if "labels" in row and "label" not in row else "label"
        _find_columns(keys, here, "file_name", label_column=label_key)
        split = _split_of(str(row["split"]), here) if "split" in row else None
        group = row.get("group")
        value = row[label_key]
        further = {str(key): cell for key, cell in row.items() if key not in {*_RESERVED, label_key}}
        yield Row(
            here,
            str(row["file_name"]),
            _json_labels(value, here, labels),
            split,
            None if group is None else str(group),
            is_list=isinstance(value, list) or bool(labels.separator),
            columns=cells_of(further),
        )


def cells_of(row: Mapping[str, object]) -> tuple[tuple[str, str], ...]:
    """(name, text) of the numbers and texts of a row; what holds more, such as a list, is no column to slice by."""
    return tuple(
        (name, "" if cell is None else sys.intern(str(cell)))
        for name, cell in row.items()
        if cell is None or (isinstance(cell, (str, int, float)) and len(str(cell)) <= _MAX_CELL)
    )


def _json_labels(value: object, here: str, labels: LabelFormat) -> tuple[str, ...] | None:
    """None for null, which says that nobody has labelled the image; an empty list is an empty set of labels."""
    if value is None:
        return None
    if isinstance(value, list):
        return tuple(dict.fromkeys(_json_label(item, here) for item in value))
    return labels.labels_in(_json_label(value, here))


def _json_label(label: object, here: str) -> str:
    if isinstance(label, bool) or not isinstance(label, (str, int, float)):
        raise DataError(f"{here} has the label {str(label)[:40]}; expected one name or one number, or a list of them.")
    return str(label)


def _inside(row: Row, root: str) -> str:
    """The row's path relative to `root`, with '/'. DataError where it leads out of it."""
    path = row.path.replace("\\", "/") if os.sep == "/" and "/" not in row.path else row.path
    if not path:
        raise DataError(f"{row.where} has no path.")
    if "\0" in path:
        raise DataError(f"{row.where} has a path with a NUL character in it, which no file has.")
    full = os.path.normpath(os.path.join(root, path))
    relative = full[len(root) :].lstrip(os.sep) if full.startswith(root.rstrip(os.sep) + os.sep) else ""
    if not relative:
        raise DataError(
            f"{row.where} has the path {shown(row.path)}, which leads out of the list's folder. Paths must be relative to "
            "the list and lie below it: move the list beside the images."
        )
    return relative.replace(os.sep, "/")


@dataclass
class _ListReader:
    """Collects rows, drops those that repeat, and gives the labels their numbers at the end."""

    name: str
    where: str
    declared: tuple[str, ...] = ()  # class names, where columns name them
    exclusions: list[Exclusion] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    names: dict[str, Row] = field(default_factory=dict)
    sources: list[Path | Readable] = field(default_factory=list)

    def add(self, row: Row, name: str, source: Path | Readable) -> None:
        if row.labels is None:
            self.exclusions.append(Exclusion(name=name, reason=f"no label ({_line(row)})"))
            return
        first = self.names.get(name)
        if first is None:
            self.names[name] = row
            self.sources.append(source)
            return
        if (first.labels, first.split) != (row.labels, row.split):
            join = " Join the labels of an image in one row." if row.is_list else ""
            raise DataError(
                f"{row.where} gives {shown(name)} {_named(row)}{_in(row.split)}, but {_line(first)} gives it "
                f"{_named(first).rpartition('label ')[2]}{_in(first.split)}. One image has one "
                f"{'set of labels' if row.is_list else 'label'} and one split.{join}"
            )
        self.exclusions.append(Exclusion(name=name, reason=f"listed again ({_line(row)})"))

    def dataset(self, *, layout: str, why: str) -> Dataset:
        if not self.names:
            raise DataError(f"{self.where} lists no image with a label.")
        labels = self._labels()
        class_names = tuple(sorted({*labels.values(), *self.declared}, key=natural_key))
        if not class_names:
            raise DataError(f"no image that {self.where} lists has a label; there is nothing to learn.")
        number_of = {name: number for number, name in enumerate(class_names)}
        splits = {row.split for row in self.names.values()}
        if None in splits and len(splits) > 1:
            raise DataError(
                f"{self.where} lists some images in train, val or test folders and some outside; move these."
            )
        samples = tuple(
            Sample(
                name=name,
                source=source,
                labels=tuple(sorted(number_of[labels[label]] for label in row.labels or ())),
                split=row.split,
                group=row.group,
                columns=row.columns,
            )
            for (name, row), source in zip(self.names.items(), self.sources, strict=True)
        )
        return Dataset(
            name=self.name,
            layout=layout,
            why=why,
            class_names=class_names,
            samples=samples,
            task=self._task(),
            exclusions=tuple(self.exclusions),
            notes=(*self.notes, *case_notes(class_names)),
        )

    def _task(self) -> Task:
        return "multilabel" if any(row.is_list for row in self.names.values()) else "multiclass"

    def _labels(self) -> dict[str, str]:
        """{label as written: class name}. Numbers written as 1.0, as pandas does, become 1; a fraction is no class."""
        written = {label: row for row in self.names.values() for label in row.labels or ()}
        numbers = {label: _float(label) for label in written}
        if any(number is None for number in numbers.values()) or all("." not in label for label in written):
            return {label: class_name_of(label) for label in written}
        for label, number in numbers.items():
            if number is not None and number != int(number):
                raise DataError(
                    f"{written[label].where} has the label {label}, a fraction, and all labels are numbers. recog sorts images "
                    "into classes; make classes of the numbers first."
                )
        self.notes.append("labels such as 1.0 were read as 1")
        return {label: str(int(number or 0)) for label, number in numbers.items()}


def _line(row: Row) -> str:
    return row.where.rpartition(", ")[2]


def _named(row: Row) -> str:
    labels = row.labels or ()
    return f"the label '{labels[0]}'" if len(labels) == 1 else f"the labels {', '.join(labels) or '(none)'}"


def _in(split: str | None) -> str:
    return f" in {split}" if split else ""


def _float(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if abs(number) < 2**53 else None
