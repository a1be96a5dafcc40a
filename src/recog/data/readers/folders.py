"""Class folders, with or without split folders above them: how most people keep their images, on disk or in an archive."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from recog.core.errors import DataError
from recog.core.files import natural_key
from recog.core.formats import has_image_suffix
from recog.data.dataset import SPLITS, Dataset, Exclusion, Sample, check_class_map
from recog.data.readers.names import SPLIT_FOLDERS, case_notes, class_name_of
from recog.data.tree import ARCHIVE_SUFFIXES, Tree, base_of, walk_tree


def read_folder(root: Path) -> Dataset:
    """Class folders, directly in `root` or below split folders (train, val, test), with one class map for all splits."""
    dataset = read_class_folders(walk_tree(root))
    check_class_map(dataset)
    return dataset


@dataclass
class _Layout:
    """Which folder holds which class of which split."""

    root: str
    splits: dict[str | None, str] = field(default_factory=dict)  # split -> folder; None: the root itself
    exclusions: list[Exclusion] = field(default_factory=list)

    @property
    def words(self) -> str:
        inside = f" in {self.root}/" if self.root else ""
        named = [split for split in self.splits if split]
        return f"class folders below {', '.join(named)}{inside}" if named else f"class folders{inside}"


def read_class_folders(tree: Tree) -> Dataset:
    """A folder per class; what is no image is left out by name. DataError where there are no class folders or no images."""
    layout = _find_layout(tree)
    folders = {
        split: [(class_name_of(base_of(child)), child) for child in tree.folders_in(folder)]
        for split, folder in layout.splits.items()
    }
    names = [name for classes in folders.values() for name, _ in classes]
    class_names = tuple(sorted(set(names), key=natural_key))
    label_of = {name: label for label, name in enumerate(class_names)}
    exclusions = [*tree.exclusions, *layout.exclusions]
    samples: list[Sample] = []
    for split, classes in folders.items():
        for name, folder in classes:
            samples += _read_class(tree, folder, label_of[name], split, exclusions)
    if not samples:
        raise DataError(f"{tree.where} holds {len(class_names)} class folders but no image in any of them.")
    return Dataset(
        name=tree.name,
        layout=layout.words,
        why=_why(layout, folders),
        class_names=class_names,
        samples=tuple(samples),
        exclusions=tuple(exclusions),
        notes=(*tree.notes, *spelling_notes(tree, class_names, folders)),
    )


def spelling_notes(
    tree: Tree, class_names: Sequence[str], folders: dict[str | None, list[tuple[str, str]]]
) -> Iterator[str]:
    """Classes that were joined because they look the same, and classes that differ by case only."""
    for classes in folders.values():
        for name, count in Counter(name for name, _ in classes).items():
            if count > 1:
                yield f"{count} folders spell the class '{name}' in two Unicode forms; they are taken as one class"
    yield from case_notes(class_names)


def _why(layout: _Layout, folders: dict[str | None, list[tuple[str, str]]]) -> str:
    named = [base_of(folder) for split, folder in layout.splits.items() if split]
    count = max(len(classes) for classes in folders.values())
    return f"{'folders ' + ', '.join(named) + ' with' if named else 'it holds'} {count} folders of images"


def _find_layout(tree: Tree) -> _Layout:
    root = _descend(tree)
    layout = _Layout(root)
    folders, files = tree.folders_in(root), tree.files_in(root)
    if not folders:
        raise DataError(_no_classes(tree, files))
    layout.splits = _split_folders(tree, root, folders) or {None: root}
    for folder in {"", root, *(folder for split, folder in layout.splits.items() if split)}:
        layout.exclusions += [Exclusion(name=name, reason=_stray(name)) for name in tree.files_in(folder)]
    return layout


def _stray(name: str) -> str:
    return (
        "an archive within the data; unpack it" if name.lower().endswith(ARCHIVE_SUFFIXES) else "not in a class folder"
    )


def _no_classes(tree: Tree, files: list[str]) -> str:
    found = f"{len(files)} files but no class folders" if files else "nothing"
    tables = [base_of(name) for name in files if name.lower().endswith((".csv", ".tsv"))]
    hint = f" It holds {tables[0]}; name that file instead if it lists the images." if tables else ""
    where = tree.where.rstrip("/")
    return f"{tree.where} holds {found}; expected one folder of images per class, such as {where}/cat and {where}/dog.{hint}"


def _descend(tree: Tree) -> str:
    """Through folders that hold nothing but one folder of folders, as archives of a folder do."""
    root = ""
    while True:
        folders = tree.folders_in(root)
        if len(folders) != 1 or base_of(folders[0]).lower() in SPLIT_FOLDERS:
            return root
        only = folders[0]
        if not tree.folders_in(only) or any(
            has_image_suffix(name) for name in (*tree.files_in(root), *tree.files_in(only))
        ):
            return root
        root = only


def _split_folders(tree: Tree, root: str, folders: list[str]) -> dict[str | None, str]:
    """{split: folder} where the folders are named as splits; empty where one at most is, beside others: a class called 'train'.

    Raises DataError where they are neither: read as classes, 'train' and 'test' would be what the network tells apart.
    """
    named = {f: SPLIT_FOLDERS[base_of(f).lower()] for f in folders if base_of(f).lower() in SPLIT_FOLDERS}
    others = [base_of(f) for f in folders if f not in named]
    if others and len(set(named.values())) < 2:
        return {}
    found: dict[str, str] = {}
    for folder, split in named.items():
        where = f"{tree.where.rstrip('/')}/{folder}"
        if split in found:
            raise DataError(f"{found[split]} and {folder} both mean the split '{split}'; keep one of them.")
        if not tree.folders_in(folder):
            raise DataError(
                f"{where} is a split by its name but holds no class folders, such as {where}/cat. Sort its images into "
                "class folders, or move it elsewhere."
            )
        found[split] = folder
    if others:
        raise DataError(
            f"{tree.where.rstrip('/')}/{root} has the split folders {', '.join(map(base_of, named))} and beside them "
            f"{', '.join(others[:10])}, which is no split. Move it elsewhere or name it train, val or test."
        )
    return {split: found[split] for split in SPLITS if split in found}


def _read_class(tree: Tree, folder: str, label: int, split: str | None, exclusions: list[Exclusion]) -> list[Sample]:
    samples: list[Sample] = []
    for name in tree.files_below(folder):
        if name.lower().endswith(ARCHIVE_SUFFIXES):
            exclusions.append(Exclusion(name=name, reason="an archive within the data; unpack it"))
        elif tree.is_image(name):
            samples.append(Sample(name=name, source=tree.files[name], labels=(label,), split=split))
        else:
            exclusions.append(Exclusion(name=name, reason="not an image file"))
    return samples
