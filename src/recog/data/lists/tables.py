"""Lists of images: a CSV with path and label, and the metadata.csv or metadata.jsonl of a Hugging Face imagefolder."""

from __future__ import annotations

import csv
import io
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from recog.core.errors import DataError
from recog.core.files import natural_key, shown
from recog.core.images.decode import Readable
from recog.core.task import Task
from recog.data.data_layout import DETECTED, DataLayout
from recog.data.dataset import NO_LABEL, Dataset, Exclusion, Sample
from recog.data.lists.json_lines import json_listing
from recog.data.lists.label_format import (
    AS_FOUND,
    LabelFormat,
    check_same_columns,
    find_label_columns,
    label_column_notes,
    labels_of_bits,
)
from recog.data.lists.rows import RESERVED, Listing, Row, find_columns, split_of_cell
from recog.data.names import SPLIT_FOLDERS, class_name_of, split_of_name
from recog.data.tree import Tree, base_of, parent_of

CSV_SUFFIXES = (".csv", ".tsv")
_METADATA = ("metadata.csv", "metadata.jsonl")
_DELIMITERS = ",;\t"
_MAX_LINE = 1 << 20


def read_csv(path: Path, labels: LabelFormat = AS_FOUND) -> Dataset:
    """Columns path and label, and if there, split and group; paths are relative to the CSV's folder.

    In place of label there may be columns of 0 and 1, one per label.
    """
    table = _read_table(_decode(path.read_bytes(), path), str(path), "path", labels)
    root = path.parent
    listing = _csv_listing(table, "path", labels)
    reader = _ListReader(name=path.stem, where=str(path), declared=listing.label_columns, notes=listing.notes)
    absolute = os.path.abspath(root)
    for row in listing.rows:
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


def read_metadata(
    tree: Tree, tables: Sequence[str], labels: LabelFormat = AS_FOUND, layout: DataLayout = DETECTED
) -> Dataset:
    """Rows file_name, label of each table, below the table's own folder; a split folder gives its rows their split."""
    reader = _ListReader(name=tree.name, where=tree.where, exclusions=list(tree.exclusions), notes=list(tree.notes))
    split_of = _split_folders(tree, layout)
    found: list[tuple[str, tuple[str, ...]]] = []
    for table in tables:
        prefix = f"{parent_of(table)}/" if parent_of(table) else ""
        listing = _read_listing(tree, table, labels)
        found.append((f"{tree.where.rstrip('/')}/{table}", listing.label_columns))
        reader.declared = listing.label_columns
        reader.notes += [note for note in listing.notes if note not in reader.notes]
        for row in listing.rows:
            name = prefix + _inside(row, "/root")
            split = row.split or split_of.get(name.partition("/")[0])
            source = tree.files.get(name)
            if source is None:
                raise DataError(
                    f"{row.where} names {shown(row.path)}, which is not in {tree.where}. Add the file or drop the row."
                )
            if split is None and layout.split_folders:
                reader.exclusions.append(Exclusion(name=name, reason="not in one of the given split folders"))
            else:
                reader.add(replace(row, split=split), name, source)
    check_same_columns(found)
    listed, skipped = set(reader.names), {exclusion.name for exclusion in reader.exclusions}
    reader.exclusions += [
        Exclusion(name=name, reason="not listed in the metadata")
        for name in tree.files
        if name not in listed and name not in tables and name not in skipped
    ]
    return reader.dataset(layout="Hugging Face imagefolder", why=f"it holds {', '.join(tables[:3])}")


def _split_folders(tree: Tree, layout: DataLayout) -> dict[str, str]:
    """{folder in the root: its split}, as given, else by name: by any word of it where all folders have such a word."""
    layout.check_unused(tree.where, "a Hugging Face imagefolder", may_split=True)
    if layout.split_folders:
        given = {folder: split for split, folders in layout.given_splits.items() for folder in folders}
        missing = [folder for folder in given if folder not in tree.folders_in("")]
        if missing:
            raise DataError(f"{tree.where} has no folder '{missing[0]}', which --split-folders names.")
        return given
    folders = tree.folders_in("")
    words = {folder: split_of_name(folder) for folder in folders}
    named = words if all(words.values()) else {folder: SPLIT_FOLDERS.get(folder.lower()) for folder in folders}
    return {folder: split for folder, split in named.items() if split}


def _read_listing(tree: Tree, table: str, labels: LabelFormat) -> Listing:
    where = f"{tree.where.rstrip('/')}/{table}"
    source = tree.files[table]
    text = _decode(source.read_bytes() if isinstance(source, Path) else source.read(), Path(where))
    if table.endswith(".csv"):
        return _csv_listing(_read_table(text, where, "file_name", labels), "file_name", labels)
    return json_listing(text, where, labels)


def _csv_listing(table: _Table, path_column: str, labels: LabelFormat) -> Listing:
    notes = label_column_notes(list(table.bits), list(table.further))
    return Listing(_csv_rows(table, path_column, labels), tuple(table.bits), notes)


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
        bits = find_label_columns(header, rows, where=where, reserved=RESERVED, wanted=labels.columns)
    label_column = None if bits else _label_column(columns, labels)
    at = find_columns(columns, where, path_column, label_column=label_column)
    known = {*RESERVED, label_column}
    further = {
        name: i for i, name in enumerate(header) if name and name.lower() not in known and i not in bits.values()
    }
    return _Table(where=where, at=at, rows=rows, bits=bits, further=further)


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
            split_of_cell(optional[0], line) if "split" in at else None,
            optional[1],
            is_list=bool(table.bits or labels.separator),
            columns=tuple((name, sys.intern(cells[i].strip())) for name, i in table.further.items()),
        )


def _label_column(columns: Sequence[str], labels: LabelFormat) -> str:
    return "labels" if labels.separator and "labels" in columns and "label" not in columns else "label"


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
            self.exclusions.append(Exclusion(name=name, reason=f"{NO_LABEL} ({_line(row)})"))
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
                subfolder=base_of(parent_of(name)) or None,
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
            notes=tuple(self.notes),
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
