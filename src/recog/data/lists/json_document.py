"""Lists of images as one JSON document: {path: label}, {label: [paths]}, a list of objects, COCO's or Label Studio's form."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from recog.core.errors import DataError
from recog.core.files import shown
from recog.core.images.formats import has_image_suffix
from recog.core.records import decode_values, object_keys
from recog.core.task import Task
from recog.data.data_layout import DataLayout
from recog.data.lists.exports.coco import COCO_KEYS, coco_listing
from recog.data.lists.exports.label_studio import is_label_studio, label_studio_listing
from recog.data.lists.json_lines import Object, json_labels, object_listing
from recog.data.lists.label_format import LabelFormat
from recog.data.lists.rows import Listing, Row
from recog.data.names import SPLIT_FOLDERS

JSON_SUFFIXES = (".json",)
_FORMS = "{path: label}, {label: [paths]}, a list of objects with path and label, or COCO's images, annotations and categories"
_LOOKED_AT = 200  # entries that decide which of two forms it is

Holds = Callable[[str], bool]  # whether an image of a path is there


def document_listing(text: str, where: str, labels: LabelFormat, layout: DataLayout, holds: Holds) -> Listing:
    """The rows of a document, by the form that it has. DataError where it has none, or may have two."""
    start = text[:4096].lstrip()[:1]
    if start == "{" and object_keys(text, where=where, error=DataError) >= COCO_KEYS:
        _check_options(labels, layout, where, "a COCO file")
        return coco_listing(text, where, labels.task)
    document = decode_values(text, where=where, error=DataError)
    if isinstance(document, list) and is_label_studio(document):
        _check_options(labels, layout, where, "an export of Label Studio", takes=("--label-column",))
        return label_studio_listing(document, where, layout.label_column)
    if isinstance(document, list):
        return object_listing(json_entries(document, where), where, labels, layout, form="JSON list")
    if not isinstance(document, dict) or not document:
        raise DataError(f"{where} lists no images; expected {_FORMS}.")
    values = list(document.values())
    if all(isinstance(value, dict) for value in values):
        rows = [(f"{where}, {shown(key)}", {"path": key, **value}) for key, value in document.items()]
        return object_listing(rows, where, labels, layout, form="JSON map")
    is_by_label = all(isinstance(value, list) for value in values) and _lists_paths(document, where, holds)
    _check_options(labels if is_by_label else replace(labels, separator=""), layout, where, "a JSON map")
    if is_by_label:
        why = f"it lists the paths of each of {len(document):,} labels"
        return Listing(_rows_by_label(document, where), (), [], why, "JSON map of labels to paths")
    why = f"it gives each of {len(document):,} paths its label"
    return Listing(_rows_by_path(document, where, labels), (), [], why, "JSON map of paths to labels")


def json_entries(document: Sequence[object], where: str) -> list[Object]:
    rows: list[Object] = []
    for number, row in enumerate(document):
        if not isinstance(row, Mapping):
            raise DataError(f"{where}, entry {number} is no object; expected {_FORMS}.")
        rows.append((f"{where}, entry {number}", row))
    return rows


def _check_options(
    labels: LabelFormat, layout: DataLayout, where: str, kind: str, *, takes: Sequence[str] = ()
) -> None:
    """DataError where an option is given that a document of this `kind` has no use for."""
    layout.check_unused(where, kind, takes=("--split-folders", "--images", "--encoding", *takes))
    if labels.is_given:
        raise DataError(
            f"{where} is {kind}, in which labels are neither joined nor columns. Leave "
            f"{'--label-separator' if labels.separator else '--label-columns'} out."
        )


def _lists_paths(document: Mapping[str, list[Any]], where: str, holds: Holds) -> bool:
    """Whether the document is {label: [paths]}, rather than {path: [labels]}."""
    keys = list(document)[:_LOOKED_AT]
    items = [item for value in document.values() for item in value[:_LOOKED_AT]][:_LOOKED_AT]
    are_paths = [
        any(isinstance(t, str) and (has_image_suffix(t) or holds(t)) for t in texts) for texts in (keys, items)
    ]
    if are_paths[0] == are_paths[1]:
        which = (
            "both its keys and the entries of its lists" if are_paths[0] else "neither its keys nor its lists' entries"
        )
        raise DataError(f"{where} has lists as values, and {which} are paths of images; expected {_FORMS}.")
    if are_paths[1] and all(key.lower() in SPLIT_FOLDERS for key in document):
        raise DataError(
            f"{where} lists paths by {', '.join(list(document)[:3])}, which are splits and no labels; expected {_FORMS}."
        )
    return are_paths[1]


def _rows_by_label(document: Mapping[str, list[object]], where: str) -> Iterator[Row]:
    for label, paths in document.items():
        for number, path in enumerate(paths):
            here = f"{where}, {shown(label)}[{number}]"
            if not isinstance(path, str):
                raise DataError(f"{here} is {str(path)[:40]}; expected the path of an image.")
            yield Row(here, path, (label,) if label else None)


def _rows_by_path(document: Mapping[str, object], where: str, labels: LabelFormat) -> Iterator[Row]:
    for path, value in document.items():
        here = f"{where}, {shown(path)}"
        task: Task = "multilabel" if isinstance(value, list) or labels.separator else "multiclass"
        yield Row(here, path, json_labels(value, here, labels), task=task)
