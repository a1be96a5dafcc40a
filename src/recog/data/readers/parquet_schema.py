"""The columns of a Parquet file: which hold images and labels, and of what types they may be."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from recog.core.config import nearest
from recog.core.errors import DataError
from recog.data.names import class_name_of


def declared_names(table: Any, path: Path) -> tuple[str, ...]:
    """The names of the ClassLabel that the schema's 'huggingface' metadata declares; empty where there is none."""
    metadata = table.schema_arrow.metadata or {}
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
        feature = features[label_column_of(table)]
        if isinstance(feature, list):  # a list of ClassLabel, as Hugging Face writes it in one of three ways
            feature = feature[0]
        feature = feature.get("feature", feature)
        names = tuple(class_name_of(str(name)) for name in feature["names"])
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        return ()
    if len(set(names)) < len(names):
        raise DataError(f"{path} declares a class name twice: {', '.join(names[:10])}.")
    return names


def check_columns(table: Any, path: Path, label_column: str | None) -> None:
    import pyarrow

    schema = table.schema_arrow
    twice = [name for name, count in Counter(schema.names).items() if count > 1]
    if twice:
        raise DataError(f"{path} has the column '{twice[0]}' twice; keep one of them.")
    for wanted in ("image", label_column):
        if wanted is not None and wanted not in schema.names:
            raise DataError(
                f"{path} has no column '{wanted}'; it has: {', '.join(schema.names[:20])}. Expected image (bytes, path) and "
                f"label, or two columns or more of 0 and 1, one per label.{nearest(wanted, schema.names)}"
            )
    image = schema.field("image").type
    has_bytes = pyarrow.types.is_struct(image) and image.get_field_index("bytes") >= 0
    encoded = image.field("bytes").type if has_bytes else image
    if not _is_bytes(encoded):
        where = "'bytes' of the column image" if has_bytes else "the column image"
        raise DataError(
            f"{path} has {where} of type {str(encoded)[:80]}; expected the encoded image file as binary, in the column image "
            "or in its field 'bytes'."
        )
    _check_plain(schema, path, label_column)


def _check_plain(schema: Any, path: Path, label_column: str | None) -> None:
    """DataError unless the labels are numbers or names, or lists of them, and split and group are plain too."""
    for name in ("split", "group", label_column):
        if name is None or name not in schema.names:
            continue
        kind = schema.field(name).type
        item = kind.value_type if name == label_column and is_list(kind) else kind
        if not (is_text(item) or _is_integer(item)) and (name == label_column or not is_plain(item)):
            lists = ", or lists of them" if name == label_column else ""
            raise DataError(
                f"{path} has the column {name} of type {str(item)[:80]}; expected whole numbers or names{lists}."
            )


def label_column_of(table: Any) -> str:
    schema = table.schema_arrow
    if "label" in schema.names or "labels" not in schema.names:
        return "label"
    return "labels" if is_list(schema.field("labels").type) else "label"


def is_list(kind: Any) -> bool:
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
