"""Labels that a program holds in memory, numbers, names or rows of 0 and 1, as numbers of named classes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recog.core.errors import DataError
from recog.core.files import natural_key
from recog.core.task import Task
from recog.data.names import class_name_of

Names = tuple[str, ...]  # of one image with any number of labels
_MISSING = ("NAType", "NaTType")  # pandas' marks of a missing cell
Label = int | str | Names | NDArray[np.bool_] | None  # bits [K]; None: the image is not labelled


@dataclass(frozen=True, kw_only=True)
class ReadLabels:
    task: Task
    class_names: tuple[str, ...]
    numbers: tuple[tuple[int, ...], ...]  # per image, rising
    notes: tuple[str, ...] = ()


def plain_label(label: Any, name: str) -> Label:
    """The label of item `name`: a scalar in whatever array or tensor, a name, a list of names, or a row of 0 and 1."""
    if isinstance(label, str):
        return str(label)  # np.str_ too
    if label is None or type(label).__name__ in _MISSING:
        return None
    if isinstance(label, (list, tuple)) and all(isinstance(part, str) for part in label):
        return tuple(dict.fromkeys(class_name_of(part) for part in label))
    array = _array(label)
    if array.size == 1 and array.ndim <= 1 and array.dtype.kind in "biufU":
        return _scalar(array.item(), name)
    if array.ndim != 1 or array.dtype.kind not in "biuf" or not np.isin(array, (0, 1)).all():
        raise _refused(label, name)
    return np.asarray(array == 1)


def _array(label: Any) -> NDArray[Any]:
    try:
        return np.asarray(label.detach().cpu() if hasattr(label, "detach") else label)
    except (TypeError, ValueError, RuntimeError):  # of parts of different lengths, or no numbers
        return np.asarray(None)


def _scalar(value: Any, name: str) -> int | str | None:
    if isinstance(value, (str, bool)):
        return str(value)
    if math.isnan(value):
        return None
    if value < 0 or not math.isfinite(value) or int(value) != value:
        raise _refused(value, name)
    return int(value)


def _refused(label: Any, name: str) -> DataError:
    return DataError(
        f"item {name} has the label {str(label)[:60]!r}; expected a whole number from 0 on, a class name, or of several labels "
        "one value of 0 or 1 per class, or a list of class names."
    )


def read_labels(
    labels: Sequence[Label],
    items: Sequence[str],
    *,
    task: Task | None,
    class_names: Sequence[str] | None,
    default_names: Sequence[str] | None,
    owner: str,
) -> ReadLabels:
    """Number the `labels` of `items` by `class_names`, else `default_names`, else the names and numbers that occur.

    A number is the index of one of `class_names`, and otherwise a name of its own: an order that was only assumed does not
    name a class. One-hot rows are of one class each unless `task` states otherwise. `owner` is what lacks class names.
    """
    known = class_names if class_names is not None else default_names
    names = None if known is None else [class_name_of(str(name)) for name in known]
    if names is not None and len(set(names)) < len(names):
        raise DataError(f"the class names have one name twice: {', '.join(names[:20])}.")
    if class_names is None and names is not None:
        _check_by_name(labels, items, names, owner)
    found, notes = _task_of(labels, items, task)
    names = _own_names(labels, items) if names is None else names
    is_index = class_names is not None or any(isinstance(label, np.ndarray) for label in labels)
    place = {name: number for number, name in enumerate(names)}
    numbers = (_numbers(label, item, place, is_index) for label, item in zip(labels, items, strict=True))
    return ReadLabels(task=found, class_names=tuple(names), numbers=tuple(numbers), notes=tuple(notes))


def _check_by_name(labels: Sequence[Label], items: Sequence[str], names: Sequence[str], owner: str) -> None:
    """DataError where a label is a number that only an assumed order could turn into one of `names`.

    torchvision's ImageFolder orders classes by code point ('10' before '2', 'Dog' before 'cat'), recog naturally.
    """
    are_numbers = all(name.isdecimal() for name in names)
    in_order = list(names) == [str(number) for number in range(len(names))]
    for label, item in zip(labels, items, strict=True):
        if (isinstance(label, int) and not are_numbers) or (isinstance(label, np.ndarray) and not in_order):
            what = f"the number {label}" if isinstance(label, int) else "a row of 0 and 1"
            raise DataError(
                f"item {item} has {what} for a label, and {owner} has no class names (.classes or .class_to_idx). "
                "Pass class_names=[...] in the order of its numbers, or labels by name."
            )


def _task_of(labels: Sequence[Label], items: Sequence[str], task: Task | None) -> tuple[Task, list[str]]:
    """One label an image, or any number, and a note where the labels leave that open."""
    if all(isinstance(label, (int, str)) for label in labels):
        return "multiclass", []
    counts = {item: _num_labels(label) for item, label in zip(items, labels, strict=True)}
    uneven = next((item for item, count in counts.items() if count != 1), None)
    if uneven is None:
        note = "every list of labels has exactly one: read as one class per image; task='multilabel' reads any number"
        return task or "multiclass", [] if task else [note]
    if task == "multiclass":
        raise DataError(
            f"item {uneven} has {counts[uneven]} labels; with task='multiclass' every image has exactly one."
        )
    return "multilabel", []


def _num_labels(label: Label) -> int:
    if isinstance(label, np.ndarray):
        return int(label.sum())
    return len(label) if isinstance(label, tuple) else 1


def _own_names(labels: Sequence[Label], items: Sequence[str]) -> list[str]:
    """Class names where nothing gives them: the names that occur, or the numbers."""
    width_at = {len(label): item for label, item in zip(labels, items, strict=True) if isinstance(label, np.ndarray)}
    texts = {label for label in labels if isinstance(label, str)}
    texts |= {part for label in labels if isinstance(label, tuple) for part in label}
    numbers = {label for label in labels if isinstance(label, int)}
    kinds = {"rows of 0 and 1": width_at, "names": texts, "numbers": numbers}
    found = [kind for kind, values in kinds.items() if values]
    if len(found) > 1:
        raise DataError(
            f"the labels are {' and '.join(found)}; give all in one way, or class_names=[...] for their order."
        )
    if len(width_at) > 1:
        (first, item), (second, other), *_ = width_at.items()
        raise DataError(
            f"item {item} has {first} values of 0 or 1 for labels and item {other} {second}; expected one per class."
        )
    if width_at:
        return [str(number) for number in range(next(iter(width_at)))]
    return [str(number) for number in sorted(numbers)] or sorted(map(class_name_of, texts), key=natural_key)


def _numbers(label: Label, item: str, place: Mapping[str, int], is_index: bool) -> tuple[int, ...]:
    if isinstance(label, np.ndarray):
        if len(label) != len(place):
            raise DataError(
                f"item {item} has {len(label)} values of 0 or 1 for labels; expected {len(place)}, one per class."
            )
        return tuple(int(i) for i in np.flatnonzero(label))
    if isinstance(label, int) and is_index:
        if label >= len(place):
            raise DataError(f"item {item} has the label {label}, but there are names for {len(place)} classes.")
        return (label,)
    texts = label if isinstance(label, tuple) else (str(label),)
    unknown = [text for text in texts if class_name_of(text) not in place]
    if unknown:
        raise DataError(f"item {item} has the label '{unknown[0]}', which is none of: {', '.join([*place][:20])}.")
    return tuple(sorted({place[class_name_of(text)] for text in texts}))
