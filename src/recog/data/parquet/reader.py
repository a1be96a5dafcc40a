"""Parquet, and Arrow files, as Hugging Face writes image data: a column image of {bytes, path} and a column label, a list of
labels, or columns of 0 and 1, one per label.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from recog.core.errors import DataError
from recog.core.files import is_hidden, natural_key
from recog.core.task import Task, joined_task
from recog.data.archives.members import DEFAULT_LIMITS, Spool, StoredBytes, check_totals
from recog.data.data_layout import COLUMN_OPTIONS, DETECTED, DataLayout
from recog.data.dataset import NO_LABEL, Dataset, Exclusion, Sample
from recog.data.lists.columns import OWN_NAMES, Columns, Role, missing_label, split_of_cell
from recog.data.lists.json_lines import Object
from recog.data.lists.label_format import (
    AS_FOUND,
    LABEL_NOTES,
    LabelFormat,
    bit_text,
    check_same_columns,
    find_label_columns,
    label_column_notes,
    labels_of_bits,
)
from recog.data.lists.rows import cells_of
from recog.data.lists.tables import read_list
from recog.data.names import class_name_of, split_of_name, splits_of_files
from recog.data.parquet.arrow import ARROW_SUFFIX, ArrowFile
from recog.data.parquet.cells import num_rows, open_table, read_cells
from recog.data.parquet.pages import holds_long_texts
from recog.data.parquet.schema import (
    PARQUET_SUFFIXES,
    check_columns,
    declared_names,
    find_schema_columns,
    holds_list,
    is_number,
    is_plain,
    is_text,
    path_column_of,
)

_MAGIC = b"PAR1"


def is_parquet(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(4) == _MAGIC
    except OSError:
        return False


def holds_no_images(path: Path) -> bool:
    """Whether a table has a column of paths, and none of encoded images."""
    return path_column_of(open_table(path)) is not None


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
    columns: Columns  # without a label where `bits` hold the labels
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
    task: Task  # multilabel: written so that there may be none or several
    columns: tuple[tuple[str, str], ...]


def read_parquet(
    files: Sequence[Path], *, root: Path, labels: LabelFormat = AS_FOUND, layout: DataLayout = DETECTED
) -> Dataset:
    """Images of Parquet files are copied once into a temporary file, as these have no random access to a row."""
    if all(map(holds_no_images, files)):
        return _read_paths(files, root, labels, layout)
    layout.check_unused(str(files[0]), "a table with the images in it", takes=("--split-folders", *COLUMN_OPTIONS))
    exclusions: list[Exclusion] = []
    rows: list[_Row] = []
    notes: list[str] = []
    declared: list[tuple[str, ...]] = []
    bits = _find_bits(files, root, labels, layout)
    is_arrow = files[0].suffix.lower() == ARROW_SUFFIX
    spool = Spool("reading Parquet", 0 if is_arrow else sum(path.stat().st_size for path in files))
    try:
        for path, split in zip(files, _splits_of(files, root, layout), strict=True):
            file = _describe(path, root, bits, split, layout)
            declared.append(file.class_names)
            notes = [*file.notes, *label_column_notes(list(file.bits), file.further)]
            names = file.columns.names
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
    task = joined_task(row.task for row in rows)
    return Dataset(
        name=files[0].stem if len(files) == 1 else root.resolve().name,
        layout=f"{len(files)} {'Arrow' if is_arrow else 'Parquet'} file{'s' * (len(files) > 1)}",
        why=_why(names, bits, declared[0]),
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
        task=task,
        exclusions=tuple(exclusions),
        notes=(*notes, *LABEL_NOTES[task](class_names)),
    )


def _read_paths(files: Sequence[Path], root: Path, labels: LabelFormat, layout: DataLayout) -> Dataset:
    """Tables of paths and labels, as a CSV has them; each may be named for its split."""
    rows: list[Object] = []
    for path, split in zip(files, _splits_of(files, root, layout), strict=True):
        of_file = list(path_rows(path))
        has_split = split is None or any("split" in row for _, row in of_file[:1])
        rows += of_file if has_split else [(where, {**row, "split": split}) for where, row in of_file]
    is_alone = len(files) == 1 and files[0].parent == root
    return read_list(files[0] if is_alone else root, labels, layout, objects=rows)


def path_rows(path: Path) -> Iterator[Object]:
    """(where, row) of each row of a table without encoded images. Numbers that the schema names become names."""
    table = open_table(path)
    columns = [field.name for field in table.schema_arrow if is_plain(field.type) or holds_list(field.type)]
    names = {column: declared_names(table, path, column) for column in columns}
    for number, (_, cells) in enumerate(read_cells(table, path, path.name, columns)):
        row = {c: _named(cell, names[c], f"{path}, row {number}") for c, cell in cells.items()}
        yield f"{path}, row {number}", row


def image_rows(path: Path, layout: DataLayout) -> Iterator[tuple[str, StoredBytes | None]]:
    """(name, encoded image) of each row of a table that holds the images; None where a row has none. Labels are not read.

    The images are copied into a temporary file that lasts as long as one of them.
    """
    table = open_table(path)
    columns, _ = _columns_of(table, path, path.name, layout)
    column = columns.names["path"]
    spool = Spool("reading Parquet", 0 if isinstance(table, ArrowFile) else path.stat().st_size)
    try:
        for name, cells in read_cells(table, path, path.name, [column], column):
            name, data = _image_in(cells[column], name)
            is_stored = data is None or isinstance(data, StoredBytes)
            yield name, data if is_stored else spool.add(name, [data])
    finally:
        spool.close()


def _image_in(cell: Any, name: str) -> tuple[str, Any]:
    """(the row's name, with the image's own where the cell has one; its encoded bytes, or None)."""
    if not isinstance(cell, dict):
        return name, cell
    return f"{name}/{cell['path']}" if cell.get("path") else name, cell.get("bytes")


def _named(cell: Any, names: tuple[str, ...], where: str) -> Any:
    if isinstance(cell, list):
        return [_named(item, names, where) for item in cell]
    is_number = names and isinstance(cell, int)
    return None if is_number and cell == -1 else _label_of(cell, names, where) if is_number else cell


def _why(names: Mapping[Role, str], bits: Mapping[str, str], declared: Sequence[str]) -> str:
    if bits:
        return f"the column {names['path']} and {len(bits)} columns that hold only 0 and 1"
    from_schema = "; class names from its schema" if declared else ""
    return f"the columns {names['path']} and {names['label']}{from_schema}"


def _columns_of(table: Any, path: Path, name: str, layout: DataLayout) -> tuple[Columns, list[str]]:
    """The columns by their roles, and those of long texts, which are not read."""
    fields = [field for field in table.schema_arrow if is_text(field.type)]
    long = [
        f.name for f in fields if not isinstance(table, ArrowFile) and holds_long_texts(path, table.metadata, f.name)
    ]

    def cells(place: int) -> Iterator[str]:
        column = table.schema_arrow.names[place]
        return (bit_text(row[column]) for _, row in read_cells(table, path, name, [column]))

    return find_schema_columns(table, path, cells, layout, long), long


def _find_bits(files: Sequence[Path], root: Path, labels: LabelFormat, layout: DataLayout) -> dict[str, str]:
    """{label: its column of 0 and 1}, the same in all files; empty where a column of labels holds them."""
    found: list[tuple[str, Sequence[str]]] = []
    bits: dict[str, str] = {}
    for path in files:
        table = open_table(path)
        schema, name = table.schema_arrow, path.relative_to(root).as_posix()
        columns, _ = _columns_of(table, path, name, layout)
        if labels.separator or ("label" in columns.at and not labels.columns):
            return {}
        if num_rows(table) == 0:
            continue
        header = [f.name for f in schema if f.name != columns.names["path"] and (labels.columns or is_number(f.type))]
        wanted = labels.columns or header
        cells = (
            (row, [bit_text(values.get(c)) for c in header]) for row, values in read_cells(table, path, name, wanted)
        )
        places = find_label_columns(header, cells, where=str(path), reserved=columns.reserved, wanted=labels.columns)
        bits = {label: header[i] for label, i in places.items()}
        found.append((str(path), tuple(bits)))
    check_same_columns(found)
    return bits


def _describe(path: Path, root: Path, bits: Mapping[str, str], split: str | None, layout: DataLayout) -> _File:
    table, name = open_table(path), path.relative_to(root).as_posix()
    columns, long = _columns_of(table, path, name, layout)
    if bits:
        columns = replace(columns, at={role: place for role, place in columns.at.items() if role != "label"})
    elif "label" not in columns.at:
        raise missing_label(columns, str(path))
    check_columns(table, path, columns)
    used = {*OWN_NAMES["split"], *OWN_NAMES["group"], *columns.names.values(), *bits.values()}
    used -= {columns.names.get("group", "")} - set(OWN_NAMES["group"])  # a group by another name is to slice by too
    plain = [field.name for field in table.schema_arrow if field.name not in used and is_plain(field.type)]
    unread = [column for column in plain if column in long]
    return _File(
        path=path,
        name=name,
        table=table,
        split=split,
        columns=columns,
        class_names=tuple(sorted(bits, key=natural_key))
        if bits
        else declared_names(table, path, columns.names["label"]),
        bits=bits,
        further=tuple(column for column in plain if column not in long),
        notes=(*columns.notes, *(f"the column {column} holds long texts, so it is not read" for column in unread)),
    )


def _rows(file: _File, spool: Spool, exclusions: list[Exclusion], labels: LabelFormat) -> Iterator[_Row]:
    names, further = file.columns.names, file.further
    label_columns = [names["label"]] if "label" in names else list(file.bits.values())
    wanted = list(dict.fromkeys([*names.values(), *label_columns, *further]))
    place = {label: i for i, label in enumerate(file.bits)}
    packed_bytes, total = file.path.stat().st_size, 0
    for row, cells in read_cells(file.table, file.path, file.name, wanted, names["path"]):
        found: tuple[tuple[str, ...], Task] | None
        if "label" not in names:
            found = labels_of_bits([bit_text(cells[column]) for column in label_columns], place), "multilabel"
        else:
            found = _labels_of(cells[names["label"]], file.class_names, labels, row)
        by_role = {role: cells[name] for role, name in names.items()}
        slices = cells_of({name: cells[name] for name in further})
        kept = _row(by_role, row, found, file, spool, exclusions, slices)
        if kept is not None:
            yield kept
        total += 0 if kept is None else kept.source.size
        check_totals(file.path, count=0, total=total, held=0, packed_bytes=packed_bytes, limits=DEFAULT_LIMITS)


def _row(
    cells: Mapping[Role, Any],
    name: str,
    labels: tuple[tuple[str, ...], Task] | None,
    file: _File,
    spool: Spool,
    exclusions: list[Exclusion],
    columns: tuple[tuple[str, str], ...],
) -> _Row | None:
    name, data = _image_in(cells["path"], name)
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
        split=file.split if stated is None else split_of_cell(str(stated), name, file.columns.names["split"]),
        group=None if group is None else str(group),
        task=labels[1],
        columns=columns,
    )


def _labels_of(
    cell: Any, names: tuple[str, ...], labels: LabelFormat, where: str
) -> tuple[tuple[str, ...], Task] | None:
    """(labels, multilabel where there may be none or several); None where the image has no label."""
    if isinstance(cell, list):
        return tuple(dict.fromkeys(_label_of(item, names, where) for item in cell)), "multilabel"
    if labels.separator and isinstance(cell, str):
        found = labels.labels_in(cell)
        return None if found is None else (tuple(_label_of(label, names, where) for label in found), "multilabel")
    if (
        cell is None or cell == "" or cell != cell or (names and cell == -1)
    ):  # NaN; -1: unlabelled in Hugging Face's data
        return None
    return (_label_of(cell, names, where),), "multiclass"


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
