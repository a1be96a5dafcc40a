"""Tables such as answers as CSV, JSON, JSON lines or Parquet, row by row, into a new file or on standard output."""

from __future__ import annotations

import contextlib
import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, Generic, Protocol, TextIO, TypeVar

from recog.answers.columns import SEPARATOR, Cell, Column
from recog.answers.stream import Answer
from recog.core.errors import BadImage, ConfigError
from recog.core.files import new_file
from recog.core.outputs import check_new_path
from recog.core.text import escape_json, visible
from recog.report.text import spreadsheet_cell

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)
_INSTEAD = " For standard output use --csv or --json."
_ROWS_OF_GROUP = 10_000  # that are held until they are written to a Parquet file


class Writer(Protocol[T_contra]):
    """`add` each row in order, then `close`."""

    def add(self, row: T_contra) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Layout(Generic[T]):
    """What is written of each T, a row of the table."""

    columns: tuple[Column[T], ...]
    raw: bool = False  # CSV without the quote before cells that a spreadsheet would run

    def record(self, row: T) -> dict[str, Any]:
        """Plain values for JSON."""
        return {column.header: column.value(row) for column in self.columns}


@dataclass(frozen=True, kw_only=True)
class AnswerLayout(Layout[Answer]):
    """What is written of an answer: `columns`, or in JSON by default the nested `record` of it."""

    is_nested: bool  # no columns were asked for
    top: int
    sets: bool

    def record(self, row: Answer) -> dict[str, Any]:
        """Plain values for JSON."""
        if not self.is_nested:
            return super().record(row)
        result = row.result
        if isinstance(result, BadImage):
            return {"file": row.name, "error": result.reason, "remedy": result.remedy}
        table = result.to_dict(top=self.top)
        if not self.sets:
            table.pop("label_set", None)
        return {"file": row.name, **table, **result.labels_dict(row.labels)}


class CsvWriter(Generic[T]):
    """A header and a row each; hidden characters are escaped."""

    def __init__(self, file: TextIO, layout: Layout[T]) -> None:
        self._layout = layout
        self._rows = csv.writer(file, lineterminator="\n")
        self._write([column.header for column in layout.columns])

    def add(self, row: T) -> None:
        self._write([_text(column.value(row)) for column in self._layout.columns])

    def close(self) -> None:
        pass

    def _write(self, cells: Sequence[str]) -> None:
        texts = map(visible, cells)
        self._rows.writerow(texts if self._layout.raw else map(spreadsheet_cell, texts))


class JsonWriter(Generic[T]):
    """One list of all, or with `lines` an object per line. `ascii`: valid in every encoding."""

    def __init__(self, file: TextIO, layout: Layout[T], *, lines: bool = False, ascii_only: bool = False) -> None:
        self._file, self._layout, self._lines, self._ascii_only = file, layout, lines, ascii_only
        self._num_written = 0

    def add(self, row: T) -> None:
        record = self._layout.record(row)
        text = json.dumps(record, indent=None if self._lines else 2, ensure_ascii=self._ascii_only, allow_nan=False)
        text = escape_json(text)
        if self._lines:
            self._file.write(f"{text}\n")
        else:
            self._file.write(",\n  " if self._num_written else "[\n  ")
            self._file.write(text.replace("\n", "\n  "))
        self._num_written += 1

    def close(self) -> None:
        if not self._lines:
            self._file.write("\n]\n" if self._num_written else "[]\n")


@dataclass
class ParquetWriter(Generic[T]):
    """Typed columns: text, float64, boolean and lists of text. Hidden characters are escaped, as in a CSV."""

    file: BinaryIO
    layout: Layout[T]
    _rows: list[tuple[Cell, ...]] = field(default_factory=list)

    def __post_init__(self) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        kinds = {"text": pa.string(), "number": pa.float64(), "flag": pa.bool_(), "texts": pa.list_(pa.string())}
        self._schema = pa.schema([(visible(column.header), kinds[column.kind]) for column in self.layout.columns])
        self._writer = parquet.ParquetWriter(self.file, self._schema)

    def add(self, row: T) -> None:
        self._rows.append(tuple(_escaped(column.value(row)) for column in self.layout.columns))
        if len(self._rows) >= _ROWS_OF_GROUP:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        import pyarrow as pa

        columns = zip(*self._rows, strict=True) if self._rows else [()] * len(self._schema)
        arrays = [pa.array(values, kind) for values, kind in zip(columns, self._schema.types, strict=True)]
        self._writer.write_table(pa.table(arrays, schema=self._schema))
        self._rows.clear()


class _Encoded(Generic[T]):
    """A writer of text on a binary file, as UTF-8."""

    def __init__(self, file: BinaryIO, writer: Callable[[TextIO], Writer[T]]) -> None:
        self._text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        self._writer = writer(self._text)

    def add(self, row: T) -> None:
        self._writer.add(row)

    def close(self) -> None:
        self._writer.close()
        self._text.detach()  # flushed; the file stays open for its owner


WRITERS: Mapping[str, Callable[[BinaryIO, Layout[Any]], Writer[Any]]] = MappingProxyType(
    {
        ".csv": lambda file, layout: _Encoded(file, lambda text: CsvWriter(text, layout)),
        ".json": lambda file, layout: _Encoded(file, lambda text: JsonWriter(text, layout)),
        ".jsonl": lambda file, layout: _Encoded(file, lambda text: JsonWriter(text, layout, lines=True)),
        ".parquet": ParquetWriter,
    }
)


def check_output(path: Path, option: str = "--output", *, instead: str = _INSTEAD) -> None:
    """ConfigError, DataError or DiskError unless `path` is a new file of a known kind that can be created."""
    if path.suffix.lower() not in WRITERS:
        *first, last = WRITERS
        raise ConfigError(f"{option} is {path}; its name has to end with {', '.join(first)} or {last}.{instead}")
    check_new_path(path, option)
    if path.suffix.lower() == ".parquet":
        import pyarrow  # noqa: F401  missing: reported before the work


@contextlib.contextmanager
def answer_file(path: Path, layout: Layout[T]) -> Iterator[Writer[T]]:
    """A writer whose file becomes `path` when the block ends, and vanishes when the block raises."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with new_file(path) as file:
        writer = WRITERS[path.suffix.lower()](file, layout)
        try:
            yield writer
        finally:  # also of a file that will vanish: pyarrow would write to it when it is closed
            writer.close()


def _text(cell: Cell) -> str:
    if cell is None:
        return ""
    if isinstance(cell, list):
        return SEPARATOR.join(cell)
    if isinstance(cell, bool):
        return "true" if cell else "false"
    return f"{cell:.6f}" if isinstance(cell, float) else cell


def _escaped(cell: Cell) -> Cell:
    if isinstance(cell, list):
        return [visible(text) for text in cell]
    return visible(cell) if isinstance(cell, str) else cell
