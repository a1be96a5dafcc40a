"""Images whose file names hold the label, such as cat.0.jpg; and what file names suggest: a label pattern, masks to leave out."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import product

from recog.core.config import nearest
from recog.core.errors import DataError
from recog.core.files import natural_key, shown
from recog.data.data_layout import DataLayout
from recog.data.dataset import NO_LABEL, Dataset, Exclusion, Sample
from recog.data.names import SPLIT_FOLDERS, LabelPattern, are_numbered, class_name_of, split_of_name
from recog.data.tree import ARCHIVE_SUFFIXES, Tree, base_of, parent_of

_MASK_WORDS = ("mask", "masks", "seg", "segmentation", "segmented", "groundtruth", "ground_truth", "gt", "annotation")
_MASK = re.compile(rf"(.+?)([-_. ]+)({'|'.join(_MASK_WORDS)})((?:[-_. ]*\d+)?)", re.IGNORECASE)
_WORDNET = re.compile(r"n\d{8}")  # numbers of ImageNet's classes
_MIN_PER_LABEL = 3  # images, on average, of a pattern that is suggested
_MIN_MATCHED = 0.99
_SIGNS = ("_", ".", "-", " ")
_SUGGESTED = (  # the surest first
    *(f"{{label}}{sign}{{number}}" for sign in _SIGNS),
    "{label} ({number})",
    "{label}{number}",
    *(f"{{label}}{a}{{number}}{b}{{number}}" for a, b in product((*_SIGNS, ""), _SIGNS)),
    *(f"{{label}}{a}{{number}}{b}{{}}" for a, b in product((*_SIGNS, ""), _SIGNS)),
    *(f"{{number}}{sign}{{label}}" for sign in _SIGNS),
    *(f"{{number}}{a}{{label}}{b}{{}}" for a, b in product(_SIGNS, _SIGNS)),
    *(f"{{label}}{sign}{{}}" for sign in _SIGNS),
)
_MAX_LOOKED_AT = 2_000  # names, evenly chosen, that decide on a suggestion


def read_labelled_names(tree: Tree, layout: DataLayout) -> Dataset:
    """Every image below `tree`, its label from its name by the label pattern, its split from the folder it lies in."""
    pattern = LabelPattern(layout.label_pattern)
    images, exclusions = sort_files(tree, "")
    labels = {name: pattern.label_of(name) for name in images}
    if not any(labels.values()):
        first = f"; the first is {shown(images[0])}" if images else ""
        raise DataError(
            f"none of the {len(images):,} images in {tree.where} matches --label-pattern '{pattern.template}'{first}. "
            f"{{label}} is the class, {{number}} digits, {{}} any text.{suggest_label_pattern(images)}"
        )
    split_of, unused = _split_folders(tree, images, layout)
    unlabelled = _unlabelled_splits(split_of, labels)
    aside = dict.fromkeys(unused, "not one of the given split folders")
    aside |= dict.fromkeys(unlabelled, "no image in it matches the label pattern")
    labelled: list[tuple[str, str]] = []
    for name in images:
        label, folder = labels[name], next((f for f in aside if name.startswith(f"{f}/")), None)
        if folder is not None:
            exclusions.append(Exclusion(name=name, reason=aside[folder]))
        elif label is None:
            exclusions.append(Exclusion(name=name, reason=f"{NO_LABEL} (it does not match the label pattern)"))
        else:
            labelled.append((name, class_name_of(label)))
    class_names = tuple(sorted({label for _, label in labelled}, key=natural_key))
    number_of = {label: number for number, label in enumerate(class_names)}
    samples = tuple(
        Sample(
            name=name,
            source=tree.files[name],
            labels=(number_of[label],),
            split=next((split for folder, split in split_of.items() if name.startswith(f"{folder}/")), None),
            subfolder=base_of(parent_of(name)) or None,
        )
        for name, label in labelled
    )
    if not samples:
        raise DataError(f"{tree.where} has no labelled image in its split folders; they hold {', '.join(unused)}.")
    return Dataset(
        name=tree.name,
        layout="images with the label in the file name",
        why=f"pattern {pattern.template}, such as {base_of(samples[0].name)}: {class_names[samples[0].label]}",
        class_names=class_names,
        samples=samples,
        exclusions=(*tree.exclusions, *exclusions),
        notes=(*tree.notes, *map(_aside_note, unlabelled), *mask_notes(images)),
    )


def _aside_note(folder: str) -> str:
    return f"{folder}/ has no labels and is left aside; recog predict can label its images"


def sort_files(tree: Tree, folder: str) -> tuple[list[str], list[Exclusion]]:
    """The images below `folder`, and everything else with the reason why it is not read."""
    images: list[str] = []
    exclusions: list[Exclusion] = []
    for name in tree.files_below(folder):
        if name.lower().endswith(ARCHIVE_SUFFIXES):
            exclusions.append(Exclusion(name=name, reason="an archive within the data; unpack it"))
        elif tree.is_image(name):
            images.append(name)
        else:
            exclusions.append(Exclusion(name=name, reason="not an image file"))
    return images, exclusions


def _split_folders(tree: Tree, images: Sequence[str], layout: DataLayout) -> tuple[dict[str, str], list[str]]:
    """({folder: its split}, folders that are not used): the given folders, else by name where all images lie in such."""
    root = os.path.commonpath([parent_of(name) for name in images])
    while base_of(root).lower() in SPLIT_FOLDERS:  # a lone 'train' is a split as well
        root = parent_of(root)
    prefix = f"{root}/" if root else ""
    tops = dict.fromkeys(prefix + name[len(prefix) :].partition("/")[0] for name in images)
    folders = [top for top in tops if top in tree.folders]
    if layout.split_folders:
        given = _given_splits(tree, prefix, layout, folders)
        return given, [folder for folder in folders if not any(f"{f}/".startswith(f"{folder}/") for f in given)]
    named = {folder: split for folder in folders if (split := split_of_name(base_of(folder)))}
    is_exact = any(base_of(folder).lower() in SPLIT_FOLDERS for folder in named)
    if len(named) == len(tops) and (is_exact or len(named) > 1):
        return named, []
    if is_exact:
        other = next(top for top in tops if top not in named)
        pairs = ",".join(f"{split}={base_of(folder)}" for folder, split in named.items())
        raise DataError(
            f"{tree.where} has images in the split folders {', '.join(map(base_of, named))} and outside of them, such as "
            f"{other}. Move them, or use the splits and leave the rest out: --split-folders {pairs}."
        )
    return {}, []


def _given_splits(tree: Tree, prefix: str, layout: DataLayout, folders: Sequence[str]) -> dict[str, str]:
    given: dict[str, str] = {}
    for split, names in layout.given_splits.items():
        for name in names:
            folder = next((f for f in (name, prefix + name) if f in tree.folders), None)
            if folder is None:
                near = nearest(name, [base_of(f) for f in folders])
                raise DataError(f"{tree.where} has no folder '{name}' for the split '{split}'.{near}")
            given[folder] = split
    return given


def _unlabelled_splits(split_of: dict[str, str], labels: dict[str, str | None]) -> list[str]:
    """The split folders in which no image has a label, such as the test images of a competition."""
    return [
        folder
        for folder in split_of
        if not any(label for name, label in labels.items() if name.startswith(f"{folder}/"))
    ]


def suggest_label_pattern(names: Sequence[str]) -> str:
    """A sentence with the label pattern that the file names of images suggest and what it gives; '' where none fits."""
    bases = [base_of(name) for name in names]
    bases = bases[:: max(1, len(bases) // _MAX_LOOKED_AT)]
    suffixes = {os.path.splitext(base)[1] for base in bases}
    suffix = suffixes.pop() if len(suffixes) == 1 else ""
    for template in _SUGGESTED:
        pattern = LabelPattern(template + suffix)
        found = [label for base in bases if (label := pattern.label_of(base)) is not None]
        counts = Counter(found)
        is_usual = len(found) >= _MIN_MATCHED * len(bases) and 1 < len(counts) <= len(bases) / _MIN_PER_LABEL
        if is_usual and (all(map(_WORDNET.fullmatch, counts)) or not are_numbered(list(counts))):
            labels = sorted(counts, key=natural_key)
            listed = ", ".join(labels[:5]) + (", ..." if len(labels) > 5 else "")
            return (
                f" If the file names hold the labels, as in {shown(bases[0])}: --label-pattern '{pattern.template}' gives "
                f"{len(labels)} classes: {listed}."
            )
    return ""


def is_mask_folder(name: str) -> bool:
    return base_of(name).lower() in _MASK_WORDS


def mask_notes(names: Sequence[str]) -> Iterator[str]:
    """A sentence for each kind of file that stands beside an image of the same name with 'mask' or the like after it."""
    stems = {os.path.splitext(name)[0] for name in names}
    found: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for name in names:
        stem, suffix = os.path.splitext(base_of(name))
        match = _MASK.fullmatch(stem)
        if match and f"{parent_of(name)}/{match[1]}".lstrip("/") in stems:
            found.setdefault((match[2], match[3]), []).append((name, "*" if match[4] else suffix))
    for (sign, word), masks in found.items():
        ends = {end for _, end in masks}
        end = ends.pop() if len(ends) == 1 else "*"
        yield (
            f"{len(masks):,} files stand beside an image of the same name, such as {masks[0][0]}; if they are masks, leave them "
            f"out: --exclude '*{sign}{word}{end}'"
        )
