"""TOML to frozen dataclasses and back. Components own their config; this module only fills and checks it."""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import tomli_w

from recog.core.errors import ConfigError
from recog.core.text import escape_toml

T = TypeVar("T")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """' Did you mean X?' for the nearest known word, or the whole short list where none is near."""
    choices = list(known)
    near = difflib.get_close_matches(word, choices, n=1, cutoff=0.6)
    if near:
        return f" Did you mean '{near[0]}'?"
    return f" Known: {', '.join(choices)}." if len(choices) <= 30 else ""


def build_config(cls: type[T], table: Mapping[str, Any], where: str = "") -> T:
    """Fill the dataclass `cls` from a TOML table; unknown keys and wrong types are ConfigErrors that name the key."""
    hints = typing.get_type_hints(cls)
    names = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
    values = {}
    for key, value in table.items():
        full = f"{where}{key}"
        if key not in names:
            raise ConfigError(f"unknown setting '{full}'.{did_you_mean(key, names)}")
        values[key] = _convert(hints[key], value, full)
    return cls(**values)


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
        return build_config(typing.cast(type, hint), value, f"{where}.")
    if origin in (types.UnionType, typing.Union):
        kinds = [arg for arg in args if arg is not type(None)]
        return None if value is None else _convert(kinds[0], value, where)
    if origin is typing.Literal:
        if value in args:
            return value
        near = did_you_mean(str(value), [str(a) for a in args])
        raise ConfigError(f"{where} is {value!r}; it must be one of {', '.join(map(str, args))}.{near}")
    if origin is tuple and isinstance(value, (list, tuple)):
        return _convert_tuple(args, value, where)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(hint, type) and isinstance(value, hint) and (hint is bool or not isinstance(value, bool)):
        return value
    raise ConfigError(f"{where} is {value!r}; it must be of type {getattr(hint, '__name__', hint)}.")


def _convert_tuple(args: tuple[Any, ...], value: list[Any] | tuple[Any, ...], where: str) -> tuple[Any, ...]:
    if len(args) == 2 and args[1] is Ellipsis:
        args = (args[0],) * len(value)
    if len(args) != len(value):
        raise ConfigError(f"{where} has {len(value)} values; it must have {len(args)}.")
    return tuple(_convert(arg, item, f"{where}[{i}]") for i, (arg, item) in enumerate(zip(args, value, strict=True)))


def config_to_dict(config: Any) -> dict[str, Any]:
    """A dataclass as plain TOML types: nested tables, lists; fields that are None are left out, as TOML has no null."""
    table: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            table[field.name] = config_to_dict(value)
        elif value is not None:
            table[field.name] = list(value) if isinstance(value, tuple) else value
    return table


def load_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"there is no config file {path}.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}.") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}.") from None


def dump_toml(table: Mapping[str, Any]) -> str:
    return escape_toml(tomli_w.dumps(table))


def override(table: Mapping[str, Any], settings: Iterable[str]) -> dict[str, Any]:
    """`table` with `settings` such as 'optim.lr=0.05' laid over it; values are TOML, and a bare word is a string."""
    merged = merge(table, {})
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals or not name.strip():
            raise ConfigError(f"--set takes NAME=VALUE, such as optim.lr=0.05; it got '{setting}'.")
        nested: Any = _toml_value(text.strip())
        for part in reversed(name.strip().split(".")):
            nested = {part: nested}
        merged = merge(merged, nested)
    return merged


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Both tables, `above` winning, tables within tables merged alike; neither is changed."""
    merged = {key: merge(value, {}) if isinstance(value, Mapping) else value for key, value in below.items()}
    for key, value in above.items():
        if isinstance(value, Mapping):
            inner = merged.get(key)
            merged[key] = merge(inner if isinstance(inner, Mapping) else {}, value)
        else:
            merged[key] = value
    return merged


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
