"""Which folders of a tree are splits and which are classes, where levels lie above or below the classes."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from recog.core.config import nearest
from recog.core.errors import DataError
from recog.core.files import natural_key, shown
from recog.core.images.formats import has_image_suffix
from recog.core.text import plural
from recog.data.data_layout import DataLayout
from recog.data.dataset import SPLITS, Exclusion
from recog.data.names import SPLIT_FOLDERS, are_numbered, class_name_of, split_of_name
from recog.data.readers.labels_in_names import is_mask_folder, suggest_label_pattern
from recog.data.tree import ARCHIVE_SUFFIXES, Tree, ancestors_of, base_of, parent_of, predict_notes, unlabelled_folder


@dataclass(frozen=True)
class ClassFolder:
    """A folder whose images are all of one class, and where it gives one, of one split."""

    split: str | None
    name: str
    folder: str


@dataclass(frozen=True, kw_only=True)
class Levels:
    root: str  # the folder below which the levels begin, as folders that hold only one folder are passed through
    split_names: tuple[str, ...]  # of the folders that are splits
    is_class_first: bool  # the splits lie below the classes
    classes: tuple[ClassFolder, ...]
    exclusions: tuple[Exclusion, ...]
    notes: tuple[str, ...]

    @property
    def words(self) -> str:
        inside = f" in {self.root}/" if self.root else ""
        named = [split for split in SPLITS if any(folder.split == split for folder in self.classes)]
        order = "above" if self.is_class_first else "below"
        return f"class folders {order} {', '.join(named)}{inside}" if named else f"class folders{inside}"

    @property
    def why(self) -> str:
        per_split = Counter(folder.split for folder in self.classes)
        named = f"folders {', '.join(self.split_names)} with" if self.split_names else "it holds"
        return f"{named} {plural(max(per_split.values()), 'folder')} of images"


def find_levels(tree: Tree, layout: DataLayout) -> Levels:
    """DataError where there are no class folders, or where the folders can be read in two ways and `layout` is silent."""
    root = _descend(tree, "")
    tops = tree.folders_in(root)
    if not tops:
        raise DataError(_no_classes(tree, tree.files_in(root)))
    splits = _given_splits(tree, root, layout) if layout.split_folders else _named_splits(tree, root, layout)
    bases = [(split, _descend(tree, folder)) for split, folders in splits.items() for folder in folders]
    depth = layout.classes_at_depth or (2 if bases else 1)
    steps = depth - 1 if bases else depth
    classes, above = _at_depth(tree, bases or [(None, root)], steps)
    if not classes:
        raise DataError(f"{tree.where} has no folders at depth {depth}, where --classes-at-depth expects the classes.")
    below = [] if bases else _splits_below(tree, classes)
    if not below and layout.classes_at_depth is None and layout.group != "subfolder":
        _check_one_reading(tree, classes, depth)
    split_folders = [folder for folders in splits.values() for folder in folders]
    beside = [child for f in split_folders for outer in (root, *ancestors_of(f)) for child in tree.folders_in(outer)]
    unused = [folder for folder in dict.fromkeys(beside) if not any(_overlap(folder, f) for f in split_folders)]
    strays = [name for folder in dict.fromkeys(["", root, *split_folders, *above]) for name in tree.files_in(folder)]
    exclusions = (
        *(Exclusion(name=name, reason=_stray(name)) for name in strays),
        *(_unused(tree, folder, layout) for folder in unused),
    )
    notes = [] if below or layout.classes_at_depth or layout.group else list(_depth_notes(tree, classes, depth))
    return Levels(
        root=root,
        split_names=tuple(dict.fromkeys(base_of(folder) for folder in split_folders or [b.folder for b in below])),
        is_class_first=bool(below),
        classes=tuple(below or classes),
        exclusions=exclusions,
        notes=(*predict_notes(tree, exclusions), *notes),
    )


def _overlap(a: str, b: str) -> bool:
    return f"{a}/".startswith(f"{b}/") or f"{b}/".startswith(f"{a}/")


def _stray(name: str) -> str:
    is_archive = name.lower().endswith(ARCHIVE_SUFFIXES)
    return "an archive within the data; unpack it" if is_archive else "not in a class folder"


def _unused(tree: Tree, folder: str, layout: DataLayout) -> Exclusion:
    if not layout.split_folders:
        return unlabelled_folder(tree, folder, "it has no class folders")
    num_images = sum(map(has_image_suffix, tree.files_below(folder)))
    return Exclusion(name=folder, reason=f"not one of the given split folders; {plural(num_images, 'image')}")


def _no_classes(tree: Tree, files: list[str]) -> str:
    found = f"{plural(len(files), 'file')} but no class folders" if files else "nothing"
    packed = [
        name for name in (*tree.files, *(e.name for e in tree.exclusions)) if name.lower().endswith(ARCHIVE_SUFFIXES)
    ]
    hint = (
        f" It holds {plural(len(packed), 'archive')}, such as {packed[0]}: unpack what is packed and name the folder."
        if packed
        else ""
    )
    hint += suggest_label_pattern([name for name in files if has_image_suffix(name)])
    return (
        f"{tree.where} holds {found}; expected one folder of images per class, {_expected_folders(tree, files)}.{hint}"
    )


def _expected_folders(tree: Tree, files: Sequence[str]) -> str:
    """Names for class folders: where the images seem to be those of one class, its folder and one beside it."""
    here = Path(tree.where).absolute()
    if here.is_dir() and any(map(has_image_suffix, files)):
        beside = sorted(
            entry.name for entry in os.scandir(here.parent) if entry.is_dir() and entry.name[:1] not in "._"
        )
        others = [name for name in beside if name != here.name]
        if others:
            above, name = Path(tree.where).parent, here.name
            return (
                f"such as {shown(name)} and {shown(others[0])} in {above}. If {shown(name)} is one class, give {above}"
            )
    where = tree.where.rstrip("/")
    return f"such as {where}/CLASS_A and {where}/CLASS_B"


def _descend(tree: Tree, start: str) -> str:
    """From `start` through folders that hold nothing but one folder of folders, as archives of a folder do."""
    here = start
    while True:
        folders = tree.folders_in(here)
        if len(folders) != 1 or (not start and base_of(folders[0]).lower() in SPLIT_FOLDERS):
            return here
        only = folders[0]
        if not tree.folders_in(only) or any(
            has_image_suffix(name) for name in (*tree.files_in(here), *tree.files_in(only))
        ):
            return here
        here = only


def _given_splits(tree: Tree, root: str, layout: DataLayout) -> dict[str, list[str]]:
    """The folders of `--split-folders`, named relative to the data or to their only folder."""
    found: dict[str, list[str]] = {}
    for split, names in layout.given_splits.items():
        for name in names:
            folder = next((f for f in (name, f"{root}/{name}") if f in tree.folders), None)
            if folder is None:
                listed = ", ".join(base_of(f) for f in tree.folders_in(root)[:20])
                raise DataError(f"{tree.where} has no folder '{name}' for the split '{split}'; it has: {listed}.")
            if not tree.folders_in(folder):
                raise DataError(_flat_split(tree, folder))
            found.setdefault(split, []).append(folder)
    return found


def _named_splits(tree: Tree, root: str, layout: DataLayout) -> dict[str, list[str]]:
    """{split: [folder]} where the top folders are named as splits, else {}: 'train' beside 'car' and 'bus' may be a class.

    DataError where they are neither: read as classes, 'train' and 'test' would be what the network tells apart.
    """
    tops = tree.folders_in(root)
    named = {folder: split for folder in tops if (split := split_of_name(base_of(folder)))}
    exact = {named[folder] for folder in named if base_of(folder).lower() in SPLIT_FOLDERS}
    others = [folder for folder in tops if folder not in named]
    has_classes = any(tree.folders_in(folder) for folder in named)
    is_split = has_classes or len(exact) > 1 or (not others and (exact or len(set(named.values())) > 1))
    if not named or not is_split or layout.classes_at_depth == 1:
        return {}
    if others:
        raise DataError(_beside_splits(tree, root, named, others))
    found: dict[str, list[str]] = {}
    aside = _unlabelled(tree, named)
    for folder, split in named.items():
        if folder in aside:
            continue
        if split in found:
            both = f"{split}={base_of(found[split][0])},{split}={base_of(folder)}"
            raise DataError(
                f"{found[split][0]} and {folder} both mean the split '{split}'; keep one of them, or join them: "
                f"--split-folders {both}. Where they are classes: --classes-at-depth 1."
            )
        if not tree.folders_in(folder):
            raise DataError(_flat_split(tree, folder))
        found[split] = [folder]
    return {split: found[split] for split in SPLITS if split in found}


def _unlabelled(tree: Tree, named: Mapping[str, str]) -> list[str]:
    """Of the split folders those for val and test that do not sort their images, where train does.

    A single folder in one, which is no class of train, sorts nothing either: test/test or test/unknown.
    """
    classes = {base_of(child) for folder in named if named[folder] == "train" for child in tree.folders_in(folder)}
    aside = []
    for folder, split in named.items():
        inner = [base_of(child) for child in tree.folders_in(folder)]
        is_flat = len(inner) < 2 and not any(name in classes or nearest(name, classes) for name in inner)
        if split != "train" and len(classes) > 1 and is_flat and _holds_images(tree, folder):
            aside.append(folder)
    return aside


def _holds_images(tree: Tree, folder: str) -> bool:
    return any(map(has_image_suffix, tree.files_below(folder)))


def _flat_split(tree: Tree, folder: str) -> str:
    where = f"{tree.where.rstrip('/')}/{folder}"
    images = [list(filter(has_image_suffix, tree.files_in(each))) for each in tree.folders_in(parent_of(folder))]
    suggested = next(filter(None, map(suggest_label_pattern, images)), "")
    return (
        f"{where} is a split by its name but holds no class folders, such as {where}/cat. Sort its images into class "
        "folders, or move it elsewhere. If the folders beside it are classes as it is: --classes-at-depth 1."
        f"{suggested}"
    )


def _beside_splits(tree: Tree, root: str, named: dict[str, str], others: Sequence[str]) -> str:
    first = dict(zip(named.values(), named, strict=True))  # split -> folder
    pairs = [f"{split}={base_of(first[split])}" for split in SPLITS if split in first]
    free = [split for split in SPLITS if split not in first]
    rest = ", ".join(map(base_of, others[:10]))
    where = "/".join(part for part in (tree.where.rstrip("/"), root) if part)
    more = f" (or add {free[-1]}={base_of(others[0])})" if free else ""
    return (
        f"{where} has the split folders {', '.join(map(base_of, named))} and beside them {rest}, "
        f"which is no split by its name. Use the splits and leave the rest out: --split-folders {','.join(pairs)}{more}; "
        "or read all of them as classes: --classes-at-depth 1."
    )


def _at_depth(tree: Tree, bases: Sequence[tuple[str | None, str]], steps: int) -> tuple[list[ClassFolder], list[str]]:
    """The folders `steps` levels below the bases, and the folders between."""
    level, above = list(bases), []
    for _ in range(steps):
        above += [folder for _, folder in level]
        level = [(split, child) for split, folder in level for child in tree.folders_in(folder)]
    return [ClassFolder(split, class_name_of(base_of(folder)), folder) for split, folder in level], above


def _splits_below(tree: Tree, classes: Sequence[ClassFolder]) -> list[ClassFolder]:
    """The folders cat/train, cat/test, dog/train, dog/test where all class folders hold such and no images beside them."""
    found: list[ClassFolder] = []
    for each in classes:
        children = tree.folders_in(each.folder)
        splits = [split_of_name(base_of(child)) for child in children]
        if None in splits or len(set(splits)) < len(splits) or _has_images(tree, each.folder):
            return []
        found += [ClassFolder(split, each.name, child) for split, child in zip(splits, children, strict=True)]
    return found if len({each.split for each in found}) > 1 else []


def _has_images(tree: Tree, folder: str) -> bool:
    names = tree.files_in(folder)
    return any(map(has_image_suffix, names)) or any(map(tree.is_image, names))


def _sub_folders(tree: Tree, folder: str) -> list[str]:
    """The folders in `folder` that hold images at any depth."""
    return [child for child in tree.folders_in(folder) if any(map(tree.is_image, tree.files_below(child)))]


def _check_one_reading(tree: Tree, classes: Sequence[ClassFolder], depth: int) -> None:
    """DataError where each class folder holds only folders, and these may as well be the classes.

    They are taken for parts of their class, such as patients, where their names are numbers of one pattern and most do not
    repeat in another class.
    """
    within: dict[str, set[str]] = {}
    for each in classes:
        if _has_images(tree, each.folder):
            return
        children = {class_name_of(base_of(child)) for child in _sub_folders(tree, each.folder)}
        if children:
            within.setdefault(each.name, set()).update(children)
    counts = Counter(child for children in within.values() for child in children)
    adds_nothing = all(children == {name} for name, children in within.items())
    if len(within) < 2 or len(counts) < 2 or adds_nothing:
        return
    repeat = 2 * sum(count > 1 for count in counts.values()) >= len(counts)
    if repeat or not are_numbered(list(counts)):
        raise DataError(_two_readings(tree, within, counts, depth, repeat=repeat))


def _two_readings(tree: Tree, within: dict[str, set[str]], counts: Counter[str], depth: int, *, repeat: bool) -> str:
    outer, inner = sorted(within, key=natural_key), sorted(counts, key=natural_key)
    parts = ""
    if repeat and depth == 1:
        parts = (
            f" If {outer[0]} and {outer[1]} are splits of the same classes: --split-folders "
            f"train={outer[0]},test={outer[1]}."
        )
    masks = [f" If '{name}' holds masks: --exclude {name}." for name in inner if is_mask_folder(name)]
    return (
        f"{tree.where} can be read in two ways: as {len(outer)} classes {_some(outer)} (--classes-at-depth {depth}; with "
        f"--group subfolder if a folder within is one patient, clip or series), or as {len(inner)} classes {_some(inner)} "
        f"(--classes-at-depth {depth + 1}). Give the option that fits.{parts}{''.join(masks)}"
    )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _depth_notes(tree: Tree, classes: Sequence[ClassFolder], depth: int) -> Iterator[str]:
    found = [child for each in classes for child in _sub_folders(tree, each.folder)]
    if found:
        yield (
            f"class folders hold {len(found):,} sub-folders, such as {found[0]}, whose images are read as of the class above; "
            f"if the sub-folders are the classes, use --classes-at-depth {depth + 1}"
        )
