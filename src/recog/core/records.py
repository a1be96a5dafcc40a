"""Typed records from JSON files that may come from elsewhere: bounded, checked field by field, errors that name file and field.

The one way in for `recog.json`, `calibration.json`, `report.json`, `splits.json`, checkpoints' manifests and the like. msgspec
checks the types; what a dataclass demands beyond them stands in its `__post_init__`.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from recog.core.errors import BundleError, RecogError
from recog.core.files import open_regular

T = TypeVar("T")

MAX_BYTES = 16 << 20  # 100,000 class names fit
MAX_DEPTH = 32  # our own records nest less than ten levels
MAX_INT = 2**63 - 1
_WHERE = re.compile(r"^(?P<what>.*?)(?: - at `\$\.?(?P<field>.*)`)?$", re.DOTALL)
_WORDS = {"object": "an object", "array": "a list", "str": "text", "int": "a whole number", "float": "a number"}
_WORDS |= {"bool": "true or false", "null": "null"}


def read_bytes(path: Path, *, max_bytes: int = MAX_BYTES, error: type[RecogError] = BundleError) -> bytes:
    """The content of a regular file of at most `max_bytes`; a link, pipe, device or folder in its place is refused."""
    with open_regular(path, error=error) as file:
        try:
            size = os.fstat(file.fileno()).st_size
            if size > max_bytes:
                raise error(f"{path} has {size:,} bytes; at most {max_bytes:,} are read.")
            data = file.read(size + 1)
        except OSError as problem:
            raise error(f"{path} cannot be read: {problem.strerror}.") from None
    if len(data) != size:
        raise error(f"{path} changed while it was read; try again.")
    return data


def read_record(path: Path, kind: type[T], *, max_bytes: int = MAX_BYTES, error: type[RecogError] = BundleError) -> T:
    """The record of type `kind` in a JSON file; `error` with the file and the field where it is not one."""
    return decode_record(read_bytes(path, max_bytes=max_bytes, error=error), kind, where=str(path), error=error)


def decode_record(data: bytes | str, kind: type[T], *, where: str, error: type[RecogError] = BundleError) -> T:
    """As `read_record`, from `data`, UTF-8 JSON that `where` names."""
    return convert_record(decode_object(data, where=where, error=error), kind, where=where, error=error)


def convert_record(
    table: object, kind: type[T], *, where: str, error: type[RecogError] = BundleError, closed: bool = False
) -> T:
    """`table`, plain JSON values, as the dataclass `kind`. Keys that it does not have are ignored, or an error if `closed`."""
    try:
        record = msgspec.convert(table, kind)
    except msgspec.ValidationError as problem:
        raise error(f"{where}: {_in_words(str(problem))}.") from None
    except UnicodeEncodeError:
        raise error(f"{where} holds text that is not Unicode: half of a surrogate pair.") from None
    except RecogError as problem:
        raise error(f"{where}: {problem}") from None
    for key in _unknown_keys(table, record) if closed else ():
        raise error(f"{where}: {key} is not known to this release.")
    return record


def _unknown_keys(table: object, record: object, field: str = "") -> Iterator[str]:
    if not (dataclasses.is_dataclass(record) and isinstance(table, Mapping)):
        return
    known = {f.name for f in dataclasses.fields(record)}
    for key, value in table.items():
        name = f"{field}.{key}".lstrip(".")
        if key in known:
            yield from _unknown_keys(value, getattr(record, key), name)
        else:
            yield name


def decode_object(
    data: bytes | str, *, where: str, error: type[RecogError] = BundleError, max_int: int = MAX_INT
) -> dict[str, Any]:
    """A JSON object whose numbers are finite and fit 64 bits or `max_int`, at most `MAX_DEPTH` levels deep, no key twice."""
    table = decode_values(data, where=where, error=error, max_int=max_int)
    if not isinstance(table, dict):
        raise error(f"{where} holds no JSON object.")
    return table


def decode_values(
    data: bytes | str, *, where: str, error: type[RecogError] = BundleError, max_int: int = MAX_INT
) -> Any:
    """As `decode_object`, of any JSON value."""
    value = parse_json(data, where, error)
    check_values(value, where=where, error=error, max_int=max_int)
    return value


def decode_typed(text: str, kind: type[T], *, where: str, error: type[RecogError] = BundleError) -> T:
    """A JSON document as the dataclass `kind`. Keys that it does not have are skipped without being built: for large files."""
    try:
        return msgspec.json.decode(text, type=kind)
    except msgspec.ValidationError as problem:
        raise error(f"{where}: {_in_words(str(problem))}.") from None
    except msgspec.DecodeError as problem:
        raise error(f"{where} is not valid JSON: {str(problem)[:200]}.") from None
    except UnicodeError:
        raise error(f"{where} holds text that is not Unicode: half of a surrogate pair.") from None
    except RecursionError:
        raise error(f"{where} is nested too deep.") from None


def object_keys(text: str, *, where: str, error: type[RecogError] = BundleError) -> frozenset[str]:
    """The keys of a JSON object, whose values are not built."""
    return frozenset(decode_typed(text, dict[str, msgspec.Raw], where=where, error=error))


def decode_names(data: bytes | str, *, where: str, error: type[RecogError] = BundleError) -> tuple[str, ...]:
    """A JSON list of texts."""
    return convert_record(parse_json(data, where, error), tuple[str, ...], where=where, error=error)


def parse_json(data: bytes | str, where: str, error: type[RecogError] = BundleError) -> Any:
    """Any JSON value, no key twice and no NaN; of its numbers, lists and levels nothing is checked."""
    try:
        return json.loads(data, object_pairs_hook=_unique_keys, parse_constant=_refuse_constant)
    except UnicodeDecodeError:
        raise error(f"{where} is not UTF-8 text.") from None
    except RecursionError:
        raise error(f"{where} is nested more than {MAX_DEPTH} levels deep.") from None
    except ValueError as problem:
        raise error(f"{where} is not valid JSON: {str(problem).splitlines()[0][:200]}.") from None


def check_values(
    table: object,
    *,
    where: str,
    error: type[RecogError] = BundleError,
    max_int: int = MAX_INT,
    finite: bool = True,
) -> None:
    """`error` where a number in nested tables and lists is out of range, or the levels are too many."""
    for field, why in _bad_values(table, max_int, finite):
        raise error(f"{where}: {field} {why}.")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):  # one reader would take the first value, another the last
        raise ValueError("a key occurs twice")
    return table


def _refuse_constant(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _bad_values(
    value: object, max_int: int, finite: bool, field: str = "", depth: int = 1
) -> Iterator[tuple[str, str]]:
    """(field, why) of numbers that are out of range and of levels that are too many."""
    if isinstance(value, float) and finite and not math.isfinite(value):
        yield field, "is out of the range of numbers"
    elif isinstance(value, int) and abs(value) > max_int:
        yield field, "is out of the range of whole numbers"
    elif isinstance(value, (dict, list)):
        if depth > MAX_DEPTH:
            yield field[:80], f"is nested more than {MAX_DEPTH} levels deep"
            return
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, item in items:
            name = f"{field}[{key}]" if isinstance(key, int) else f"{field}.{key}".lstrip(".")
            yield from _bad_values(item, max_int, finite, name, depth + 1)


def _in_words(message: str) -> str:
    """msgspec's message with the field first and types by their usual names."""
    match = _WHERE.match(message)
    what, field = (match["what"], match["field"]) if match else (message, None)
    name = field or "the record"
    if types := re.fullmatch(r"Expected `(.*)`, got `(.*)`", what):
        expected = " or ".join(_WORDS.get(kind, kind) for kind in types[1].split(" | "))
        return f"{name} is {_WORDS.get(types[2], types[2])}; expected {expected}"
    if missing := re.fullmatch(r"Object missing required field `(.*)`", what):
        return f"{field + '.' if field else ''}{missing[1]} is missing"
    if choice := re.fullmatch(r"Invalid enum value (.*)", what):
        return f"{name} is {choice[1]}, which is not one of the known values"
    return f"{name}: {what[:1].lower()}{what[1:]}" if field else what
