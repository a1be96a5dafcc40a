"""How messages call an option: `--label-column` on the command line, `label_column` where Python called."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import Any, ParamSpec, TypeVar, cast

from recog.core.errors import BadImage, RecogError
from recog.data.data_layout import DataLayout
from recog.data.lists.label_format import LabelFormat
from recog.recipes.config import OPTIONS

P = ParamSpec("P")
T = TypeVar("T")

_KEYWORDS = {"from": "parent", "slice": "slice_by"}  # where a keyword is not called as the option
_FLAGS = ("include_seen", "find_lr")
_SEVERAL = ("exclude", "images", "split_folders", "label_columns", "slice_by")
_WORDS = "none|auto|head|finetune|scratch|multiclass|multilabel|weights|sampler|skip|error|cpu|cuda|subfolder"
_OPTION = re.compile(
    rf"--(?P<name>[a-z][a-z-]*[a-z])(?:[ =](?P<value>'[^']*'|[A-Z][A-Z_]+\b(?!=)|\d+(?:\.\d+)?(?!\w)|(?:{_WORDS})\b|"
    r"\w+=\S*[^\s.,;:)]))?"
)
_SETTING = re.compile(r"--set '?(?P<key>[a-z]+\.\w+)=(?P<value>[^\s;)']*[^\s;,.)']|\.\.\.)'?")
_PLACEHOLDER = re.compile(r"[A-Z][A-Z_]+|\d+(?:\.\d+)?|'.*'|true|false|\.\.\.")


def as_typed(text: str, options: Collection[str]) -> str:
    """`text` with the settings that `options`, keys of OPTIONS, gave called as these: 'optim.epochs' becomes '--epochs'.

    A setting in `--set KEY=VALUE` stays, and a key without a section only counts where the text begins with it.
    """
    for option in options:
        setting = re.escape(OPTIONS[option])
        place = r"(?<![\w./-])(?<!--set )" if "." in setting else "^"
        end = r"(?![\w=]|\.\w)" if "." in setting else "(?= is )"
        text = re.sub(f"{place}{setting}{end}", f"--{_option_of(option)}", text)
    return text


def _option_of(keyword: str) -> str:
    return {"parent": "from"}.get(keyword, keyword).replace("_", "-")


def in_python(text: str, keywords: Collection[str]) -> str:
    """`text` with options as Python takes them: keywords of the function that was called, else DataLayout or LabelFormat."""
    text = _SETTING.sub(lambda found: f"settings={{'{found['key']}': {_literal(found['value'])}}}", text)
    return _OPTION.sub(lambda found: _python_option(found, keywords), text)


def _python_option(found: re.Match[str], keywords: Collection[str]) -> str:
    option, value = found["name"].replace("-", "_"), found["value"]
    name = _KEYWORDS.get(option, option)
    holder, key = _holder_of(name, keywords)
    if not key:
        return found[0]
    if name in _FLAGS:
        return f"{key}=True" + found[0].removeprefix(f"--{found['name']}")
    if value is None:
        return key
    given = _literal(value)
    given = f"({given},)" if name in _SEVERAL else given
    return f"{holder}({key}={given})" if holder else f"{key}={given}"


def _holder_of(name: str, keywords: Collection[str]) -> tuple[str, str]:
    """(what the keyword is of, '' for the function itself; the keyword, '' where Python has none)."""
    if name in keywords:
        return "", name
    if name in {field.name for field in fields(DataLayout)} and "layout" in keywords:
        return "layout=recog.DataLayout", name
    plain = name if name == "names" else name.removeprefix("label_")
    if plain in {field.name for field in fields(LabelFormat)} and "labels" in keywords:
        return "labels=recog.LabelFormat", plain
    return "", ""


def _literal(value: str) -> str:
    if value in ("true", "false"):
        return value.capitalize()
    return value if _PLACEHOLDER.fullmatch(value) else repr(value)


@contextmanager
def reworded(change: Callable[[str], str]) -> Iterator[None]:
    """Errors that leave the block have their text changed."""
    try:
        yield
    except RecogError as error:
        error.args = tuple(change(part) if isinstance(part, str) else part for part in error.args)
        if isinstance(error, BadImage):
            error.remedy = change(error.remedy)
        raise


def worded_for_python(function: Callable[P, T]) -> Callable[P, T]:
    """`function` as Python calls it: its errors name its keywords, not the options of the command line."""
    keywords = frozenset(inspect.signature(function).parameters)
    options = [option for option in OPTIONS if option in keywords]

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        given = [option for option in options if kwargs.get(option) is not None]
        with reworded(lambda text: in_python(as_typed(text, given), keywords)):
            result: Any = function(*args, **kwargs)
        if "notes" in getattr(result, "__dataclass_fields__", ()):
            result = replace(result, notes=tuple(in_python(note, keywords) for note in result.notes))
        return cast(T, result)

    return call
