"""WebDataset shards: tar files in which key.jpg stands beside key.cls or key.json. Read in place; nothing is ever unpickled."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from recog.bundle.manifest import RUNS
from recog.core.errors import BadImage, DataError
from recog.core.files import is_hidden, is_written_by_recog, natural_key, shown
from recog.core.images.decode import Readable
from recog.core.images.formats import IMAGE_SUFFIXES, is_image_content
from recog.core.task import Task, joined_task
from recog.data.archives.members import RefusedMember, StoredBytes
from recog.data.archives.tars import TarContent, TarMember, is_tar, read_tar
from recog.data.archives.trees import end_mark_notes
from recog.data.data_layout import DETECTED, DataLayout
from recog.data.dataset import NO_LABEL, Dataset, Exclusion, Sample
from recog.data.lists.label_format import (
    AS_FOUND,
    LabelFormat,
    bit_text,
    find_label_columns,
    labels_of_bits,
)
from recog.data.lists.rows import cells_of
from recog.data.names import class_name_of, split_of_name, splits_of_files
from recog.data.tree import HIDDEN, base_of, parent_of

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")
PICKLED = frozenset({"pkl", "pickle", "pyd", "pth", "pt", "npy", "npz", "joblib"})
_LABELS = ("cls", "json")
_JSON_KEYS = ("label", "labels", "cls", "class", "class_name", "label_name")
_CLASS_NAMES = "classnames.txt"
_MAX_LABEL_BYTES = 1 << 20
_MAX_DIGITS = 9  # of a class's number; int() refuses very long ones


def find_shards(root: Path, layout: DataLayout = DETECTED) -> list[Path]:
    """Tar files directly in `root` or in split folders below it; none where there are other folders, which are classes then.

    DataError where one of these holds tar files too, beside split folders that do.
    """
    folders = [path for path in root.iterdir() if path.is_dir() and not is_hidden(path.name) and not _is_own(path)]
    splits = [path for path in folders if split_of_name(path.name)]
    if layout.split_folders or any(_shards_in(path) for path in splits):
        splits = layout.split_dirs(root, _is_shard_name, "tar files")
    elif len(splits) < len(folders):
        return []
    places = splits if layout.split_folders else [root, *splits]
    return [shard for place in places for shard in _shards_in(place)]


def _shards_in(folder: Path) -> list[Path]:
    return sorted(filter(_is_shard_name, folder.iterdir()), key=lambda path: natural_key(path.name))


def _is_own(folder: Path) -> bool:
    """Whether recog wrote `folder`: a run, or the folder of the runs."""
    names = [path.name for path in folder.iterdir()]
    return is_written_by_recog(names) or (folder.name == str(RUNS) and all(_is_own(folder / name) for name in names))


def _is_shard_name(path: Path) -> bool:
    return path.name.lower().endswith(TAR_SUFFIXES) and not is_hidden(path.name) and path.is_file()


def has_labels(content: TarContent) -> bool:
    """Whether a tar is a shard and no archive of class folders: a .cls anywhere, or a .json beside images outside of folders."""
    suffixes = {_last_dot(m.name)[1] for m in content.members if m.kind == "file"}
    if "cls" in suffixes:
        return True
    flat = {_last_dot(m.name)[1] for m in content.members if m.kind == "file" and not parent_of(m.name)}
    return "json" in flat and any(_is_image(suffix) for suffix in flat)


@dataclass(frozen=True)
class Labels:
    """As written: one, or of `task` multilabel a list that may hold none or several."""

    names: tuple[str, ...]
    task: Task


@dataclass
class _Record:
    """The facts of one key's members."""

    images: list[tuple[str, Readable]] = field(default_factory=list)  # (member, source)
    others: list[StoredBytes] = field(default_factory=list)  # of another suffix
    labels: Labels | None = None
    group: str | None = None
    columns: tuple[tuple[str, str], ...] = ()  # (key, text) of other entries of the .json


@dataclass(frozen=True)
class _Row:
    """One sample, with its labels as written."""

    name: str
    source: Readable
    labels: Labels
    split: str | None
    group: str | None
    columns: tuple[tuple[str, str], ...]


def read_shards(
    shards: Sequence[Path], *, root: Path, name: str, labels: LabelFormat = AS_FOUND, layout: DataLayout = DETECTED
) -> Dataset:
    """One sample per key. A shard whose name or folder begins with a split's name gives its samples that split.

    What key.json holds beside the label, in numbers and texts, are the sample's columns.
    """
    exclusions: list[Exclusion] = []
    notes: list[str] = []
    rows: list[_Row] = []
    for shard, split in zip(shards, _splits_of(shards, root, layout), strict=True):
        if not shard.is_file() or not is_tar(shard):
            what = "is not a tar archive" if shard.is_file() else "is not there"
            raise DataError(f"the shard {shard} {what}. Download it again, or leave it out.")
        content = read_tar(shard)
        notes += end_mark_notes(shard, content)
        prefix = _relative(shard, root)
        split_key = _key_rule([member.name for member in content.members if member.kind == "file"])
        if split_key is _last_dot:
            notes.append(f"{prefix}: names have dots, so a sample's key is all up to the last dot of the name")
        for key, record in _records(content, prefix, exclusions, labels, split_key).items():
            rows += _row(f"{prefix}/{key}", record, split, exclusions)
    if not rows:
        raise DataError(
            f"{name}: none of {len(shards)} shards holds an image with a label (key.jpg beside key.cls or key.json)."
        )
    if len({row.split is None for row in rows}) > 1:
        raise DataError(
            f"some shards of {name} are named for a split and some are not; name all of them train-, val- or test-."
        )
    named = {class_name_of(column) for column in labels.columns}
    class_names, label_of = _classes(named.union(*(row.labels.names for row in rows)), root)
    return Dataset(
        name=name,
        layout=f"{len(shards)} WebDataset shard{'s' * (len(shards) > 1)}",
        why="it holds tar files in which images stand beside .cls or .json",
        class_names=class_names,
        samples=tuple(
            Sample(
                name=row.name,
                source=row.source,
                labels=tuple(sorted(label_of[label] for label in row.labels.names)),
                split=row.split,
                group=row.group,
                columns=row.columns,
            )
            for row in rows
        ),
        task=joined_task(row.labels.task for row in rows),
        exclusions=tuple(exclusions),
        notes=tuple(notes),
    )


def _records(
    content: TarContent,
    prefix: str,
    exclusions: list[Exclusion],
    labels: LabelFormat,
    split_key: Callable[[str], tuple[str, str]],
) -> dict[str, _Record]:
    records: dict[str, _Record] = {}
    for member in content.members:
        name = f"{prefix}/{member.name}"
        key, suffix = split_key(member.name)
        if member.kind == "folder":
            continue
        if any(is_hidden(part) for part in member.name.split("/")):
            exclusions.append(Exclusion(name=name, reason=HIDDEN))
        elif suffix.rpartition(".")[2] in PICKLED:
            exclusions.append(
                Exclusion(name=name, reason=f"refused: to read .{suffix} may run code that is hidden in it")
            )
        elif _is_image(suffix):
            records.setdefault(key, _Record()).images.append((name, _image_of(member, name)))
        elif member.stored is None:
            exclusions.append(Exclusion(name=name, reason=f"a {member.kind} member, which is not read"))
        elif suffix in _LABELS:
            _add_labels(records.setdefault(key, _Record()), member.stored, suffix, name, labels)
        else:
            records.setdefault(key, _Record()).others.append(_renamed(member.stored, name))
    for record in records.values():
        if not record.images:
            record.images = [(other.name, other) for other in record.others if _holds_image(other)]
    return records


def _image_of(member: TarMember, name: str) -> Readable:
    if member.stored is None:
        return RefusedMember(name=name, reason=f"it is a {member.kind} member, which is not read")
    return _renamed(member.stored, name)


def _holds_image(stored: StoredBytes) -> bool:
    try:
        return is_image_content(stored.read_prefix())
    except BadImage:
        return False


def _add_labels(record: _Record, stored: StoredBytes, suffix: str, name: str, labels: LabelFormat) -> None:
    """Add a .cls or .json. DataError where another member of its key has another label."""
    text = _read_text(stored, name)
    if suffix == "cls":
        found = None if labels.columns else _labels_of(class_name_of(text.strip()), labels)
    else:
        table = _read_json(text, name)
        found = _labels_of_bits(table, name, labels) if labels.columns else _json_labels(table, labels)
        known = {"", "group", *(labels.columns or _JSON_KEYS)}
        if isinstance(table, Mapping):
            group = table.get("group")
            record.group = record.group if group is None else str(group)
            record.columns += cells_of({key: cell for key, cell in table.items() if key not in known})
    if record.labels is not None and found is not None and set(record.labels.names) != set(found.names):
        raise DataError(f"{name} gives the label {_shown(found)}, another member of its key {_shown(record.labels)}.")
    record.labels = found if found is not None else record.labels


def _renamed(stored: StoredBytes, name: str) -> StoredBytes:
    return StoredBytes(name=name, path=stored.path, offset=stored.offset, size=stored.size, owner=stored.owner)


def _row(where: str, record: _Record, split: str | None, exclusions: list[Exclusion]) -> Iterable[_Row]:
    if not record.images and record.labels is None:
        exclusions += [Exclusion(name=other.name, reason="neither an image nor a label") for other in record.others]
    elif not record.images:
        exclusions.append(Exclusion(name=where, reason="a label without an image of its key"))
    elif record.labels is None:
        exclusions.append(Exclusion(name=record.images[0][0], reason=f"{NO_LABEL} (no .cls or .json of its key)"))
    elif len(record.images) > 1:
        raise DataError(f"{where} has {len(record.images)} images of one key; a sample has one image.")
    else:
        name, source = record.images[0]
        return [_Row(name, source, record.labels, split, record.group, record.columns)]
    return []


def _shown(labels: Labels) -> str:
    return shown(", ".join(labels.names) or "(none)")


def _read_text(stored: StoredBytes, name: str) -> str:
    if stored.size > _MAX_LABEL_BYTES:
        raise DataError(f"{name} has {stored.size:,} bytes; a label is short.")
    try:
        return stored.read().decode("utf-8")
    except ValueError as error:
        raise _unreadable(name, error) from None


def _read_json(text: str, name: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _unreadable(name, error) from None


def _unreadable(name: str, error: Exception) -> DataError:
    return DataError(f"{name} cannot be read: {str(error).splitlines()[0]}.")


def _json_labels(table: object, labels: LabelFormat) -> Labels | None:
    """The labels as written; None where a .json tells none."""
    if isinstance(table, Mapping):
        found = [table[key] for key in _JSON_KEYS if table.get(key) is not None]
        table = found[0] if found else None
    if isinstance(table, list) and all(_is_label(item) for item in table):
        return Labels(tuple(dict.fromkeys(class_name_of(str(item)) for item in table)), task="multilabel")
    return _labels_of(class_name_of(str(table)), labels) if _is_label(table) else None


def _labels_of_bits(table: object, name: str, labels: LabelFormat) -> Labels:
    row = {key: bit_text(cell) for key, cell in table.items()} if isinstance(table, Mapping) else {}
    header, cells = list(row), list(row.values())
    at = find_label_columns(header, [(name, cells)], where=name, reserved=frozenset(), wanted=labels.columns)
    return Labels(labels_of_bits(cells, at), task="multilabel")


def _is_label(value: object) -> bool:
    return isinstance(value, (str, int)) and not isinstance(value, bool)


def _labels_of(text: str, labels: LabelFormat) -> Labels | None:
    if labels.separator:
        names = labels.labels_in(text)
        return None if names is None else Labels(names, task="multilabel")
    return Labels((text,), task="multiclass") if text else None


def _classes(labels: set[str], root: Path) -> tuple[tuple[str, ...], dict[str, int]]:
    """(class names, {label as written: number}). Whole numbers are looked up in classnames.txt beside the shards, if there."""
    listing = root / _CLASS_NAMES
    if listing.is_file() and all(label.isdecimal() and len(label) <= _MAX_DIGITS for label in labels):
        names = tuple(
            class_name_of(line.strip()) for line in listing.read_text(encoding="utf-8").splitlines() if line.strip()
        )
        highest = max(int(label) for label in labels)
        if highest >= len(names):
            raise DataError(f"{listing} names {len(names)} classes, but a label is {highest}; they count from 0.")
        if len(set(names)) < len(names):
            raise DataError(f"{listing} names a class twice.")
        return names, {label: int(label) for label in labels}
    names = tuple(sorted(labels, key=natural_key))
    return names, {label: number for number, label in enumerate(names)}


def _first_dot(name: str) -> tuple[str, str]:
    """(key, suffix) by WebDataset's rule: the key is all up to the first dot of the last part of the path."""
    base, dot, suffix = base_of(name).partition(".")
    parent = parent_of(name)
    return (f"{parent}/{base}" if parent else base), suffix.lower() if dot else ""


def _last_dot(name: str) -> tuple[str, str]:
    """(key, suffix) where keys have dots themselves, such as photo.v2.jpg with photo.v2.cls."""
    base, dot, suffix = base_of(name).rpartition(".")
    parent = parent_of(name)
    return (f"{parent}/{base}" if parent else base) if dot else name, suffix.lower() if dot else ""


def _key_rule(names: Sequence[str]) -> Callable[[str], tuple[str, str]]:
    """WebDataset's rule, unless more images have a label of their own by the other one."""
    return max((_first_dot, _last_dot), key=lambda rule: _num_paired(names, rule))


def _num_paired(names: Sequence[str], rule: Callable[[str], tuple[str, str]]) -> int:
    """How many images are the only one of their key, which has a label."""
    split = [rule(name) for name in names]
    num_images = Counter(key for key, suffix in split if _is_image(suffix))
    labelled = {key for key, suffix in split if suffix in _LABELS}
    return sum(count == 1 and key in labelled for key, count in num_images.items())


def _is_image(suffix: str) -> bool:
    return f".{suffix.rpartition('.')[2]}" in IMAGE_SUFFIXES


def _splits_of(shards: Sequence[Path], root: Path, layout: DataLayout) -> list[str | None]:
    """By the folder below `root`, else by the shard's name."""
    folders = ["" if shard.parent == root else _relative(shard.parent, root) for shard in shards]
    by_name = splits_of_files([shard.name for shard in shards])
    return [layout.split_of_folder(folder) or split for folder, split in zip(folders, by_name, strict=True)]


def _relative(shard: Path, root: Path) -> str:
    return os.path.relpath(shard, root).replace(os.sep, "/")
