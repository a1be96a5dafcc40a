"""Lists of images: a CSV with path and label, and the metadata.csv or metadata.jsonl of a Hugging Face imagefolder."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from recog.core.config import did_you_mean
from recog.core.decode import Readable
from recog.core.errors import DataError
from recog.core.files import natural_key
from recog.data.dataset import Dataset, Exclusion, Sample
from recog.data.folders import SPLIT_FOLDERS, case_notes, class_name_of
from recog.data.members import shown
from recog.data.tree import Tree, base_of, parent_of

CSV_SUFFIXES = (".csv", ".tsv")
_METADATA = ("metadata.csv", "metadata.jsonl")
_DELIMITERS = ",;\t"
_NO_LABEL = frozenset({"", "nan", "<na>", "null"})
_MAX_LINE = 1 << 20


@dataclass(frozen=True)
class Row:
    """One line of a list; `where` names it for a person."""

    where: str
    path: str
    label: str
    split: str | None = None
    group: str | None = None


def read_csv(path: Path) -> Dataset:
    """Columns path and label, and if there, split and group; paths are relative to the CSV's folder."""
    text = _decode(path.read_bytes(), path)
    rows = _csv_rows(text, str(path), path_column="path")
    root = path.parent
    reader = _ListReader(name=path.stem, where=str(path))
    absolute = os.path.abspath(root)
    for row in rows:
        relative = _inside(row, absolute)
        reader.add(row, relative, root / relative)
    return reader.dataset(layout="CSV of paths and labels", why="it has the columns path and label")


def find_metadata(tree: Tree) -> list[str]:
    """metadata.csv or .jsonl in the root or in folders directly below it, as a Hugging Face imagefolder has them."""
    places = ["", *tree.folders_in("")]
    found = [name for place in places for name in tree.files_in(place) if base_of(name) in _METADATA]
    folders = [parent_of(name) for name in found]
    if len(set(folders)) < len(folders):
        raise DataError(f"{tree.where} has metadata.csv and metadata.jsonl side by side; keep one of them.")
    return found


def read_metadata(tree: Tree, tables: Sequence[str]) -> Dataset:
    """Rows file_name, label of each table, below the table's own folder; a split folder gives its rows their split."""
    reader = _ListReader(name=tree.name, where=tree.where, exclusions=list(tree.exclusions), notes=list(tree.notes))
    for table in tables:
        prefix = f"{parent_of(table)}/" if parent_of(table) else ""
        for row in _metadata_rows(tree, table):
            name = prefix + _inside(row, "/root")
            split = row.split or SPLIT_FOLDERS.get(name.partition("/")[0].lower())
            source = tree.files.get(name)
            if source is None:
                raise DataError(
                    f"{row.where} names {shown(row.path)}, which is not in {tree.where}. Add the file or drop the row."
                )
            reader.add(Row(row.where, row.path, row.label, split, row.group), name, source)
    listed = set(reader.names)
    reader.exclusions += [
        Exclusion(name=name, reason="not listed in the metadata")
        for name in tree.files
        if name not in listed and name not in tables
    ]
    return reader.dataset(layout="Hugging Face imagefolder", why=f"it holds {', '.join(tables[:3])}")


def _metadata_rows(tree: Tree, table: str) -> Iterator[Row]:
    where = f"{tree.where.rstrip('/')}/{table}"
    source = tree.files[table]
    text = _decode(source.read_bytes() if isinstance(source, Path) else source.read(), Path(where))
    if table.endswith(".csv"):
        return _csv_rows(text, where, path_column="file_name")
    return _json_rows(text, where)


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


def _csv_rows(text: str, where: str, *, path_column: str) -> Iterator[Row]:
    header = text.partition("\n")[0]
    delimiter = max(_DELIMITERS, key=header.count)
    csv.field_size_limit(_MAX_LINE)
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        columns = [column.strip().lower() for column in next(lines, [])]
        at = _find_columns(columns, where, path_column)
        for cells in lines:
            if not cells:
                continue
            line = f"{where}, line {lines.line_num}"
            if len(cells) != len(columns):
                raise DataError(
                    f"{line} has {len(cells)} cells, but the header has {len(columns)}. Put a cell that holds "
                    f"'{delimiter}' in double quotes."
                )
            optional = [cells[at[c]].strip() or None if c in at else None for c in ("split", "group")]
            split = _split_of(optional[0], line) if "split" in at else None
            yield Row(line, cells[at[path_column]].strip(), cells[at["label"]].strip(), split, optional[1])
    except csv.Error as error:
        raise DataError(f"{where}, line {lines.line_num} is not valid CSV: {error}.") from None


def _find_columns(columns: list[str], where: str, path_column: str) -> dict[str, int]:
    if not any(columns):
        raise DataError(f"{where} is empty; expected a header with the columns {path_column} and label.")
    for wanted in (path_column, "label"):
        if wanted not in columns:
            listed = ", ".join(column or "(no name)" for column in columns[:20])
            near = did_you_mean(wanted, columns)
            rename = f"{near} Rename that column to '{wanted}'." if near.startswith(" Did") else ""
            raise DataError(
                f"{where} has no column '{wanted}'; it has: {listed}. Expected {path_column} and label, "
                f"and if you like, split and group.{rename}"
            )
    twice = [column for column in (path_column, "label", "split", "group") if columns.count(column) > 1]
    if twice:
        raise DataError(f"{where} has the column '{twice[0]}' twice; keep one of them.")
    return {column: i for i, column in enumerate(columns)}


def _split_of(cell: str | None, line: str) -> str:
    split = SPLIT_FOLDERS.get((cell or "").lower())
    if split is None:
        raise DataError(f"{line} has the split '{cell or ''}'; it must be train, val or test, in every row or in none.")
    return split


def _json_rows(text: str, where: str) -> Iterator[Row]:
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
        _find_columns(keys, here, "file_name")
        split = _split_of(str(row["split"]), here) if "split" in row else None
        group = row.get("group")
        yield Row(
            here, str(row["file_name"]), _json_label(row["label"], here), split, None if group is None else str(group)
        )


def _json_label(label: object, here: str) -> str:
    if label is None:
        return ""
    if isinstance(label, bool) or not isinstance(label, (str, int, float)):
        raise DataError(f"{here} has the label {str(label)[:40]}; expected one name or one number.")
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
    exclusions: list[Exclusion] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    names: dict[str, Row] = field(default_factory=dict)
    sources: list[Path | Readable] = field(default_factory=list)

    def add(self, row: Row, name: str, source: Path | Readable) -> None:
        if row.label.lower() in _NO_LABEL:
            self.exclusions.append(Exclusion(name=name, reason=f"no label ({_line(row)})"))
            return
        first = self.names.get(name)
        if first is None:
            self.names[name] = row
            self.sources.append(source)
            return
        if (first.label, first.split) != (row.label, row.split):
            raise DataError(
                f"{row.where} gives {shown(name)} the label '{row.label}'{_in(row.split)}, but {_line(first)} gives it "
                f"'{first.label}'{_in(first.split)}. One image has one label and one split."
            )
        self.exclusions.append(Exclusion(name=name, reason=f"listed again ({_line(row)})"))

    def dataset(self, *, layout: str, why: str) -> Dataset:
        if not self.names:
            raise DataError(f"{self.where} lists no image with a label.")
        labels = self._labels()
        class_names = tuple(sorted(set(labels.values()), key=natural_key))
        number_of = {name: number for number, name in enumerate(class_names)}
        splits = {row.split for row in self.names.values()}
        if None in splits and len(splits) > 1:
            raise DataError(
                f"{self.where} lists some images in train, val or test folders and some outside; move these."
            )
        samples = tuple(
            Sample(name=name, source=source, labels=(number_of[labels[row.label]],), split=row.split, group=row.group)
            for (name, row), source in zip(self.names.items(), self.sources, strict=True)
        )
        return Dataset(
            name=self.name,
            layout=layout,
            why=why,
            class_names=class_names,
            samples=samples,
            exclusions=tuple(self.exclusions),
            notes=(*self.notes, *case_notes(class_names)),
        )

    def _labels(self) -> dict[str, str]:
        """{label as written: class name}. Numbers written as 1.0, as pandas does, become 1; a fraction is no class."""
        written = {row.label: row for row in self.names.values()}
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


def _in(split: str | None) -> str:
    return f" in {split}" if split else ""


def _float(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if abs(number) < 2**53 else None
