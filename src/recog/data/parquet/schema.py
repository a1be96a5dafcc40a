"""The columns of a Parquet file: which hold images and labels, and of what types they may be."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Any

from recog.core.errors import DataError
from recog.data.data_layout import DataLayout
from recog.data.lists.columns import NAMES, OWN_NAMES, Cells, Columns, Role, find_columns, plain_name
from recog.data.names import class_name_of

PARQUET_SUFFIXES = (".parquet", ".pq")
IMAGE = "image"  # the column of images, as Hugging Face calls it


def find_schema_columns(table: Any, path: Path, cells: Cells, layout: DataLayout, long: Collection[str]) -> Columns:
    """The columns of images (role path), labels, splits and groups, by names and types; `long` texts are never looked at.

    DataError where two have one name.
    """
    schema = table.schema_arrow
    twice = [name for name, count in Counter(schema.names).items() if count > 1]
    if twice:
        raise DataError(f"{path} has the column '{twice[0]}' twice; keep one of them.")

    def fits(role: Role, place: int) -> bool:
        field = schema.field(place)
        if role == "path":
            return field.name == IMAGE or holds_images(field.type)
        if field.name in OWN_NAMES[role]:
            return True  # and if its type is another one, an error says so
        if role == "label":
            item = field.type.value_type if holds_list(field.type) else field.type
            return is_text(item) or _is_integer(item)
        return is_plain(field.type) and field.name not in long

    return find_columns(schema.names, cells, str(path), layout, first=IMAGE, fits=fits)


def path_column_of(table: Any) -> str | None:
    """Of a table without encoded images: the first column of texts that may be the paths of images."""
    schema = table.schema_arrow
    if any(holds_images(field.type) for field in schema):
        return None
    known = {plain_name(name) for name in NAMES["path"]}
    return next((field.name for field in schema if is_text(field.type) and plain_name(field.name) in known), None)


def holds_images(kind: Any) -> bool:
    import pyarrow

    has_bytes = pyarrow.types.is_struct(kind) and kind.get_field_index("bytes") >= 0
    return _is_bytes(kind.field("bytes").type if has_bytes else kind)


def declared_names(table: Any, path: Path, label_column: str) -> tuple[str, ...]:
    """The names of the ClassLabel that the schema's 'huggingface' metadata declares; empty where there is none."""
    metadata = table.schema_arrow.metadata or {}
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
        feature = features[label_column]
        if isinstance(feature, list):  # a list of ClassLabel, as Hugging Face writes it in one of three ways
            feature = feature[0]
        feature = feature.get("feature", feature)
        names = tuple(class_name_of(str(name)) for name in feature["names"])
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        return ()
    if len(set(names)) < len(names):
        raise DataError(f"{path} declares a class name twice: {', '.join(names[:10])}.")
    return names


def check_columns(table: Any, path: Path, columns: Columns) -> None:
    """DataError unless the images are encoded files, the labels numbers or names, or lists of them, and the others plain."""
    import pyarrow

    schema, names = table.schema_arrow, columns.names
    image = schema.field(names["path"]).type
    if not holds_images(image):
        has_bytes = pyarrow.types.is_struct(image) and image.get_field_index("bytes") >= 0
        where = f"'bytes' of the column {names['path']}" if has_bytes else f"the column {names['path']}"
        encoded = image.field("bytes").type if has_bytes else image
        raise DataError(
            f"{path} has {where} of type {str(encoded)[:80]}; expected the encoded image file as binary, in the column image "
            "or in its field 'bytes'."
        )
    for role, name in names.items():
        kind = schema.field(name).type
        item = kind.value_type if role == "label" and holds_list(kind) else kind
        if role != "path" and not (is_text(item) or _is_integer(item)) and (role == "label" or not is_plain(item)):
            lists = ", or lists of them" if role == "label" else ""
            raise DataError(
                f"{path} has the column {name} of type {str(item)[:80]}; expected whole numbers or names{lists}."
            )


def holds_list(kind: Any) -> bool:
    import pyarrow

    types = pyarrow.types
    tests = (types.is_list, types.is_large_list, types.is_list_view, types.is_large_list_view)
    return any(
        test(kind) for test in tests
    )  # a list of fixed size is a vector, such as 0 and 1 for each class, not names


def _is_bytes(kind: Any) -> bool:
    import pyarrow

    types = pyarrow.types
    if types.is_dictionary(kind):
        return _is_bytes(kind.value_type)
    tests = (types.is_binary, types.is_large_binary, types.is_binary_view, types.is_fixed_size_binary)
    return any(test(kind) for test in tests)


def is_text(kind: Any) -> bool:
    import pyarrow

    types = pyarrow.types
    if types.is_dictionary(kind):
        return is_text(kind.value_type)
    return any(test(kind) for test in (types.is_string, types.is_large_string, types.is_string_view))


def _is_integer(kind: Any) -> bool:
    import pyarrow

    types = pyarrow.types
    return _is_integer(kind.value_type) if types.is_dictionary(kind) else bool(types.is_integer(kind))


def is_number(kind: Any) -> bool:
    import pyarrow

    return any(test(kind) for test in (pyarrow.types.is_integer, pyarrow.types.is_floating, pyarrow.types.is_boolean))


def is_plain(kind: Any) -> bool:
    """Whether a column's cells are numbers or texts; others, such as a second image, are not even read."""
    import pyarrow

    return is_number(kind) or is_text(kind) or (pyarrow.types.is_dictionary(kind) and is_plain(kind.value_type))
