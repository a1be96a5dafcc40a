"""Class folders, with or without split folders above them: how most people keep their images, on disk or in an archive."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from recog.core.errors import DataError
from recog.core.files import natural_key
from recog.data.data_layout import DETECTED, DataLayout
from recog.data.dataset import Dataset, Sample, check_class_map
from recog.data.readers.labels_in_names import mask_notes, sort_files
from recog.data.readers.levels import ClassFolder, Levels, find_levels
from recog.data.tree import Tree, base_of, walk_tree


def read_folder(root: Path) -> Dataset:
    """Class folders, directly in `root` or below split folders (train, val, test), with one class map for all splits."""
    dataset = read_class_folders(walk_tree(root))
    check_class_map(dataset)
    return dataset


def read_class_folders(tree: Tree, layout: DataLayout = DETECTED) -> Dataset:
    """A folder per class; what is no image is left out by name. DataError where there are no class folders or no images."""
    levels = find_levels(tree, layout)
    class_names = tuple(sorted({folder.name for folder in levels.classes}, key=natural_key))
    label_of = {name: label for label, name in enumerate(class_names)}
    exclusions = [*tree.exclusions, *levels.exclusions]
    samples: list[Sample] = []
    for folder in levels.classes:
        images, others = sort_files(tree, folder.folder)
        samples += [_sample(tree, folder, name, label_of[folder.name]) for name in images]
        exclusions += others
    if not samples:
        raise DataError(f"{tree.where} holds {len(class_names)} class folders but no image in any of them.")
    return Dataset(
        name=tree.name,
        layout=levels.words,
        why=levels.why,
        class_names=class_names,
        samples=tuple(samples),
        exclusions=tuple(exclusions),
        notes=(
            *tree.notes,
            *spelling_notes(levels),
            *levels.notes,
            *mask_notes([sample.name for sample in samples]),
        ),
    )


def spelling_notes(levels: Levels) -> Iterator[str]:
    """Classes of several folders: those that look the same, and those that lie in several places."""
    for split in dict.fromkeys(folder.split for folder in levels.classes):
        folders = [folder for folder in levels.classes if folder.split == split]
        for name, count in Counter(folder.name for folder in folders).items():
            spellings = {base_of(folder.folder) for folder in folders if folder.name == name}
            if len(spellings) > 1 and not levels.is_class_first:
                yield f"{count} folders spell the class '{name}' in two Unicode forms; they are taken as one class"
            elif count > 1:
                yield f"{count} folders are named '{name}'; they are taken as one class"


def _sample(tree: Tree, folder: ClassFolder, name: str, label: int) -> Sample:
    subfolder = name[len(folder.folder) + 1 :].rpartition("/")[0].partition("/")[0]
    return Sample(name=name, source=tree.files[name], labels=(label,), split=folder.split, subfolder=subfolder or None)
