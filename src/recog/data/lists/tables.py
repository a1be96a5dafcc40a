"""Lists of images: a CSV, text, JSON or XML file, and those that stand in a folder or archive, such as metadata.csv."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from recog.core.errors import DataError
from recog.core.files import shown, size_of_regular
from recog.core.images.decode import Readable
from recog.data.data_layout import DETECTED, LIST_OPTIONS, DataLayout
from recog.data.dataset import Dataset, Exclusion
from recog.data.lists.csv_table import CSV_SUFFIXES, csv_listing, decode_text, read_table
from recog.data.lists.exports.cvat import XML_SUFFIXES, cvat_listing
from recog.data.lists.image_finder import (
    ImageFinder,
    MissingFile,
    disk_place,
    given_places,
    places_in_tree,
    places_on_disk,
)
from recog.data.lists.json_document import JSON_SUFFIXES, document_listing
from recog.data.lists.json_lines import JSON_LINES_SUFFIXES, Object, json_listing, object_listing
from recog.data.lists.label_format import AS_FOUND, LabelFormat, check_same_columns
from recog.data.lists.list_reader import ListReader
from recog.data.lists.rows import Listing
from recog.data.lists.text_list import TEXT_LIST_SUFFIXES, is_table, lists_images, text_listing
from recog.data.names import SPLIT_FOLDERS, split_of_name
from recog.data.tree import Tree, base_of, parent_of

LIST_SUFFIXES = (*CSV_SUFFIXES, *JSON_LINES_SUFFIXES, *JSON_SUFFIXES, *TEXT_LIST_SUFFIXES, *XML_SUFFIXES)
_METADATA = ("metadata.csv", "metadata.jsonl", "_annotations.coco.json")  # the last is Roboflow's
_MAX_BYTES = 1 << 30  # of a list
_LOOKED_AT = 4096  # bytes of a text file that tell whether it lists images


def read_list(
    path: Path,
    labels: LabelFormat = AS_FOUND,
    layout: DataLayout = DETECTED,
    *,
    objects: Sequence[Object] | None = None,
) -> Dataset:
    """A list of paths and labels, and if there, splits and groups. The images lie below the folders that `layout` names,
    else below the list's own folder or those beside it (`places_on_disk`).

    In place of labels there may be columns of 0 and 1, one per label. `objects` are its rows where they are read already.
    """
    folder = path if path.is_dir() else path.parent  # `objects` may stand in several files of a folder
    places = given_places(layout.images) if layout.images else places_on_disk(folder, path.stem)
    finder = ImageFinder(places, split_of_name(path.stem), is_given=bool(layout.images))
    if objects is not None:
        listing = object_listing(objects, str(path), labels, layout, form="Parquet")
    else:
        listing = read_listing(path, str(path), labels, layout, finder)
    reader = ListReader(
        name=path.resolve().name if path.is_dir() else path.stem,
        where=str(path),
        declared=listing.label_columns,
        notes=listing.notes,
        task=labels.task,
        beside=[disk_place(folder, "")],
    )
    add_rows(reader, listing, finder)
    finder.check_any_found(str(path), len(reader.names))
    reader.notes += finder.notes
    return reader.dataset(layout=listing.kind, why=listing.why)


def add_rows(reader: ListReader, listing: Listing, finder: ImageFinder) -> None:
    for row in listing.rows:
        found = finder.find(row.path, row.split, row.where)
        reader.add(row, found.name, found.source)


def read_listing(
    source: Path | Readable,
    where: str,
    labels: LabelFormat,
    layout: DataLayout,
    finder: ImageFinder,
    first: str = "path",
) -> Listing:
    """The rows of one file, of the kind that the end of `where` tells."""
    if isinstance(source, Path) and (size := size_of_regular(source)) > _MAX_BYTES:
        raise DataError(f"{where} has {size:,} bytes; at most {_MAX_BYTES:,} of a list are read.")
    data = source.read_bytes() if isinstance(source, Path) else source.read()
    text = decode_text(data, where, layout.encoding)
    suffix = where.lower()
    if suffix.endswith(JSON_LINES_SUFFIXES):
        return json_listing(text, where, labels, layout)
    if suffix.endswith(XML_SUFFIXES):
        layout.check_unused(where, "annotations of CVAT", takes=("--images", "--encoding"))
        if labels.is_given:
            raise DataError(
                f"{where} is an export of CVAT, in which each label is a tag. Leave the options for labels out."
            )
        return cvat_listing(text, where)
    if suffix.endswith(JSON_SUFFIXES):
        return document_listing(text, where, labels, layout, finder.holds)
    if suffix.endswith(TEXT_LIST_SUFFIXES) and not is_table(text):
        return text_listing(text, where, labels, layout)
    layout.check_unused(where, "a table", takes=("--split-folders", *LIST_OPTIONS))
    return csv_listing(read_table(text, where, layout, finder.holds), labels, layout, first=first)


def find_metadata(tree: Tree) -> list[str]:
    """metadata.csv, .jsonl or Roboflow's COCO file in the root or in folders directly below it; else lists of splits."""
    places = ["", *tree.folders_in("")]
    found = [name for place in places for name in tree.files_in(place) if base_of(name) in _METADATA]
    folders = [parent_of(name) for name in found]
    twice = next((folder for folder in folders if folders.count(folder) > 1), None)
    if twice is not None:
        both = " and ".join(base_of(name) for name in found if parent_of(name) == twice)
        raise DataError(f"{tree.where} has {both} side by side; keep one of them.")
    return found or _split_lists(tree)


def _split_lists(tree: Tree) -> list[str]:
    """train.txt and test.txt or the like in the root, whose first lines name images that are there, with labels."""
    names = [name for name in tree.files_in("") if name.lower().endswith(TEXT_LIST_SUFFIXES)]
    splits = [split for name in names if (split := split_of_name(name.rpartition(".")[0]))]
    if "train" not in splits or len(set(splits)) < max(2, len(splits)):
        return []
    lists = [name for name in names if split_of_name(name.rpartition(".")[0])]
    finder = ImageFinder(places_in_tree(tree, ""))
    return lists if all(lists_images(beginning_of(tree.files[name]), finder.holds) for name in lists) else []


def beginning_of(source: Path | Readable) -> str:
    """The first text of a file, enough to tell what it is."""
    if isinstance(source, Path):
        with source.open("rb") as file:
            return file.read(_LOOKED_AT).decode("utf-8", "replace")
    return source.read()[:_LOOKED_AT].decode("utf-8", "replace")


def read_metadata(
    tree: Tree, tables: Sequence[str], labels: LabelFormat = AS_FOUND, layout: DataLayout = DETECTED
) -> Dataset:
    """Rows file_name, label of each table, below the table's own folder; a split folder gives its rows their split."""
    layout.check_unused(tree.where, "a Hugging Face imagefolder", takes=("--split-folders", *LIST_OPTIONS))
    reader = ListReader.in_tree(tree, tables, labels.task)
    split_of = _split_folders(tree, layout)
    found: list[tuple[str, tuple[str, ...]]] = []
    for table in tables:
        where = f"{tree.where.rstrip('/')}/{table}"
        places = given_places(layout.images) if layout.images else places_in_tree(tree, parent_of(table))
        list_split = None if base_of(table) in _METADATA else split_of_name(base_of(table))
        finder = ImageFinder(places, list_split, is_given=bool(layout.images))
        listing = read_listing(tree.files[table], where, labels, layout, finder, first="file_name")
        found.append((where, listing.label_columns))
        reader.declared = listing.label_columns
        for row in listing.rows:
            image = finder.find(row.path, row.split, row.where)
            if isinstance(image.source, MissingFile):
                raise DataError(
                    f"{row.where} names {shown(row.path)}, which is not in {tree.where}: {image.source.reason}. Add the file or "
                    "drop the row."
                )
            split = row.split or list_split or split_of.get(image.name.partition("/")[0])
            if split is None and layout.split_folders:
                reader.exclusions.append(Exclusion(name=image.name, reason="not in one of the given split folders"))
            else:
                reader.add(replace(row, split=split), image.name, image.source)
        reader.notes += [note for note in (*listing.notes, *finder.notes) if note not in reader.notes]
    check_same_columns(found)
    listed, skipped = set(reader.names), {exclusion.name for exclusion in reader.exclusions}
    reader.exclusions += [
        Exclusion(name=name, reason="not listed in the metadata")
        for name in tree.files
        if name not in listed and name not in tables and name not in skipped
    ]
    kind = "Hugging Face imagefolder" if base_of(tables[0]).startswith("metadata.") else listing.kind
    return reader.dataset(layout=kind, why=f"it holds {', '.join(tables[:3])}")


def _split_folders(tree: Tree, layout: DataLayout) -> dict[str, str]:
    """{folder in the root: its split}, as given, else by name: by any word of it where all folders have such a word."""
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
