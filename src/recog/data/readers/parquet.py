"""Parquet, and Arrow files, as Hugging Face writes image data: a column image of {bytes, path} and a column label, a list of
labels, or columns of 0 and 1, one per label.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from recog.core.errors import DataError, missing_extra
from recog.core.files import is_hidden, natural_key
from recog.data.archives.members import DEFAULT_LIMITS, Spool, StoredBytes, check_totals
from recog.data.data_layout import DETECTED, DataLayout
from recog.data.dataset import NO_LABEL, Dataset, Exclusion, Sample
from recog.data.lists.columns import split_of_cell
from recog.data.lists.label_format import (
    AS_FOUND,
    LabelFormat,
    bit_text,
    check_same_columns,
    find_label_columns,
    joined_label_notes,
    label_column_notes,
    labels_of_bits,
)
from recog.data.lists.rows import cells_of
from recog.data.names import class_name_of, split_of_name, splits_of_files
from recog.data.readers.arrow import ARROW_SUFFIX, ArrowFile
from recog.data.readers.parquet_pages import holds_long_texts, largest_pages
from recog.data.readers.parquet_schema import (
    check_columns,
    declared_names,
    is_list,
    is_number,
    is_plain,
    is_text,
    label_column_of,
)

PARQUET_SUFFIXES = (".parquet", ".pq")
_MAGIC = b"PAR1"
_BATCH_ROWS = 256
_BATCH_BYTES = 64 << 20  # of the columns that are read; one row may take more
_READ_BYTES = 1 << 20  # of the file at a time; without it, pyarrow reads the whole column of a row group
_MAX_LABELS = 10_000  # of one image
_KNOWN = ("image", "split", "group")


def is_parquet(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(4) == _MAGIC
    except OSError:
        return False


def find_parquet(root: Path, layout: DataLayout = DETECTED) -> list[Path]:
    """Parquet files in `root`, in root/data as the hub has them, or in split folders.

    DataError where another folder holds such files too, beside split folders that do.
    """
    splits = [path for path in root.iterdir() if path.is_dir() and split_of_name(path.name)]
    if layout.split_folders or any(_is_parquet_name(path) for folder in splits for path in folder.iterdir()):
        splits = layout.split_dirs(root, _is_parquet_name, "Parquet files")
    places = splits if layout.split_folders else [root, *(p for p in [root / "data"] if p.is_dir()), *splits]
    found = [path for place in places for path in place.iterdir() if _is_parquet_name(path)]
    return sorted(found, key=lambda path: natural_key(path.relative_to(root).as_posix()))


def _is_parquet_name(path: Path) -> bool:
    return path.suffix.lower() in PARQUET_SUFFIXES and path.is_file() and not is_hidden(path.name)


@dataclass(frozen=True, kw_only=True)
class _File:
    """One Parquet file, opened, and where its labels stand."""

    path: Path
    name: str  # relative to the root, with '/'
    table: Any  # pyarrow.parquet.ParquetFile or ArrowFile
    split: str | None
    label_column: str | None  # None where `bits` hold the labels
    class_names: tuple[str, ...]  # that it declares
    bits: Mapping[str, str]  # {label: its column of 0 and 1}
    further: tuple[str, ...]  # columns to slice by
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Row:
    name: str
    source: StoredBytes
    labels: tuple[str, ...]
    split: str | None
    group: str | None
    is_list: bool  # written so that there may be none or several
    columns: tuple[tuple[str, str], ...]


def read_parquet(
    files: Sequence[Path], *, root: Path, labels: LabelFormat = AS_FOUND, layout: DataLayout = DETECTED
) -> Dataset:
    """Images of Parquet files are copied once into a temporary file, as these have no random access to a row."""
    exclusions: list[Exclusion] = []
    rows: list[_Row] = []
    notes: list[str] = []
    declared: list[tuple[str, ...]] = []
    bits = _find_bits(files, root, labels)
    is_arrow = files[0].suffix.lower() == ARROW_SUFFIX
    spool = Spool("reading Parquet", 0 if is_arrow else sum(path.stat().st_size for path in files))
    try:
        for path, split in zip(files, _splits_of(files, root, layout), strict=True):
            file = _describe(path, root, bits, split)
            declared.append(file.class_names)
            notes = [*label_column_notes(list(file.bits), file.further), *file.notes]
            rows += _rows(file, spool, exclusions, labels)
    finally:
        spool.close()
    if not rows:
        raise DataError(f"{root if len(files) > 1 else files[0]} holds no image with a label.")
    if len({row.split is None for row in rows}) > 1:
        raise DataError(f"some Parquet files of {root} are named for a split and some are not; name all of them.")
    if len(set(declared)) > 1:
        raise DataError(f"the Parquet files of {root} declare different class names; they are not of one dataset.")
    class_names = declared[0] or tuple(sorted({label for row in rows for label in row.labels}, key=natural_key))
    if not class_names:
        raise DataError(f"no image of {root if len(files) > 1 else files[0]} has a label; there is nothing to learn.")
    number_of = {name: number for number, name in enumerate(class_names)}
    is_list = any(row.is_list for row in rows)
    return Dataset(
        name=files[0].stem if len(files) == 1 else root.resolve().name,
        layout=f"{len(files)} {'Arrow' if is_arrow else 'Parquet'} file{'s' * (len(files) > 1)}",
        why=_why(bits, declared[0]),
        class_names=class_names,
        samples=tuple(
            Sample(
                name=row.name,
                source=row.source,
                labels=tuple(sorted(number_of[label] for label in row.labels)),
                split=row.split,
                group=row.group,
                columns=row.columns,
            )
            for row in rows
        ),
        task="multilabel" if is_list else "multiclass",
        has_label_columns=bool(bits),
        exclusions=tuple(exclusions),
        notes=(*notes, *(joined_label_notes(class_names) if not is_list else ())),
    )


def _why(bits: Mapping[str, str], declared: Sequence[str]) -> str:
    if bits:
        return f"the column image and {len(bits)} columns that hold only 0 and 1"
    return f"the columns image and label{'; class names from its schema' if declared else ''}"


def _find_bits(files: Sequence[Path], root: Path, labels: LabelFormat) -> dict[str, str]:
    """{label: its column of 0 and 1}, the same in all files; empty where a column of labels holds them."""
    found: list[tuple[str, Sequence[str]]] = []
    bits: dict[str, str] = {}
    for path in files:
        table = _open(path)
        schema, name = table.schema_arrow, path.relative_to(root).as_posix()
        has_label = label_column_of(table) in schema.names
        if labels.separator or "image" not in schema.names or (has_label and not labels.columns):
            return {}
        if _num_rows(table) == 0:
            continue
        header = [f.name for f in schema if f.name != "image" and (labels.columns or is_number(f.type))]
        wanted = labels.columns or header
        cells = ((row, [bit_text(values.get(c)) for c in header]) for row, values in _cells(table, path, name, wanted))
        columns = find_label_columns(header, cells, where=str(path), reserved=frozenset(_KNOWN), wanted=labels.columns)
        bits = {label: header[i] for label, i in columns.items()}
        found.append((str(path), tuple(bits)))
    check_same_columns(found)
    return bits


def _describe(path: Path, root: Path, bits: Mapping[str, str], split: str | None) -> _File:
    table = _open(path)
    label_column = None if bits else label_column_of(table)
    check_columns(table, path, label_column)
    known = {*_KNOWN, label_column, *bits.values()}
    plain = [field for field in table.schema_arrow if field.name not in known and is_plain(field.type)]
    long = [
        field.name
        for field in plain
        if is_text(field.type)
        and not isinstance(table, ArrowFile)
        and holds_long_texts(path, table.metadata, field.name)
    ]
    return _File(
        path=path,
        name=path.relative_to(root).as_posix(),
        table=table,
        split=split,
        label_column=label_column,
        class_names=tuple(sorted(bits, key=natural_key)) if bits else declared_names(table, path),
        bits=bits,
        further=tuple(field.name for field in plain if field.name not in long),
        notes=tuple(f"the column {name} holds long texts, so it is not read" for name in long),
    )


def _num_rows(table: Any) -> int:
    return int(table.num_rows if isinstance(table, ArrowFile) else table.metadata.num_rows)


def _open(path: Path) -> Any:
    if path.suffix.lower() == ARROW_SUFFIX:
        return ArrowFile(path)
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise missing_extra(error) or error from None
    try:
        table = pyarrow.parquet.ParquetFile(path, buffer_size=_READ_BYTES)
        lists = [field.name for field in table.schema_arrow if is_list(field.type) and is_text(field.type.value_type)]
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


def _rows(file: _File, spool: Spool, exclusions: list[Exclusion], labels: LabelFormat) -> Iterator[_Row]:
    further, names = file.further, file.table.schema_arrow.names
    label_columns = [file.label_column] if file.label_column is not None else list(file.bits.values())
    wanted = [*(column for column in _KNOWN if column in names), *label_columns, *further]
    place = {label: i for i, label in enumerate(file.bits)}
    packed_bytes, total = file.path.stat().st_size, 0
    for row, cells in _cells(file.table, file.path, file.name, wanted):
        found: tuple[tuple[str, ...], bool] | None
        if file.label_column is None:
            found = labels_of_bits([bit_text(cells[column]) for column in label_columns], place), True
        else:
            found = _labels_of(cells[file.label_column], file.class_names, labels, row)
        kept = _row(cells, row, found, file.split, spool, exclusions, cells_of({name: cells[name] for name in further}))
        if kept is not None:
            yield kept
        total += 0 if kept is None else kept.source.size
        check_totals(file.path, count=0, total=total, held=0, packed_bytes=packed_bytes, limits=DEFAULT_LIMITS)


def _cells(table: Any, path: Path, name: str, columns: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(name of the row, {column: cell}) of each row, read in batches of some 64 MiB. DataError where the file is damaged.

    Of an image that is a struct, 'bytes' and 'path' are read only.
    """
    import pyarrow

    if isinstance(table, ArrowFile):
        yield from _arrow_cells(table, name, columns)
        return
    leaves = [table.schema.column(i).path for i in range(len(table.schema))]
    is_struct = "image" in columns and "image" not in leaves
    read = [column for column in columns if column != "image" or not is_struct]
    read += [path for path in ("image.bytes", "image.path") if is_struct and path in leaves]
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


def _arrow_cells(table: ArrowFile, name: str, columns: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    import pyarrow

    try:
        for number, row in enumerate(table.rows(columns)):
            yield (
                f"{name}/{number:06d}",
                {column: cell if column == "image" else _cell(cell, table.path) for column, cell in row.items()},
            )
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise _damaged(table.path, error) from None


def _cell(scalar: Any, path: Path) -> Any:
    """A cell as Python has it."""
    if is_list(scalar.type) and scalar.is_valid and len(scalar) > _MAX_LABELS:
        raise DataError(f"{path} has {len(scalar):,} labels for one image; at most {_MAX_LABELS:,} are read.")
    return scalar.as_py()


def _row(
    cells: dict[str, Any],
    name: str,
    labels: tuple[tuple[str, ...], bool] | None,
    split: str | None,
    spool: Spool,
    exclusions: list[Exclusion],
    columns: tuple[tuple[str, str], ...],
) -> _Row | None:
    image = cells["image"]
    data = image.get("bytes") if isinstance(image, dict) else image
    if isinstance(image, dict) and image.get("path"):
        name = f"{name}/{image['path']}"
    if data is None:
        exclusions.append(Exclusion(name=name, reason="no bytes: the image is a path to another machine"))
        return None
    if labels is None:
        exclusions.append(Exclusion(name=name, reason=NO_LABEL))
        return None
    stated = cells.get("split")
    group = cells.get("group")
    return _Row(
        name=name,
        source=replace(data, name=name) if isinstance(data, StoredBytes) else spool.add(name, [data]),
        labels=labels[0],
        split=split if stated is None else split_of_cell(str(stated), name),
        group=None if group is None else str(group),
        is_list=labels[1],
        columns=columns,
    )


def _labels_of(
    cell: Any, names: tuple[str, ...], labels: LabelFormat, where: str
) -> tuple[tuple[str, ...], bool] | None:
    """(labels, whether there may be none or several); None where nobody has labelled the image."""
    if isinstance(cell, list):
        return tuple(dict.fromkeys(_label_of(item, names, where) for item in cell)), True
    if labels.separator and isinstance(cell, str):
        found = labels.labels_in(cell)
        return None if found is None else (tuple(_label_of(label, names, where) for label in found), True)
    if (
        cell is None or cell == "" or cell != cell or (names and cell == -1)
    ):  # NaN; -1: unlabelled in Hugging Face's data
        return None
    return (_label_of(cell, names, where),), False


def _label_of(label: Any, names: tuple[str, ...], where: str) -> str:
    if names and isinstance(label, int):
        if not 0 <= label < len(names):
            raise DataError(f"{where} has the label {label}, but the schema names {len(names)} classes.")
        label = names[label]
    text = class_name_of(str(label))
    if names and text not in names:
        raise DataError(f"{where} has the label '{text}', which the schema does not name.")
    return text


def _splits_of(files: Sequence[Path], root: Path, layout: DataLayout) -> list[str | None]:
    """By the split folder, else by the file's name, as the hub has it: train-00000-of-00003.parquet."""
    folders = ["" if path.parent == root else path.parent.relative_to(root).as_posix() for path in files]
    by_name = splits_of_files([path.name for path in files])
    return [layout.split_of_folder(folder) or split for folder, split in zip(folders, by_name, strict=True)]
