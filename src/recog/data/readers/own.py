"""Labelled images that a program holds: a torch Dataset, pairs, images and labels, a DataFrame; or one of these per split."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from recog.core.errors import BadImage, DataError
from recog.core.files import shown, user_path
from recog.core.hardware import available_memory_bytes
from recog.data.data_layout import DETECTED, DataLayout
from recog.data.dataset import NO_LABEL, SPLITS, Dataset, Exclusion, Sample
from recog.data.lists.frames import is_frame, names_below, read_frames
from recog.data.lists.label_format import AS_FOUND, LabelFormat
from recog.data.names import SPLIT_FOLDERS
from recog.data.readers.own_images import Scale, agree_on_scale, image_array
from recog.data.readers.own_labels import Label, plain_label, read_labels
from recog.data.tree import base_of, parent_of

MAX_WRAPPERS, MAX_JOINED = 8, 1000  # how deep class names are searched for, and among how many joined datasets


@runtime_checkable
class Items(Protocol):
    """What torch.utils.data.Dataset with a length offers; items are (image, label)."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


@dataclass(frozen=True, kw_only=True)
class _Item:
    """One labelled image. `image` is a file, or an array whose numbers were written on `scale`."""

    name: str  # of arrays, the place in the data
    image: Path | NDArray[np.uint8]
    scale: Scale = "8 bits"
    label: Label
    split: str | None


def read_items(
    items: Items | Mapping[str, Items],
    *,
    labels: LabelFormat = AS_FOUND,
    layout: DataLayout = DETECTED,
    class_names: Sequence[str] | None = None,
    default_names: Sequence[str] | None = None,
) -> Dataset:
    """The labelled images of `items`, or of {'train': items, 'test': items}.

    `items` are pairs (image, label), as a list or a Dataset of torch has them, a tuple of the images and the labels, or
    a DataFrame (`read_frames`). An image is a path, which is read when it is needed, or is held in memory: a Pillow image, an
    array [H, W] or [H, W, C] or a tensor [C, H, W] of 8-bit levels, which may be written as floats k/255. A label is a number or
    name, in whatever array or tensor; of several labels, zeros and ones or a list of names. Each item is read once, so that
    random transforms cannot make two images of one.

    Class names are `class_names`, else those of the dataset (`find_class_names`), else `default_names`, else the labels.
    """
    parts = _by_split(items)
    if any(map(is_frame, parts.values())):
        return read_frames(_only_frames(parts), labels, layout, class_names=class_names)
    layout.check_unused("the data", "an object of the program")
    if labels.is_given:
        raise DataError("a label separator or label columns are for lists of images; leave them out, or name the list.")
    names = class_names if class_names is not None else _class_names_of(parts)
    found: list[_Item] = []
    bad: list[Exclusion] = []
    budget = available_memory_bytes() // 2
    for split, part in parts.items():
        for item in _read_part(part, split):
            if isinstance(item, Exclusion):
                bad.append(item)
                continue
            budget -= item.image.nbytes if isinstance(item.image, np.ndarray) else 0
            if budget < 0:
                raise DataError(
                    f"the first {len(found):,} of {len(part):,} images of {_kind(part)} fill half of the free memory. Let it "
                    "give smaller images, or paths, or name the folder that they lie in."
                )
            found.append(item)
    if not found:
        first = f" The first: {bad[0].name}: {bad[0].reason}." if bad else ""
        raise DataError(f"the data have no usable item.{first}")
    found, root = _with_file_names(found)
    found, repeated = _without_repeats(found)
    read = read_labels(
        [item.label for item in found],
        [item.name for item in found],
        task=labels.task,
        class_names=names,
        default_names=default_names,
        owner=_kind(next(iter(parts.values()))),
    )
    images, notes = _on_one_scale(found)
    return Dataset(
        name=root or _kind(next(iter(parts.values()))).lower(),
        layout="a dataset of your own",
        why="it was given as an object",
        class_names=read.class_names,
        task=read.task,
        samples=tuple(
            Sample(
                name=item.name,
                source=image,
                labels=numbers,
                split=item.split,
                subfolder=base_of(parent_of(item.name)) or None if isinstance(image, Path) else None,
            )
            for item, image, numbers in zip(found, images, read.numbers, strict=True)
        ),
        exclusions=(*bad, *repeated),
        notes=(*notes, *read.notes),
    )


def _by_split(items: Items | Mapping[str, Items]) -> dict[str | None, Items]:
    """{split: its items}; {None: items} where they are not split."""
    if not isinstance(items, Mapping):
        return {None: items}
    splits = [SPLIT_FOLDERS.get(str(name).lower()) for name in items]
    if not items or None in splits or len(set(splits)) < len(splits):
        raise DataError(
            f"the splits are {', '.join(map(repr, items)) or 'none'}; expected some of {', '.join(SPLITS)}, each once."
        )
    return dict(zip(splits, items.values(), strict=True))


def _only_frames(parts: Mapping[str | None, Items]) -> Mapping[str | None, Items]:
    other = next((part for part in parts.values() if not is_frame(part)), None)
    if other is not None:
        raise DataError(f"one split is a DataFrame and another {_kind(other)}; give all in one form.")
    return parts


def _read_part(part: Items, split: str | None) -> Iterator[_Item | Exclusion]:
    """The items of one split, and those that cannot be used."""
    pairs, length = _pairs(part)
    width = len(str(max(0, length - 1)))
    for i, pair in enumerate(pairs):
        name = f"{split}/{i:0{width}d}" if split else f"{i:0{width}d}"
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise DataError(
                f"item {i} of {_kind(part)} is of type {type(pair).__name__}; expected (image, label).{_LABELS_APART}"
            )
        image, label = pair[0], plain_label(pair[1], name)
        if label is None:
            named = str(image) if isinstance(image, (str, os.PathLike)) else name
            yield Exclusion(name=named, reason=f"{NO_LABEL} (item {i})")
        elif isinstance(image, (str, os.PathLike)):
            yield _Item(name=name, image=user_path(os.fspath(image)), label=label, split=split)
        else:
            try:
                array, scale = image_array(image, name)
            except BadImage as error:
                yield Exclusion(name=name, reason=error.reason)
            else:
                yield _Item(name=name, image=array, scale=scale, label=label, split=split)


_LABELS_APART = " Images and labels that are apart are given as a tuple: (images, labels)."


def _pairs(part: Any) -> tuple[Iterable[Any], int]:
    """(image, label) of each item, and how many there are."""
    if _are_columns(part):
        images, labels = part
        if len(images) != len(labels):
            raise DataError(
                f"there are {len(images):,} images and {len(labels):,} labels; expected one label per image."
            )
        return zip(images, labels, strict=True), len(images)
    if hasattr(part, "dataset") and hasattr(part, "batch_size"):
        raise DataError(f"{_kind(part)} gives batches, in an order of its own; give its dataset: train_loader.dataset.")
    try:
        length = len(part)
    except TypeError:
        raise DataError(
            f"{_kind(part)} has no length; expected a Dataset with __len__ and __getitem__, a list of (image, label), or a tuple "
            "(images, labels)."
        ) from None
    if not hasattr(part, "__getitem__") or isinstance(part, np.ndarray):
        raise DataError(f"{_kind(part)} has no labels; expected pairs (image, label).{_LABELS_APART}")
    return (part[i] for i in range(length)), length


def _are_columns(part: Any) -> bool:
    """Whether `part` is images and labels apart: a tuple of two columns; a list may as well be two pairs, unless of arrays."""
    if not isinstance(part, (tuple, list)) or len(part) != 2:
        return False
    return all(map(_is_column, part)) and (isinstance(part, tuple) or all(hasattr(column, "shape") for column in part))


def _is_column(values: Any) -> bool:
    """Whether `values` are one per image: a list, an array, a tensor or a Series."""
    is_one = isinstance(values, (str, bytes, os.PathLike, Mapping, Image.Image)) or getattr(values, "ndim", 1) == 0
    return not is_one and hasattr(values, "__len__") and hasattr(values, "__iter__")


def _kind(part: object) -> str:
    """What `part` is called in messages, and its data where they have no folder."""
    return "images" if isinstance(part, (tuple, list)) else type(part).__name__


def _with_file_names(items: Sequence[_Item]) -> tuple[list[_Item], str]:
    """The items with the paths of their files below the folder that holds all of them, and that folder's name."""
    names, root = names_below([item.image for item in items if isinstance(item.image, Path)])
    name_of = iter(names)
    return [replace(item, name=next(name_of)) if isinstance(item.image, Path) else item for item in items], root


def _without_repeats(items: Sequence[_Item]) -> tuple[list[_Item], list[Exclusion]]:
    """Each file once. DataError where it is given with two labels or in two splits."""
    first: dict[str, _Item] = {}
    repeated = []
    for item in items:
        before = first.setdefault(item.name, item)
        if before is item:
            continue
        if before.split != item.split or not np.array_equal(before.label, item.label):  # type: ignore[arg-type]
            raise DataError(
                f"{shown(item.name)} is given twice, with the label {before.label}{_in(before.split)} and the label {item.label}"
                f"{_in(item.split)}. One image has one label and one split; several labels are one list."
            )
        repeated.append(Exclusion(name=item.name, reason="given again"))
    return list(first.values()), repeated


def _in(split: str | None) -> str:
    return f" in {split}" if split else ""


def hold_images(images: Iterable[Any]) -> list[Path | NDArray[np.uint8]]:
    """Images without labels, in the forms that `read_items` takes. DataError, or BadImage, where one cannot be used."""
    pairs = [(image, 0) for image in images]
    items = [item if isinstance(item, _Item) else _raise(item) for item in _read_part(pairs, None)]
    return _on_one_scale(items)[0]


def _raise(exclusion: Exclusion) -> _Item:
    raise BadImage(f"image {exclusion.name}", exclusion.reason, "Leave it out.")


def _on_one_scale(items: Sequence[_Item]) -> tuple[list[Path | NDArray[np.uint8]], list[str]]:
    held = [(item.name, item.image, item.scale) for item in items if isinstance(item.image, np.ndarray)]
    arrays, notes = agree_on_scale(held)
    array_of: Mapping[str, NDArray[np.uint8]] = dict(zip((name for name, _, _ in held), arrays, strict=True))
    return [array_of.get(item.name, item.image) for item in items], notes


def find_class_names(items: object) -> list[str] | None:
    """The class names of a Dataset in the order of its labels, or None: its `.classes`, else the keys of `.class_to_idx`.

    Where it has neither, those of the datasets that it holds are taken, so that Subset, random_split, ConcatDataset and
    wrappers of one's choice keep the names. DataError where two of them disagree.
    """
    found = list(_walk_class_names(items, seen=set(), depth=0))
    if any(names != found[0] for names in found):
        raise DataError(
            f"{type(items).__name__} joins datasets with different classes: {', '.join(found[0][:10])}; and "
            f"{', '.join(next(names for names in found if names != found[0])[:10])}. Pass class_names=[...] in label order."
        )
    return found[0] if found else None


def _walk_class_names(items: object, *, seen: set[int], depth: int) -> Iterator[list[str]]:
    if id(items) in seen or depth > MAX_WRAPPERS:
        return
    seen.add(id(items))
    classes, to_index = getattr(items, "classes", None), getattr(items, "class_to_idx", None)
    if isinstance(classes, (list, tuple)) and classes:
        yield [str(name) for name in classes]
    elif isinstance(to_index, Mapping) and to_index:
        yield [str(name) for name in sorted(to_index, key=to_index.__getitem__)]
    else:
        for value in getattr(items, "__dict__", {}).values():
            inner = value if isinstance(value, (list, tuple)) and len(value) <= MAX_JOINED else [value]
            for part in inner:
                if hasattr(part, "__getitem__") and hasattr(part, "__dict__"):
                    yield from _walk_class_names(part, seen=seen, depth=depth + 1)


def _class_names_of(parts: Mapping[str | None, Items]) -> list[str] | None:
    """One list of names for all splits; those of a split without names are taken from the others."""
    found = {split: names for split, part in parts.items() if (names := find_class_names(part)) is not None}
    first = next(iter(found), None)
    for split, names in found.items():
        if names != found[first]:
            raise DataError(
                f"the classes of {split} are {', '.join(names[:10])}, those of {first} {', '.join(found[first][:10])}; "
                "a label must mean the same class in every split. Pass class_names=[...] in label order."
            )
    return found.get(first)
