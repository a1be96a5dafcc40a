"""annotations.xml of CVAT ("CVAT for images"): the tags of each image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from xml.parsers import expat

from recog.core.errors import DataError
from recog.core.files import shown
from recog.data.lists.rows import Listing, Row
from recog.data.names import split_of_name

XML_SUFFIXES = (".xml",)
CVAT_FILE = "annotations.xml"
_MAX_DEPTH = 32


@dataclass
class _Image:
    name: str
    subset: str
    tags: list[str] = field(default_factory=list)
    num_shapes: int = 0


class _Parser:
    """Handles elements as they come, so that no tree is built of a file that may be hostile."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.images: list[_Image] = []
        self.depth = 0
        self.path: list[str] = []

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        self.path.append(name)
        if len(self.path) > _MAX_DEPTH:
            raise DataError(
                f"{self.where} has elements {_MAX_DEPTH} levels deep and more; it is no annotations.xml of CVAT."
            )
        if self.path[0] != "annotations":
            raise DataError(
                f"{self.where} begins with <{name}>; expected annotations.xml of CVAT, which begins with <annotations>."
            )
        if self.path == ["annotations", "image"]:
            if not attributes.get("name"):
                raise DataError(f"{self.where} has an image without a name (image {len(self.images)}).")
            self.images.append(_Image(attributes["name"], attributes.get("subset", "")))
        elif self.path[1:2] == ["image"] and len(self.path) == 3:
            if name != "tag":
                self.images[-1].num_shapes += 1
            elif attributes.get("label"):
                self.images[-1].tags.append(attributes["label"])

    def end(self, _name: str) -> None:
        self.path.pop()

    def refuse(self, *_: object) -> None:
        raise DataError(
            f"{self.where} declares a document type or entities, which no export of CVAT does; it is not read."
        )


def cvat_listing(text: str, where: str) -> Listing:
    """A row per image with tags. DataError where the text is no XML of CVAT, or no image has a tag."""
    images = _parse(text, where)
    tagged = [image for image in images if image.tags]
    if not tagged:
        raise DataError(
            f"{where} has {len(images):,} images without tags; boxes and masks are not classes of images. Add tags in CVAT."
        )
    splits = {image.subset for image in tagged}
    has_splits = all(split_of_name(subset) for subset in splits)
    notes = []
    if len(tagged) < len(images):
        first = next(image.name for image in images if not image.tags)
        notes.append(f"images without a tag are left aside: {len(images) - len(tagged):,}, such as {shown(first)}")
    num_shapes = sum(image.num_shapes for image in images)
    if num_shapes:
        notes.append(f"shapes such as boxes are not used: {num_shapes:,}")
    if not has_splits and splits != {""}:
        notes.append(f"the subsets {', '.join(sorted(splits)[:5])} are not used as splits")
    why = f"{len(tagged):,} images with tags"
    return Listing(_rows(tagged, where, has_splits=has_splits), (), notes, why, "annotations of CVAT")


def _rows(images: Sequence[_Image], where: str, *, has_splits: bool) -> Iterator[Row]:
    for image in images:
        labels = tuple(dict.fromkeys(image.tags))
        split = split_of_name(image.subset) if has_splits else None
        yield Row(
            f"{where}, image {shown(image.name)}",
            image.name,
            labels,
            split,
            task="multiclass" if len(labels) == 1 else "multilabel",
        )


def _parse(text: str, where: str) -> list[_Image]:
    handler = _Parser(where)
    parser = expat.ParserCreate()
    parser.StartElementHandler = handler.start
    parser.EndElementHandler = handler.end
    parser.StartDoctypeDeclHandler = handler.refuse
    parser.EntityDeclHandler = handler.refuse
    try:
        parser.Parse(text, True)
    except expat.ExpatError as error:
        raise DataError(f"{where} is not valid XML: {error}.") from None
    return handler.images
