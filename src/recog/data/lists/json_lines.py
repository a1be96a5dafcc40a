"""metadata.jsonl of a Hugging Face imagefolder: one JSON object per image."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

from recog.core.errors import DataError
from recog.data.lists.label_format import (
    LabelFormat,
    bit_text,
    find_label_columns,
    label_column_notes,
    labels_of_bits,
)
from recog.data.lists.rows import RESERVED, Listing, Row, cells_of, find_columns, split_of_cell


def _json_objects(text: str, where: str) -> Iterator[tuple[str, Mapping[str, object]]]:
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


def json_listing(text: str, where: str, labels: LabelFormat) -> Listing:
    header = next((list(row) for _, row in _json_objects(text, where)), [])
    has_label = any("label" in row or "labels" in row for _, row in _json_objects(text, where))
    bits: dict[str, int] = {}
    if not labels.separator and (labels.columns or not has_label):
        cells = ((here, _texts(row, header)) for here, row in _json_objects(text, where))
        bits = find_label_columns(header, cells, where=where, reserved=RESERVED, wanted=labels.columns)
    further = [key for i, key in enumerate(header) if key not in RESERVED and i not in bits.values()]
    rows = _json_rows(text, where, labels, header, bits)
    return Listing(rows, tuple(bits), label_column_notes(list(bits), further))


def _texts(row: Mapping[str, object], header: Sequence[str]) -> list[str]:
    return [bit_text(row.get(key)) for key in header]


def _json_rows(
    text: str, where: str, labels: LabelFormat, header: Sequence[str], bits: Mapping[str, int]
) -> Iterator[Row]:
    held = {header[i] for i in bits.values()}
    for here, row in _json_objects(text, where):
        label_key = "labels" if "labels" in row and "label" not in row else "label"
        find_columns([str(key) for key in row], here, "file_name", label_column=None if bits else label_key)
        group = row.get("group")
        known = {*RESERVED, *(held or {label_key})}
        yield Row(
            here,
            str(row["file_name"]),
            labels_of_bits(_texts(row, header), bits) if bits else _json_labels(row[label_key], here, labels),
            split_of_cell(str(row["split"]), here) if "split" in row else None,
            None if group is None else str(group),
            is_list=bool(bits or labels.separator) or isinstance(row[label_key], list),
            columns=cells_of({key: cell for key, cell in row.items() if key not in known}),
        )


def _json_labels(value: object, here: str, labels: LabelFormat) -> tuple[str, ...] | None:
    """None for null and NaN, which mean unlabelled; an empty list is an empty set of labels."""
    if value is None or value != value:
        return None
    if isinstance(value, list):
        return tuple(dict.fromkeys(_json_label(item, here) for item in value))
    return labels.labels_in(_json_label(value, here))


def _json_label(label: object, here: str) -> str:
    if isinstance(label, bool) or not isinstance(label, (str, int, float)):
        raise DataError(f"{here} has the label {str(label)[:40]}; expected one name or one number, or a list of them.")
    return str(label)
