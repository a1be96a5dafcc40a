"""The cells of a Parquet or Arrow file, row by row, read within bounds of memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from recog.core.errors import DataError, missing_extra
from recog.data.parquet.arrow import ARROW_SUFFIX, ArrowFile
from recog.data.parquet.pages import largest_pages
from recog.data.parquet.schema import holds_list, is_text

_BATCH_ROWS = 256
_BATCH_BYTES = 64 << 20  # of the columns that are read; one row may take more
_READ_BYTES = 1 << 20  # of the file at a time; without it, pyarrow reads the whole column of a row group
_MAX_LABELS = 10_000  # of one image


def num_rows(table: Any) -> int:
    return int(table.num_rows if isinstance(table, ArrowFile) else table.metadata.num_rows)


def open_table(path: Path) -> Any:
    """A ParquetFile of pyarrow, or an ArrowFile. DataError where the file is damaged."""
    if path.suffix.lower() == ARROW_SUFFIX:
        return ArrowFile(path)
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise missing_extra(error) or error from None
    try:
        table = pyarrow.parquet.ParquetFile(path, buffer_size=_READ_BYTES)
        lists = [
            field.name for field in table.schema_arrow if holds_list(field.type) and is_text(field.type.value_type)
        ]
        if lists:  # a name in many lists is kept once
            leaves = [table.schema.column(i).path for i in range(len(table.schema))]
            in_lists = [path for path in leaves if path.partition(".")[0] in lists]
            table = pyarrow.parquet.ParquetFile(path, buffer_size=_READ_BYTES, read_dictionary=in_lists)
    except (pyarrow.ArrowException, OSError) as error:
        raise _damaged(path, error) from None
    return table


def _damaged(path: Path, error: Exception) -> DataError:
    sentence = str(error).strip().splitlines()[0].rstrip(".")
    return DataError(f"{path} is damaged or cut off ({sentence}). Download it again.")


def read_cells(
    table: Any, path: Path, name: str, columns: Sequence[str], image: str | None = None
) -> Iterator[tuple[str, dict[str, Any]]]:
    """(name of the row, {column: cell}) of each row, read in batches of some 64 MiB. DataError where the file is damaged.

    Of the column `image`, if it is of structs, 'bytes' and 'path' are read only.
    """
    import pyarrow

    if isinstance(table, ArrowFile):
        yield from _arrow_cells(table, name, columns, image)
        return
    leaves = [table.schema.column(i).path for i in range(len(table.schema))]
    is_struct = image is not None and image not in leaves
    read = [column for column in columns if column != image or not is_struct]
    read += [leaf for leaf in (f"{image}.bytes", f"{image}.path") if is_struct and leaf in leaves]
    number = 0
    try:
        for group in range(table.metadata.num_row_groups):
            row_group = table.metadata.row_group(group)
            if row_group.num_rows == 0:  # it has no pages either
                continue
            num_bytes = largest_pages(path, row_group, read)
            num_rows = max(1, min(_BATCH_ROWS, _BATCH_BYTES // max(1, num_bytes)))
            for batch in table.iter_batches(batch_size=num_rows, row_groups=[group], columns=read):
                for row in range(batch.num_rows):
                    yield f"{name}/{number:06d}", {column: _cell(batch.column(column)[row], path) for column in columns}
                    number += 1
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise _damaged(path, error) from None


def _arrow_cells(
    table: ArrowFile, name: str, columns: Sequence[str], image: str | None
) -> Iterator[tuple[str, dict[str, Any]]]:
    import pyarrow

    try:
        for number, row in enumerate(table.rows(columns, image)):
            yield (
                f"{name}/{number:06d}",
                {column: cell if column == image else _cell(cell, table.path) for column, cell in row.items()},
            )
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise _damaged(table.path, error) from None


def _cell(scalar: Any, path: Path) -> Any:
    """A cell as Python has it."""
    if holds_list(scalar.type) and scalar.is_valid and len(scalar) > _MAX_LABELS:
        raise DataError(f"{path} has {len(scalar):,} labels for one image; at most {_MAX_LABELS:,} are read.")
    return scalar.as_py()
