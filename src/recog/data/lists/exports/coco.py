"""Annotations in COCO's JSON as labels of whole images: the categories that an image has boxes or tags of."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from recog.core.errors import DataError
from recog.core.files import shown
from recog.core.records import decode_typed
from recog.core.task import Task, joined_task
from recog.data.lists.rows import Listing, Row
from recog.data.names import class_name_of
from recog.evaluation.measures.task import TASK_MEASURES

COCO_KEYS = frozenset({"images", "annotations", "categories"})
_Id = int | str


@dataclass(frozen=True)
class _Image:
    id: _Id
    file_name: str


@dataclass(frozen=True)
class _Annotation:
    image_id: _Id
    category_id: _Id


@dataclass(frozen=True)
class _Category:
    id: _Id
    name: str


@dataclass(frozen=True)
class _Coco:
    images: tuple[_Image, ...]
    annotations: tuple[_Annotation, ...]
    categories: tuple[_Category, ...] = field(default=())


def coco_listing(text: str, where: str, task: Task | None) -> Listing:
    """A row per image. Where each annotated image has exactly one category and `task` is None, they are multiclass data."""
    coco = decode_typed(text, _Coco, where=where, error=DataError)
    names = {category.id: class_name_of(category.name) for category in coco.categories}
    if len(names) < len(coco.categories):
        raise DataError(f"{where} has two categories with one id; correct the file.")
    found: dict[_Id, dict[str, None]] = {image.id: {} for image in coco.images}
    if len(found) < len(coco.images):
        raise DataError(f"{where} has two images with one id; correct the file.")
    for number, annotation in enumerate(coco.annotations):
        for what, known in (("image", found), ("category", names)):
            key = getattr(annotation, f"{what}_id")
            if key not in known:
                raise DataError(
                    f"{where}, annotations[{number}] has the {what}_id {shown(str(key))}, which no {what} of the file has."
                )
        found[annotation.image_id][names[annotation.category_id]] = None
    most = max(map(len, found.values()), default=0)
    read_as = joined_task([task, "multilabel" if most > 1 else "multiclass"])
    fewest = TASK_MEASURES[read_as].min_labels
    labels = {key: tuple(categories) if len(categories) >= fewest else None for key, categories in found.items()}
    why = f"it has {', '.join(sorted(COCO_KEYS))} as COCO has them"
    notes = [_NOTES[read_as](found.values())]
    used = {name for categories in found.values() for name in categories}
    if unused := sorted({name for name in names.values() if name not in used}):
        notes.append(f"categories without an annotation are no classes: {', '.join(unused[:5])}")
    rows = (
        Row(f"{where}, images[{number}]", image.file_name, labels[image.id], task=read_as)
        for number, image in enumerate(coco.images)
    )
    return Listing(rows, (), notes, why, "COCO JSON")


def _note_one(found: Collection[Mapping[str, None]]) -> str:
    without = sum(not categories for categories in found)
    aside = f"; {without:,} have none (--task multilabel reads them as images without labels)" if without else ""
    return f"every annotated image has one category: one label an image{aside}"


def _note_several(found: Collection[Mapping[str, None]]) -> str:
    several = sum(len(categories) > 1 for categories in found)
    return f"{several:,} of {len(found):,} images have several categories: any number of labels an image"


_NOTES: Mapping[Task, Callable[[Collection[Mapping[str, None]]], str]] = MappingProxyType(
    {"multiclass": _note_one, "multilabel": _note_several}
)
