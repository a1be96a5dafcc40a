"""From a tree of files to a Dataset: which of the layouts that people and tools make it has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from recog.core.errors import DataError
from recog.core.images.formats import has_image_suffix
from recog.data.archives.trees import zip_tree
from recog.data.archives.zips import is_zip
from recog.data.data_layout import FOLDER_OPTIONS, DataLayout
from recog.data.dataset import Dataset
from recog.data.lists.columns import MissingLabelError
from recog.data.lists.folder_lists import FolderLists, find_lists, list_hint, read_lists
from recog.data.lists.label_format import LabelFormat
from recog.data.lists.tables import find_metadata, read_metadata
from recog.data.readers.folders import read_class_folders
from recog.data.readers.labels_in_names import read_labelled_names
from recog.data.tree import Member, Tree, ancestors_of, base_of, without_excluded

_SAMPLES = "-samples"  # how Teachable Machine ends the names of its zips, one per class


def read_tree(tree: Tree, labels: LabelFormat, layout: DataLayout) -> Dataset:
    """Labels in file names where the user asks for it; else metadata, lists beside the images, or class folders.

    DataError where the layout is not understood, with the lists that stand in the folder, or where it can be read in two ways.
    """
    tree = without_excluded(_with_zips_as_folders(tree, labels), layout.exclude_patterns)
    if layout.label_pattern:
        layout.check_unused(tree.where, "without a list of images", takes=FOLDER_OPTIONS)
        return read_labelled_names(tree, layout)
    if metadata := find_metadata(tree):
        try:
            return read_metadata(tree, metadata, labels, layout)
        except MissingLabelError as missing:
            if labels.is_given or layout.states_a_list:
                raise
            return _read_beside(tree, metadata, layout, missing)
    found = find_lists(tree, labels, layout)
    wants_list = layout.states_a_list or labels.is_given
    if wants_list and found.lists:
        return read_lists(tree, found, labels, layout)
    if wants_list and found.best_refused:
        raise DataError(found.best_refused[1])
    layout.check_unused(tree.where, "without a list of images", takes=FOLDER_OPTIONS)
    try:
        dataset = read_class_folders(tree, layout)
    except DataError as error:
        if found.lists:
            return read_lists(tree, found, labels, layout)
        raise DataError(f"{error}{list_hint(tree, found)}") from None
    return _folders_or_list(tree, dataset, found, labels, layout) if found.lists else dataset


def _read_beside(tree: Tree, metadata: Sequence[str], layout: DataLayout, missing: MissingLabelError) -> Dataset:
    """The class folders beside metadata without labels, such as captions. Raises `missing` where there are none."""
    try:
        dataset = read_class_folders(tree, layout)
    except DataError:
        raise missing from None
    note = f"{metadata[0]} has no column of labels and is not used; the labels are the folders' names"
    return replace(dataset, notes=(note, *dataset.notes))


def _folders_or_list(
    tree: Tree, dataset: Dataset, found: FolderLists, labels: LabelFormat, layout: DataLayout
) -> Dataset:
    """Of class folders and a list beside them the one that knows more, where both sort the images alike."""
    if layout.classes_at_depth is not None or layout.split_folders:
        return dataset
    agrees = found.agrees_with(dataset)
    if found.in_one_class_of(dataset) or (agrees and found.states_splits and not dataset.given_splits):
        return read_lists(tree, found, labels, layout)
    if agrees:
        note = f"{found.names} lists the images by the same classes as the folders, which are read"
        return replace(dataset, notes=(*dataset.notes, note))
    listed = ", ".join(dataset.class_names[:3]) + (", ..." if len(dataset.class_names) > 3 else "")
    where = tree.where.rstrip("/")
    raise DataError(
        f"{tree.where} can be read in two ways: as {len(dataset.class_names)} class folders {listed} (--classes-at-depth N, "
        f"such as 1), or by the list {found.names}, which sorts the images differently (name {where}/{found.lists[0].name} in "
        "place of the folder)."
    )


def _with_zips_as_folders(tree: Tree, labels: LabelFormat) -> Tree:
    """Where a folder holds zip archives and no images of its own, what is in the archives, each as a folder of its name."""
    zips = {
        name: source for name in tree.files_in("") if isinstance(source := tree.files[name], Path) and is_zip(source)
    }
    if not zips or any(map(has_image_suffix, tree.files)):
        return tree
    stems = {name: name.rpartition(".")[0] for name in zips}
    if all(stem.endswith(_SAMPLES) for stem in stems.values()):
        stems = {name: stem.removesuffix(_SAMPLES) for name, stem in stems.items()}
    files: dict[str, Path | Member] = {name: source for name, source in tree.files.items() if name not in zips}
    exclusions, notes = list(tree.exclusions), list(tree.notes)
    for name, path in zips.items():
        packed = zip_tree(path, encoding=labels.names)
        prefix = _prefix(packed, stems[name])
        files |= {prefix + inner: source for inner, source in packed.files.items()}
        exclusions += [replace(exclusion, name=prefix + exclusion.name) for exclusion in packed.exclusions]
        notes += packed.notes
    folders = {folder for name in files for folder in ancestors_of(name)}
    names = ", ".join(list(zips)[:5]) + (f" and {len(zips) - 5} more" if len(zips) > 5 else "")
    return replace(
        tree,
        files=files,
        folders=tree.folders | folders,
        exclusions=tuple(exclusions),
        notes=(*notes, f"zip archives are read as folders of their names: {names}"),
    )


def _prefix(packed: Tree, stem: str) -> str:
    """What goes before the names in an archive: nothing where it holds one folder that has the archive's name."""
    tops = [base_of(folder) for folder in packed.folders_in("")]
    return "" if tops == [stem] and not packed.files_in("") else f"{stem}/"
