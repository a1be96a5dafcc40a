"""From what the user names to a Dataset: `open_source` decides what DATA is, in one place and one order."""

from __future__ import annotations

import difflib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from recog.core.errors import DataError
from recog.core.files import user_path
from recog.core.task import Task
from recog.data.archives.tars import is_tar, read_tar
from recog.data.archives.trees import tar_tree, zip_tree
from recog.data.archives.zips import is_zip
from recog.data.data_layout import COLUMN_OPTIONS, DETECTED, LIST_OPTIONS, DataLayout
from recog.data.dataset import NO_LABEL, Dataset, check_class_map
from recog.data.decisions import relabelled, without_decided
from recog.data.groups import with_groups
from recog.data.lists.csv_table import CSV_SUFFIXES
from recog.data.lists.label_format import AS_FOUND, LabelFormat
from recog.data.lists.pixels import find_pixels, read_pixels
from recog.data.lists.tables import LIST_SUFFIXES, read_list
from recog.data.lists.text_list import TEXT_LIST_SUFFIXES
from recog.data.names import SPLIT_FOLDERS, excluded_by
from recog.data.parquet.arrow import ARROW_SUFFIX, find_arrow
from recog.data.parquet.reader import find_parquet, is_parquet, read_parquet
from recog.data.parquet.schema import PARQUET_SUFFIXES
from recog.data.places import (
    HUB,
    check_not_packed,
    expand_pattern,
    is_address,
    is_pattern,
    local_path,
    only_matching,
    pattern_root,
    scheme_of,
)
from recog.data.readers.arrays import find_arrays, is_npz, read_arrays
from recog.data.readers.folders import read_folder
from recog.data.readers.hub import fetch_from_hub
from recog.data.readers.idx import find_idx, read_idx
from recog.data.readers.named import NAMED_SOURCES, read_digits
from recog.data.readers.own import Items, read_items
from recog.data.readers.shards import TAR_SUFFIXES, find_shards, has_labels, read_shards
from recog.data.readers.tree_layouts import read_tree
from recog.data.tree import ARCHIVE_SUFFIXES, exclusion_by, walk_tree

__all__ = ["NAMED_SOURCES", "SPLIT_FOLDERS", "Source", "open_source", "read_digits", "read_folder"]

Source = str | Path | Items | Mapping[str, Items]  # a path or a name; what `read_items` takes
KINDS = (
    "a folder of class folders (with or without train, val and test), a list of images (CSV, JSON, text), "
    "Parquet or Arrow files, arrays (.npz, .npy), a .zip or .tar of class folders, or WebDataset shards"
)
MAX_UNLABELLED = 0.01  # of the images that a list names; above it, something is wrong with the labels
_OTHER_TASK: Mapping[Task, str] = MappingProxyType(
    {
        "multilabel": "one label an image; expected none to several of each, as a multilabel bundle or task has. Give a list "
        "whose labels are joined by a separator (--label-separator '|'), columns of 0 and 1, or lists of labels.",
        "multiclass": "none to several labels an image; expected exactly one of each, as a multiclass bundle or task has it.",
    }
)
_BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")


def open_source(
    source: Source,
    *,
    one_class_map: bool = True,
    labels: LabelFormat = AS_FOUND,
    layout: DataLayout = DETECTED,
    class_names: Sequence[str] | None = None,
    default_names: Sequence[str] | None = None,
) -> Dataset:
    """The data that `source` means: an existing path before a name. `class_names`, `default_names`: as of `read_items`.

    Raises DataError where neither exists, nothing is in it, its layout cannot be understood, or, with `one_class_map`, one
    split lacks a class that another has. `labels` describes how several labels of one image are written, where lists need it;
    `layout` which folders are splits and classes, and which images belong together, where that cannot be detected.
    """
    if isinstance(source, str) and not source:
        raise DataError(
            "the name of the data is empty. Give a folder, a file or the name of a data set; '.' is this folder."
        )
    if isinstance(source, (str, Path)):
        source = local_path(str(source))
    try:
        if not isinstance(source, str):
            dataset = read_items(
                source, labels=labels, layout=layout, class_names=class_names, default_names=default_names
            )
            if layout.group and not any(isinstance(sample.source, Path) for sample in dataset.samples):
                raise DataError("groups are for files of images; these have no paths or columns. Leave group out.")
        elif class_names is None:
            dataset = _read(source, user_path(source), labels, layout)
        else:
            raise DataError(
                f"class_names names the labels of a Dataset; {source} has class names of its own. Leave it out."
            )
    except OSError as error:
        raise DataError(f"{error.filename or source} cannot be opened: {error.strerror}.") from None
    _check_labels_used(dataset, labels, source)
    dataset = _without_excluded(dataset, layout.exclude_patterns)
    dataset = without_decided(dataset, layout.exclude_files, relabel=layout.relabel)
    dataset = relabelled(dataset, layout.relabel, exclude=layout.exclude_files)
    dataset = _with_task(dataset, labels)
    if labels.task is not None and dataset.task != labels.task:
        raise DataError(f"{dataset.name} has {_OTHER_TASK[labels.task]}")
    _check_labelled(dataset)
    notes = dict.fromkeys((*dataset.notes, *look_alike_notes(dataset.class_names)))
    dataset = replace(dataset, notes=tuple(notes))
    dataset = with_groups(dataset, layout.group)
    if one_class_map:
        check_class_map(dataset)
    return dataset


def _check_labels_used(dataset: Dataset, labels: LabelFormat, source: object) -> None:
    if labels.is_given and dataset.task != "multilabel":
        raise DataError(
            f"{dataset.name} is {dataset.layout}, in which an image has one label; a label separator or label columns are "
            "for a CSV, a Parquet file, shards or Hugging Face metadata. Leave them out."
        )
    if labels.names and not (isinstance(source, str) and is_zip(user_path(source))):
        raise DataError(
            f"{dataset.name} is {dataset.layout}; an encoding of names is for a zip archive. Leave it out, or unpack with it."
        )


def _with_task(dataset: Dataset, labels: LabelFormat) -> Dataset:
    """As multiclass where every image has exactly one label, unless the user says how labels are joined or that any may be."""
    may_be = labels.task == "multiclass" or (labels.task is None and not labels.separator)
    if not may_be or any(len(sample.labels) != 1 for sample in dataset.samples):
        return dataset
    single = replace(dataset, task="multiclass")
    if labels.task is not None or single.task == dataset.task:
        return single
    note = "every image has exactly one label, so there is one class per image; --task multilabel reads any number of labels"
    return replace(single, notes=(*dataset.notes, note))


def _without_excluded(dataset: Dataset, globs: Sequence[str]) -> Dataset:
    """The dataset less the images that `globs` match, with a note. DataError where one of them matches nothing."""
    if not globs:
        return dataset
    unlabelled = [exclusion.name for exclusion in dataset.exclusions if exclusion.reason.startswith(NO_LABEL)]
    matched = {name: excluded_by(name, globs) for name in (*(sample.name for sample in dataset.samples), *unlabelled)}
    excluded = {name: exclusion_by(glob, name) for name, glob in matched.items() if glob is not None}
    others = tuple(exclusion for exclusion in dataset.exclusions if exclusion.name not in excluded)
    dataset = replace(dataset, exclusions=others).without(excluded.values())
    if not dataset.samples:
        raise DataError(f"--exclude leaves no image of {dataset.name}. Exclude less.")
    counts = Counter(exclusion.reason for exclusion in dataset.exclusions)
    numbers = {glob: counts[exclusion_by(glob, "").reason] for glob in globs}
    for glob, number in numbers.items():
        if not number:
            absent = f"there is no file {glob} that lists images, and " if glob.lower().endswith(".csv") else ""
            raise DataError(
                f"{absent}--exclude '{glob}' matches no file of {dataset.name}, whose first image is "
                f"{dataset.samples[0].name}. A pattern without '/' is compared with the names of files and folders, one with "
                "'/' with whole paths."
            )
    note = "left out by --exclude: " + ", ".join(f"{n:,} by '{glob}'" for glob, n in numbers.items())
    return replace(dataset, notes=(*dataset.notes, note))


def _check_labelled(dataset: Dataset) -> None:
    """DataError where more than 1 % of the images that a list names have no label, whatever the form of the list."""
    unlabelled = [exclusion for exclusion in dataset.exclusions if exclusion.reason.startswith(NO_LABEL)]
    total = len(dataset.samples) + len(unlabelled)
    if len(unlabelled) > MAX_UNLABELLED * total:
        hint = "".join(f" {note}." for note in dataset.notes if "--exclude" in note)
        raise DataError(
            f"{len(unlabelled):,} of {total:,} images of {dataset.name} have no label, more than {MAX_UNLABELLED:.0%}; the "
            f"first: {unlabelled[0].name}: {unlabelled[0].reason}. Label them, remove their rows, or leave the images out: "
            f"--exclude PATTERN.{hint}"
        )


def is_path(source: str) -> bool:
    """Whether a config file's `source` is a path, which is relative to that file: neither data by name nor an address."""
    return bool(source) and (os.path.exists(source) or not (source in NAMED_SOURCES or is_address(source)))


def _read_hub(source: str, labels: LabelFormat, layout: DataLayout) -> Dataset:
    folder, note = fetch_from_hub(source)
    dataset = _read_dir(folder, labels, layout)
    return replace(dataset, name=folder.parent.name.rpartition("--")[2], notes=(note, *dataset.notes))


def _read(source: str, path: Path, labels: LabelFormat, layout: DataLayout) -> Dataset:
    if scheme_of(source) == HUB:
        return _read_hub(source, labels, layout)
    if path.is_dir():
        return _read_dir(path, labels, layout)
    if path.is_file():
        return _read_file(path, labels, layout)
    if _BRACES.search(source):
        layout.check_unused(source, "a list of shards")
        name = _BRACES.sub("", path.stem).strip("-_.") or "shards"
        return read_shards(_expand(source), root=path.parent, name=name, labels=labels)
    if is_pattern(source):
        return _read_pattern(source, labels, layout)
    if path.exists():
        raise DataError(f"{source} is a pipe, socket or device; expected {KINDS}.")
    named = NAMED_SOURCES.get(source)
    if named is None:
        raise DataError(f"there is no {'file' if path.suffix else 'folder'} {source}.{_hint(path)}")
    layout.check_unused(source, "known by name")
    return named()


def _read_pattern(pattern: str, labels: LabelFormat, layout: DataLayout) -> Dataset:
    paths, root = expand_pattern(pattern), pattern_root(pattern)
    if len(paths) == 1:
        return _read(str(paths[0]), paths[0], labels, layout)
    if all(path.suffix.lower() in PARQUET_SUFFIXES for path in paths):
        layout.check_unused(pattern, "a list of Parquet files", takes=(*COLUMN_OPTIONS, "--images"))
        return read_parquet(paths, root=root, labels=labels, layout=layout)
    if all(path.name.lower().endswith(TAR_SUFFIXES) for path in paths):
        layout.check_unused(pattern, "a list of shards")
        return read_shards(paths, root=root, name=root.resolve().name, labels=labels)
    packed = [path for path in paths if path.name.lower().endswith((*ARCHIVE_SUFFIXES, *LIST_SUFFIXES))]
    if packed:
        raise DataError(
            f"{pattern} names {len(paths)} paths, among them {packed[0]}; expected folders, images, shards or Parquet files. "
            "Name one archive or list, or unpack the archives."
        )
    return read_tree(only_matching(walk_tree(root), root, paths, pattern), labels, layout)


def _read_dir(path: Path, labels: LabelFormat, layout: DataLayout) -> Dataset:
    if idx := find_idx(path):
        layout.check_unused(str(path), "a set of idx files")
        return read_idx(idx, name=path.resolve().name)
    if arrays := find_arrays(path):
        layout.check_unused(str(path), "a folder of arrays")
        return read_arrays(arrays)
    if saved := find_arrow(path):
        layout.check_unused(str(path), "a folder of Arrow files", takes=("--split-folders", *COLUMN_OPTIONS))
        return read_parquet(saved, root=path, labels=labels, layout=layout)
    if tables := find_parquet(path, layout):
        layout.check_unused(
            str(path), "a folder of Parquet files", takes=("--split-folders", *COLUMN_OPTIONS, "--images")
        )
        return read_parquet(tables, root=path, labels=labels, layout=layout)
    if shards := find_shards(path, layout):
        layout.check_unused(str(path), "a folder of shards", takes=("--split-folders",))
        return read_shards(shards, root=path, name=path.resolve().name, labels=labels, layout=layout)
    if pixels := find_pixels(path, layout):
        return read_pixels(pixels, path, labels, layout)
    return read_tree(walk_tree(path), labels, layout)


def _read_file(path: Path, labels: LabelFormat, layout: DataLayout) -> Dataset:
    suffix = path.suffix.lower()
    if suffix in (*PARQUET_SUFFIXES, ARROW_SUFFIX) or is_parquet(path):
        layout.check_unused(str(path), "one Parquet or Arrow file", takes=(*COLUMN_OPTIONS, "--images"))
        return read_parquet([path], root=path.parent, labels=labels, layout=layout)
    if suffix == ".npy" or is_npz(path):
        layout.check_unused(str(path), "a file of arrays")
        return read_arrays([path])
    if is_zip(path):
        return read_tree(zip_tree(path, encoding=labels.names), labels, layout)
    if is_tar(path):
        content = read_tar(path)
        if has_labels(content):
            layout.check_unused(str(path), "one WebDataset shard")
            return read_shards([path], root=path.parent, name=path.name.partition(".")[0], labels=labels)
        return read_tree(tar_tree(path, content), labels, layout)
    if suffix in LIST_SUFFIXES:
        takes = (*LIST_OPTIONS, "--label-pattern") if suffix in TEXT_LIST_SUFFIXES else LIST_OPTIONS
        layout.check_unused(str(path), "a list of images, which has a column 'split'", takes=takes)
        if suffix in CSV_SUFFIXES and (pixels := find_pixels(path, layout)):
            return read_pixels(pixels, path, labels, layout)
        return read_list(path, labels, layout)
    check_not_packed(path)
    raise DataError(f"{path} is a file; expected {KINDS}.")


def _expand(pattern: str) -> list[Path]:
    """The shards that a pattern such as train-{000..099}.tar names, as WebDataset writes it."""
    match = _BRACES.search(pattern)
    if match is None:
        return [Path(pattern)]
    first, last = match.groups()
    if not 0 <= int(last) - int(first) < 1_000_000:
        raise DataError(f"{pattern} names no shards: {first} to {last} must rise, by less than a million.")
    width = len(first) if first.startswith("0") else 0
    numbers = (f"{number:0{width}d}" for number in range(int(first), int(last) + 1))
    return [path for number in numbers for path in _expand(pattern[: match.start()] + number + pattern[match.end() :])]


def _hint(path: Path) -> str:
    parent = path.absolute().parent
    siblings = [p.name for p in parent.glob("*")] if parent.is_dir() else []
    near = difflib.get_close_matches(path.name, [*siblings, *NAMED_SOURCES], n=1)
    return f" Did you mean '{near[0]}'?" if near else f" Data by name: {', '.join(NAMED_SOURCES)}."


# Letters that most fonts draw as a Latin one, from the Unicode consortium's confusables.txt (UTS 39); the rarer are left out.
_CYRILLIC = dict(zip("АВЕЅІЈКМНОРСТУХаеорсухіјѕһԁԛԝ", "ABESIJKMHOPCTYXaeopcyxijshdqw", strict=True))
_GREEK = dict(zip("ΑΒΕΖΗΙΚΜΝΟΡΤΥΧαινορ", "ABEZHIKMNOPTYXaivop", strict=True))
_SIGNS = dict(zip("‐‑‒–—−‘’ʼ´`“”", "------'''''\"\"", strict=True))
_LATIN_OF = str.maketrans(_CYRILLIC | _GREEK | _SIGNS)


def look_alike_notes(class_names: Sequence[str]) -> Iterator[str]:
    """A sentence for each set of classes whose names look alike."""
    groups: dict[str, list[str]] = {}
    for name in class_names:
        groups.setdefault(_skeleton(name), []).append(name)
    for names in groups.values():
        if len(names) > 1:
            listed = " and ".join(f"'{name}'" for name in names)
            yield f"the classes {listed} differ by {_difference(names)} only and are taken as {len(names)} classes"


def _difference(names: Sequence[str]) -> str:
    """What the names, whose skeletons are equal, differ by: the first form that makes them equal tells it."""
    forms: dict[str, Callable[[str], str]] = {
        "case": str.casefold,
        "full-width or other forms of the same characters": _plain,
        "invisible characters or spaces": lambda name: _visible(_plain(name)),
    }
    for difference, form in forms.items():
        if len({form(name) for name in names}) == 1:
            return difference
    odd = sorted({c for name in names for c in unicodedata.normalize("NFKC", name) if ord(c) in _LATIN_OF})
    described = ", ".join(f"{unicodedata.name(c).lower()} U+{ord(c):04X}" for c in odd[:5])
    return f"characters that look alike ({described})"


def _skeleton(name: str) -> str:
    return _visible(unicodedata.normalize("NFKC", name).translate(_LATIN_OF).casefold())


def _plain(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold()


def _visible(name: str) -> str:
    """Without characters that draw nothing; all spaces alike, none at the ends or doubled."""
    kept = (c for c in name if c.isspace() or unicodedata.category(c) not in ("Cf", "Cc"))
    return " ".join("".join(kept).split())
