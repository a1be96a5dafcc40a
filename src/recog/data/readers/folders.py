"""Class folders, with or without split folders above them: how most people keep their images, on disk or in an archive."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from recog.core.errors import DataError
from recog.core.files import natural_key
from recog.data.data_layout import DETECTED, DataLayout
from recog.data.dataset import Dataset, Exclusion, Sample, check_class_map
from recog.data.readers.levels import ClassFolder, Levels, find_levels
from recog.data.tree import ARCHIVE_SUFFIXES, Tree, base_of, walk_tree


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
        samples += _read_class(tree, folder, label_of[folder.name], exclusions)
    if not samples:
        raise DataError(f"{tree.where} holds {len(class_names)} class folders but no image in any of them.")
    return Dataset(
        name=tree.name,
        layout=levels.words,
        why=levels.why,
        class_names=class_names,
        samples=tuple(samples),
        exclusions=tuple(exclusions),
        notes=(*tree.notes, *spelling_notes(levels), *levels.notes),
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


def _read_class(tree: Tree, folder: ClassFolder, label: int, exclusions: list[Exclusion]) -> list[Sample]:
    samples: list[Sample] = []
    for name in tree.files_below(folder.folder):
        if name.lower().endswith(ARCHIVE_SUFFIXES):
            exclusions.append(Exclusion(name=name, reason="an archive within the data; unpack it"))
        elif tree.is_image(name):
            subfolder = name[len(folder.folder) + 1 :].rpartition("/")[0].partition("/")[0]
            samples.append(
                Sample(
                    name=name,
                    source=tree.files[name],
                    labels=(label,),
                    split=folder.split,
                    subfolder=subfolder or None,
                )
            )
        else:
            exclusions.append(Exclusion(name=name, reason="not an image file"))
    return samples
