"""A user's own torch.utils.data.Dataset, or one per split: read once, in order, into samples like those of any other source."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from recog.core.errors import BadImage, DataError
from recog.core.hardware import available_memory_bytes
from recog.core.images.decode import ImageLimits, decode
from recog.core.images.image_file import MAX_LIMITS
from recog.core.task import Task
from recog.data.dataset import SPLITS, Dataset, Exclusion, Sample
from recog.data.names import class_name_of

MAX_WRAPPERS, MAX_JOINED = 8, 1000  # how deep class names are searched for, and among how many joined datasets
_WIDEST = ImageLimits(**MAX_LIMITS)
_GREY = ("1", "L", "LA", "I", "I;16")


@runtime_checkable
class Items(Protocol):
    """What torch.utils.data.Dataset with a length offers; items are (image, label)."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


def read_items(
    items: Items | Mapping[str, Items],
    *,
    class_names: Sequence[str] | None = None,
    default_names: Sequence[str] | None = None,
) -> Dataset:
    """The images of `items`, or of {'train': items, 'test': items}, held in memory as they are given.

    An item is (image, label): a Pillow image, an array uint8 [H, W] or [H, W, C], or a tensor uint8 [C, H, W]; the label a
    whole number, or one of the class names. Multi-label: a multi-hot array or tensor of K zeros and ones, or a list of class
    names, which may be empty. Class names are `class_names`, else those of the dataset (`find_class_names`), else
    `default_names`, else the numbers. Each item is read once, so that random transforms cannot make two images of one.

    Numbers without names index `default_names` only where those are the numbers themselves: torchvision's ImageFolder orders
    classes by code point ('10' before '2', 'Dog' before 'cat'), recog naturally, so an index alone does not name a class.
    """
    parts: Mapping[Any, Items] = items if isinstance(items, Mapping) else {None: items}
    unknown = [split for split in parts if split is not None and split not in SPLITS]
    if unknown or not parts:
        raise DataError(
            f"the splits are {', '.join(map(repr, parts)) or 'none'}; expected some of {', '.join(SPLITS)}."
        )
    first = next(iter(parts.values()))
    names = class_names if class_names is not None else _class_names_of(parts)
    is_default = names is None
    names = default_names if is_default else names
    known = None if names is None else [class_name_of(str(n)) for n in names]
    if known is not None and len(set(known)) < len(known):
        raise DataError(f"the class names have one name twice: {', '.join(known[:20])}.")
    rows: list[tuple[str, NDArray[np.uint8], Any, str | None]] = []
    bad: list[Exclusion] = []
    budget = available_memory_bytes() // 2
    for split, part in parts.items():
        budget = _read_part(part, split, rows, bad, budget)
    if not rows:
        raise DataError(
            "the dataset has no usable item." + (f" The first: {bad[0].name}: {bad[0].reason}." if bad else "")
        )
    if is_default and known is not None and known != [str(number) for number in range(len(known))]:
        _check_named(rows, first)
    task: Task = "multilabel" if any(_is_set(label) for _, _, label, _ in rows) else "multiclass"
    if known is None:
        known = _numbered([(row_name, label) for row_name, _, label, _ in rows])
    return Dataset(
        name=type(first).__name__.lower(),
        layout="a dataset of your own",
        why="it was given as an object",
        class_names=tuple(known),
        task=task,
        samples=tuple(
            Sample(name=row_name, source=image, labels=_numbers_of(label, known, row_name), split=split)
            for row_name, image, label, split in rows
        ),
        exclusions=tuple(bad),
    )


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


def _class_names_of(parts: Mapping[Any, Items]) -> list[str] | None:
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


def _check_named(rows: Sequence[tuple[str, NDArray[np.uint8], Any, str | None]], dataset: Items) -> None:
    """DataError where a label is a number that only an assumed order could turn into a class."""
    for name, _, label, _ in rows:
        if not (isinstance(label, str) or (_is_set(label) and all(isinstance(item, str) for item in label))):
            raise DataError(
                f"item {name} has the number {str(label)[:60]} for a label, and {type(dataset).__name__} has no class names "
                "(.classes or .class_to_idx). Pass class_names=[...] in the order of its numbers, or labels by name."
            )


def _read_part(
    part: Items,
    split: str | None,
    rows: list[tuple[str, NDArray[np.uint8], Any, str | None]],
    bad: list[Exclusion],
    budget: int,
) -> int:
    """Append the items of one split; returns what is left of the memory `budget`."""
    try:
        length = len(part)
    except TypeError:
        raise DataError(
            f"{type(part).__name__} has no length; expected a Dataset with __len__ and __getitem__."
        ) from None
    width = len(str(max(0, length - 1)))
    for i in range(length):
        name = f"{split}/{i:0{width}d}" if split else f"{i:0{width}d}"
        item = part[i]
        if not isinstance(item, (tuple, list)) or len(item) != 2:
            raise DataError(
                f"item {i} of {type(part).__name__} is of type {type(item).__name__}; expected (image, label)."
            )
        try:
            image = _to_array(item[0], name)
        except BadImage as error:
            bad.append(Exclusion(name=name, reason=error.reason))
            continue
        budget -= image.nbytes
        if budget < 0:
            raise DataError(
                f"the first {i} images of {type(part).__name__} fill half of the free memory; {length} are too many. "
                "Let it give smaller images, or name the folder that they lie in."
            )
        rows.append((name, image, item[1], split))
    return budget


def _to_array(image: Any, name: str) -> NDArray[np.uint8]:
    """uint8 [H, W] or [H, W, C]. DataError where no image of the dataset can be right, BadImage where this one is not."""
    if isinstance(image, Image.Image):
        channels = 1 if image.mode in _GREY or image.mode.startswith("I") else 3
        pixels = decode(image, name=name, channels=channels, limits=_WIDEST)  # the run's own limits come later
        return pixels[:, :, 0] if channels == 1 else pixels
    array = np.asarray(image)
    if array.dtype != np.uint8:
        raise DataError(
            f"item {name} has an image of dtype {array.dtype}; expected uint8 from 0 to 255, a Pillow image, array or tensor. "
            "Leave out transforms such as ToTensor and Normalize: recog resizes and normalises by itself."
        )
    is_tensor = hasattr(image, "device") and not isinstance(image, np.ndarray)
    if is_tensor and array.ndim == 3 and array.shape[0] in (1, 3, 4):
        array = array.transpose(1, 2, 0)
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise DataError(
            f"item {name} has an image of shape {array.shape}; expected an array (H, W) or (H, W, C), or a tensor (C, H, W)."
        )
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    return np.array(array)  # a copy: the user's buffer may be used again for the next item


def _is_set(label: Any) -> bool:
    """Whether a label says which of the classes there are: a multi-hot array, or a list of names."""
    return isinstance(label, (list, tuple)) or getattr(label, "ndim", 0) == 1


def _numbered(labels: Sequence[tuple[str, Any]]) -> list[str]:
    """Class names where the user gave none: the numbers."""
    sets = [(name, label) for name, label in labels if _is_set(label)]
    if not sets:
        return [str(number) for number in range(max(_whole_number(label, name) for name, label in labels) + 1)]
    name, first = sets[0]
    if not len(first) or any(isinstance(item, str) for item in first):
        raise DataError(f"item {name} has a list of labels by name; give `class_names`, so that all are known.")
    return [str(number) for number in range(len(first))]


def _numbers_of(label: Any, class_names: Sequence[str], name: str) -> tuple[int, ...]:
    if not _is_set(label):
        return (_number_of(label, class_names, name),)
    if isinstance(label, (list, tuple)) and all(isinstance(item, str) for item in label):
        return tuple(sorted({_number_of(item, class_names, name) for item in label}))
    bits = np.asarray(label)
    if bits.shape != (len(class_names),) or not np.isin(bits, (0, 1)).all():
        raise DataError(
            f"item {name} has the labels {str(label)[:60]}; expected {len(class_names)} values of 0 or 1, one per class, or "
            "a list of class names."
        )
    return tuple(int(i) for i in np.flatnonzero(bits))


def _whole_number(label: Any, name: str) -> int:
    try:
        number = int(label)
        if number == label and number >= 0 and not isinstance(label, (str, bool)):
            return number
    except (TypeError, ValueError, RuntimeError):
        pass
    raise DataError(
        f"item {name} has the label {str(label)[:60]!r}; expected a whole number from 0 on, or a class name."
    )


def _number_of(label: Any, class_names: Sequence[str], name: str) -> int:
    if isinstance(label, str):
        text = class_name_of(label)
        if text not in class_names:
            raise DataError(f"item {name} has the label '{label}', which is none of: {', '.join(class_names[:20])}.")
        return class_names.index(text)
    number = _whole_number(label, name)
    if number >= len(class_names):
        raise DataError(f"item {name} has the label {number}, but there are names for {len(class_names)} classes.")
    return number
