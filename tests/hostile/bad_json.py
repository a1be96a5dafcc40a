"""Kind 50: a bundle's JSON files with one value replaced by a hostile one, wherever a value stands."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

_MARK = "a value is put here"

VALUES = {  # name: JSON text; not all of it is JSON
    "null": "null",
    "true": "true",
    "false": "false",
    "empty text": '""',
    "text": '"none"',
    "a number as text": '"1"',
    "long text": json.dumps("x" * 100_000),
    "half a character": '"\\ud800"',
    "controls": '"\\u0000\\u001b[31m\\n\\u202e"',
    "a path": '"../../etc/passwd"',
    "zero": "0",
    "minus zero": "-0.0",
    "one": "1",
    "two": "2",
    "minus one": "-1",
    "a half": "0.5",
    "one as float": "1.0",
    "many": "1000",
    "10^9": "1000000000",
    "-10^9": "-1000000000",
    "10^30": "1" + "0" * 30,
    "10^400": "1" + "0" * 400,
    "10^5000": "1" + "0" * 5000,
    "2^53 + 1": "9007199254740993",
    "2^63 - 1": "9223372036854775807",
    "-2^63": "-9223372036854775808",
    "1e-308": "1e-308",
    "5e-324": "5e-324",
    "1e308": "1e308",
    "-1e308": "-1e308",
    "1e400": "1e400",
    "NaN": "NaN",
    "Infinity": "Infinity",
    "-Infinity": "-Infinity",
    "an empty list": "[]",
    "a list": "[1, 2]",
    "a list of null": "[null]",
    "lists of lists": "[[1, 2], [3]]",
    "a long list": json.dumps([0.5] * 10_000),
    "an empty object": "{}",
    "an object": '{"a": 1}',
    "40 levels": "[" * 40 + "]" * 40,
    "100,000 levels": "[" * 100_000 + "]" * 100_000,
}
CHANGES = (*VALUES, "left out", "twice")
_MAX_ITEMS = 3  # of a list: the first two and the last


@dataclass(frozen=True, kw_only=True)
class Case:
    path: str  # of the value, such as 'sets.alpha'
    change: str  # one of CHANGES, or 'an unknown key'
    text: str  # of the file

    def __str__(self) -> str:
        return f"{self.path or 'the file'}: {self.change}"


def cases(text: str, *, num_changes: int = len(CHANGES), every: int = 1) -> Iterator[Case]:
    """Every value of the JSON `text`, replaced by every hostile one.

    Of fewer changes, each value gets other ones; `every` takes one of so many values.
    """
    tree = json.loads(text)
    for number, path in enumerate(islice(_paths(tree), 0, None, every)):
        name = ".".join(map(str, path))
        for i in range(num_changes):
            change = CHANGES[(number * num_changes + i) % len(CHANGES)]
            changed = _changed(tree, path, change)
            if changed is not None:
                yield Case(path=name, change=change, text=changed)
        if isinstance(_at(tree, path), dict):
            yield Case(path=name, change="an unknown key", text=_with_unknown_key(tree, path))


def _paths(tree: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    yield path
    if isinstance(tree, dict):
        keys: list[Any] = list(tree)
    else:
        places = range(len(tree)) if isinstance(tree, list) else range(0)
        keys = [i for i in places if i < _MAX_ITEMS - 1 or i == len(tree) - 1]
    for key in keys:
        yield from _paths(tree[key], (*path, key))


def _at(tree: Any, path: tuple[str | int, ...]) -> Any:
    for key in path:
        tree = tree[key]
    return tree


def _changed(tree: Any, path: tuple[str | int, ...], change: str) -> str | None:
    """None where the change is not possible at `path`."""
    if change in VALUES:
        return _text(tree, path, VALUES[change])
    if not path:
        return None
    if change == "left out":
        copy = json.loads(json.dumps(tree))
        del _at(copy, path[:-1])[path[-1]]
        return json.dumps(copy)
    value, key = json.dumps(_at(tree, path)), json.dumps(path[-1])
    return _text(tree, path, f"{value}, {key}: {value}" if isinstance(path[-1], str) else f"{value}, {value}")


def _with_unknown_key(tree: Any, path: tuple[str | int, ...]) -> str:
    copy = json.loads(json.dumps(tree))
    _at(copy, path)["of another release"] = 1
    return json.dumps(copy)


def _text(tree: Any, path: tuple[str | int, ...], value: str) -> str:
    if not path:
        return value
    copy = json.loads(json.dumps(tree))
    _at(copy, path[:-1])[path[-1]] = _MARK
    return json.dumps(copy).replace(json.dumps(_MARK), value)
