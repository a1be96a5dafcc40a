"""Lists of images as JSON lines, such as metadata.jsonl of a Hugging Face imagefolder: one JSON object per image."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from recog.core.errors import DataError
from recog.data.data_layout import DETECTED, DataLayout
from recog.data.lists.columns import (
    Columns,
    find_columns,
    split_of_cell,
)
from recog.data.lists.csv_table import listing_of
from recog.data.lists.label_format import (
    LabelFormat,
    bit_text,
    choices_of,
    labels_of_bits,
)
from recog.data.lists.rows import Listing, Row, cells_of

JSON_LINES_SUFFIXES = (".jsonl", ".ndjson")

Object = tuple[str, Mapping[str, object]]  # (where, a line's object)


def json_objects(text: str, where: str) -> Iterator[Object]:
    """(where, object) of each line that is not empty."""
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        here = f"{where}, line {number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{here} is not valid JSON: {str(error).splitlines()[0]}.") from None
        if not isinstance(row, Mapping):
            raise DataError(f'{here} is no JSON object; expected {{"file_name": ..., "label": ...}}.')
        yield here, row


def json_listing(text: str, where: str, labels: LabelFormat, layout: DataLayout = DETECTED) -> Listing:
    return object_listing(list(json_objects(text, where)), where, labels, layout)


def columns_of_objects(
    objects: Sequence[Object], where: str, layout: DataLayout, *, holds: Callable[[str], bool] = lambda path: False
) -> tuple[list[str], Columns]:
    """All keys of the objects, and the columns that they are; `holds` as in `find_columns`."""
    header = list(dict.fromkeys(str(key) for _, row in objects for key in row))

    def cells(place: int) -> Iterator[str]:
        return (bit_text(row.get(header[place])) for _, row in objects)

    return header, find_columns(header, cells, where, layout, first="file_name", holds=holds)


def object_listing(
    objects: Sequence[Object], where: str, labels: LabelFormat, layout: DataLayout, *, form: str = "JSON lines"
) -> Listing:
    """The rows of objects, whose keys are the columns; each may lack those that not all have."""
    header, columns = columns_of_objects(objects, where, layout)
    cells = ((here, _texts(row, header)) for here, row in objects)
    return listing_of(columns, labels, cells, partial(_rows, objects), where=where, form=form)


def _texts(row: Mapping[str, object], header: Sequence[str]) -> list[str]:
    return [bit_text(row.get(key)) for key in header]


def _rows(
    objects: Sequence[Object],
    columns: Columns,
    bits: Mapping[str, int],
    further: Mapping[str, int],
    labels: LabelFormat,
) -> Iterator[Row]:
    names = columns.names
    for here, row in objects:
        label_key = None if bits else _label_key(row, names["label"])
        missing = next((key for key in (names["path"], label_key) if key is not None and key not in row), None)
        if missing is not None:
            raise DataError(f"{here} has no '{missing}', which other lines have; it has: {', '.join(list(row)[:20])}.")
        split, group = (row.get(names[role]) if role in names else None for role in ("split", "group"))
        yield Row(
            here,
            str(row[names["path"]]),
            labels_of_bits(_texts(row, columns.header), bits)
            if label_key is None
            else json_labels(row[label_key], here, labels),
            None if split is None else split_of_cell(bit_text(split), here, names["split"]),
            None if group is None else str(group),
            task="multilabel"
            if bits or labels.separator or (label_key is not None and isinstance(row[label_key], (list, Mapping)))
            else "multiclass",
            columns=cells_of({key: row[key] for key in further if key in row and key != label_key}),
        )


def _label_key(row: Mapping[str, object], key: str) -> str:
    """'labels' where a line has it in place of 'label'."""
    return "labels" if key == "label" and key not in row and "labels" in row else key


def json_labels(value: object, here: str, labels: LabelFormat) -> tuple[str, ...] | None:
    """None for null and NaN, which mean unlabelled; an empty list is an empty set of labels."""
    if value is None or value != value:
        return None
    if (choices := choices_of(value)) is not None:
        return choices
    if isinstance(value, list):
        return tuple(dict.fromkeys(_label(item, here) for item in value))
    return labels.labels_in(_label(value, here))


def _label(label: object, here: str) -> str:
    if isinstance(label, bool) or not isinstance(label, (str, int, float)):
        raise DataError(f"{here} has the label {str(label)[:40]}; expected one name or one number, or a list of them.")
    return str(label)
