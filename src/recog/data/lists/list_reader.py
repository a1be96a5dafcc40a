"""From the rows of a list to a Dataset: rows that repeat, unlabelled images, and the numbers of the classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from recog.core.errors import DataError
from recog.core.files import natural_key, shown
from recog.core.images.decode import Readable
from recog.core.task import Task, joined_task
from recog.data.dataset import NO_LABEL, Dataset, Exclusion, Sample
from recog.data.lists.class_numbers import find_class_numbers
from recog.data.lists.image_finder import Place, tree_place
from recog.data.lists.label_format import LABEL_NOTES
from recog.data.lists.rows import Row
from recog.data.names import class_name_of
from recog.data.tree import Tree, base_of, parent_of

MIN_REPEATED = 0.1  # of the images, and two: where so many have several labels in rows of their own, a row is one label


@dataclass
class ListReader:
    """Collects rows, drops those that repeat, and gives the labels their numbers at the end."""

    name: str
    where: str
    declared: tuple[str, ...] = ()  # class names, where columns name them
    exclusions: list[Exclusion] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    names: dict[str, Row] = field(default_factory=dict)
    sources: list[Path | Readable | NDArray[np.uint8]] = field(default_factory=list)
    task: Task | None = None  # as the user states it
    repeats: dict[str, list[Row]] = field(default_factory=dict)  # further rows of an image, with other labels
    beside: Sequence[Place] = ()  # where the names of numbered classes may stand

    @classmethod
    def in_tree(cls, tree: Tree, lists: Sequence[str], task: Task | None) -> Self:
        """For rows of `lists`, files of `tree`."""
        folders = dict.fromkeys([*map(parent_of, lists), ""])
        return cls(
            name=tree.name,
            where=tree.where,
            exclusions=list(tree.exclusions),
            notes=list(tree.notes),
            task=task,
            beside=[tree_place(tree, folder) for folder in folders],
        )

    def add(self, row: Row, name: str, source: Path | Readable | NDArray[np.uint8]) -> None:
        if row.labels is None:
            self.exclusions.append(Exclusion(name=name, reason=f"{NO_LABEL} ({_line(row)})"))
            return
        first = self.names.get(name)
        if first is None:
            self.names[name] = row
            self.sources.append(source)
            return
        if (first.labels, first.split) != (row.labels, row.split):
            if row.kind.is_complete or row.split != first.split or self.task == "multiclass":
                raise _contradiction(name, first, row)
            self.repeats.setdefault(name, []).append(row)
            return
        self.exclusions.append(Exclusion(name=name, reason=f"listed again ({_line(row)})"))

    def dataset(self, *, layout: str, why: str) -> Dataset:
        if not self.names:
            raise DataError(f"{self.where} lists no image with a label.")
        written = joined_task(row.task for row in self.names.values())
        task = self._task()
        labels = self._labels()
        self.notes += LABEL_NOTES[written](list(labels))
        class_names = tuple(sorted({*labels.values(), *self.declared}, key=natural_key))
        if not class_names:
            raise DataError(f"no image that {self.where} lists has a label; there is nothing to learn.")
        number_of = {name: number for number, name in enumerate(class_names)}
        splits = {row.split for row in self.names.values()}
        if None in splits and len(splits) > 1:
            raise DataError(
                f"{self.where} lists some images in train, val or test folders and some outside; move these."
            )
        samples = tuple(
            Sample(
                name=name,
                source=source,
                labels=tuple(sorted(number_of[labels[label]] for label in row.labels or ())),
                split=row.split,
                group=row.group,
                columns=row.columns,
                subfolder=base_of(parent_of(name)) or None,
            )
            for (name, row), source in zip(self.names.items(), self.sources, strict=True)
        )
        return Dataset(
            name=self.name,
            layout=layout,
            why=why,
            class_names=class_names,
            samples=samples,
            task=task,
            exclusions=tuple(self.exclusions),
            notes=tuple(self.notes),
        )

    def _task(self) -> Task:
        """The task, after the labels of images that stand in several rows are joined."""
        if self.repeats:
            self._join_rows()
        return joined_task([self.task, *(row.task for row in self.names.values())])

    def _join_rows(self) -> None:
        """DataError where so few images have rows with different labels that these are rather mistakes."""
        if self.task is None and len(self.repeats) < max(2, MIN_REPEATED * len(self.names)):
            name, rows = next(iter(self.repeats.items()))
            raise _contradiction(name, self.names[name], rows[0])
        for name, rows in self.repeats.items():
            labels = dict.fromkeys(label for row in (self.names[name], *rows) for label in row.labels or ())
            self.names[name] = replace(self.names[name], labels=tuple(labels), task="multilabel")
        self.notes.append(
            f"{len(self.repeats):,} of {len(self.names):,} images stand in several rows with different labels: any number of "
            "labels an image"
        )

    def _labels(self) -> dict[str, str]:
        """{label as written: class name}. Numbers written as 1.0, as pandas does, become 1; a fraction is no class."""
        written = {label: row for row in self.names.values() for label in row.labels or ()}
        numbers = {label: _float(label) for label in written}
        if not numbers or any(number is None for number in numbers.values()):
            return {label: class_name_of(label) for label in written}
        names = {label: class_name_of(label) for label in written}
        if any("." in label for label in written):
            fraction = next((label for label, number in numbers.items() if number and number != int(number)), None)
            if fraction is not None:
                raise DataError(
                    f"{written[fraction].where} has the label {fraction}, a fraction, and all labels are numbers. recog sorts "
                    "images into classes; make classes of the numbers first."
                )
            self.notes.append("labels such as 1.0 were read as 1")
            names = {label: str(int(number or 0)) for label, number in numbers.items()}
        if not all(name.isdecimal() for name in names.values()) or not (found := find_class_numbers(self.beside)):
            return names
        name_of, note = found.name_all({int(name) for name in names.values()})
        self.notes.append(note)
        return {label: name_of[int(name)] for label, name in names.items()}


def _contradiction(name: str, first: Row, row: Row) -> DataError:
    remedy = row.kind.remedy if row.kind.is_complete or row.split == first.split else ""
    return DataError(
        f"{row.where} gives {shown(name)} {_named(row)}{_in(row.split)}, but {_line(first)} gives it "
        f"{_named(first).rpartition('label ')[2]}{_in(first.split)}. One image has one "
        f"{row.kind.noun} and one split.{remedy}"
    )


def _line(row: Row) -> str:
    return row.where.rpartition(", ")[2]


def _named(row: Row) -> str:
    labels = row.labels or ()
    return f"the label '{labels[0]}'" if len(labels) == 1 else f"the labels {', '.join(labels) or '(none)'}"


def _in(split: str | None) -> str:
    return f" in {split}" if split else ""


def _float(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if abs(number) < 2**53 else None
