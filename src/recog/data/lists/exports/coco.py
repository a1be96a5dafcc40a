"""Annotations in COCO's JSON as labels of whole images: the categories that an image has boxes or tags of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from recog.core.errors import DataError
from recog.core.files import shown
from recog.core.records import decode_typed
from recog.core.task import Task
from recog.data.lists.rows import Listing, Row
from recog.data.names import class_name_of

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
    is_list = most > 1 or task == "multilabel"
    labels: dict[_Id, tuple[str, ...] | None] = {
        key: tuple(categories) if categories or is_list else None for key, categories in found.items()
    }
    why = f"it has {', '.join(sorted(COCO_KEYS))} as COCO has them"
    return Listing(
        _rows(coco, where, labels, is_list=is_list), (), list(_notes(found, names, is_list=is_list)), why, "COCO JSON"
    )


def _notes(found: Mapping[_Id, Mapping[str, None]], names: Mapping[_Id, str], *, is_list: bool) -> Iterator[str]:
    used = {name for categories in found.values() for name in categories}
    several = sum(len(categories) > 1 for categories in found.values())
    if is_list:
        yield f"{several:,} of {len(found):,} images have several categories: any number of labels an image"
    else:
        without = sum(not categories for categories in found.values())
        aside = f"; {without:,} have none (--task multilabel reads them as images without labels)" if without else ""
        yield f"every annotated image has one category: one label an image{aside}"
    unused = sorted({name for name in names.values() if name not in used})
    if unused:
        yield f"categories without an annotation are no classes: {', '.join(unused[:5])}"


def _rows(coco: _Coco, where: str, labels: Mapping[_Id, tuple[str, ...] | None], *, is_list: bool) -> Iterator[Row]:
    for number, image in enumerate(coco.images):
        yield Row(f"{where}, images[{number}]", image.file_name, labels[image.id], is_list=is_list)
