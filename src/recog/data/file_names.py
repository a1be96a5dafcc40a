"""Patterns on the names of files: a template that holds the label, and files to leave out."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property

from recog.core.errors import ConfigError
from recog.core.images.formats import has_image_suffix

_FIELD = re.compile(r"(\{[^{}]*\}|\*)")
_PARTS = {
    "{label}": r"(?P<label>[^/]+)",  # as long as possible
    "{number}": r"(?<!\d)\d+",
    "{}": r"[^/]+?",  # as short as possible
    "*": r"[^/]+?",
}
_MAX_FIELDS = 8
_MEANING = "{label} is the class, {number} digits, {} any text"


@dataclass(frozen=True)
class LabelPattern:
    """A template such as '{label}.{number}.jpg' on a file's name, or with '/' on the end of its path.

    Without an image suffix at its end it is matched with the name before the suffix. ConfigError where it has no meaning.
    """

    template: str

    def __post_init__(self) -> None:
        fields = _FIELD.findall(self.template)
        unknown = [field for field in fields if field not in _PARTS]
        if unknown or fields.count("{label}") != 1 or len(fields) > _MAX_FIELDS:
            wrong = f"has {unknown[0]}" if unknown else f"has {fields.count('{label}')} times {{label}}"
            wrong = wrong if unknown or len(fields) <= _MAX_FIELDS else f"has {len(fields)} fields"
            raise ConfigError(
                f"the label pattern is '{self.template}', which {wrong}; expected {{label}} once, such as "
                f"'{{label}}.{{}}.jpg' for cat.0.jpg: {_MEANING}."
            )
        between = _FIELD.split(self.template)[2:-1:2]
        for left, text, right in zip(fields, between, fields[1:], strict=False):
            if not text and "{number}" not in (left, right):
                raise ConfigError(
                    f"the label pattern is '{self.template}', in which nothing separates {left} and {right}. Put the text "
                    "between them that the names have, or use {number} for digits."
                )

    @cached_property
    def _regex(self) -> re.Pattern[str]:
        parts = (_PARTS.get(part) or re.escape(part) for part in _FIELD.split(self.template.strip("/")) if part)
        return re.compile(f"(?:.*/)?{''.join(parts)}", re.IGNORECASE | re.DOTALL)

    def label_of(self, name: str) -> str | None:
        """The label in `name`, a path with '/'; None where it does not match."""
        match = self._regex.fullmatch(name if has_image_suffix(self.template) else os.path.splitext(name)[0])
        return match["label"] if match else None


def matches_glob(name: str, glob: str) -> bool:
    """Whether `name`, a path with '/', matches: with '/' in `glob` the whole path, else the last part of it."""
    glob = glob.strip("/")
    return fnmatchcase(name if "/" in glob else name.rpartition("/")[2], glob)


def excluded_by(name: str, globs: Iterable[str]) -> str | None:
    """The first of `globs` that matches `name` or a folder above it."""
    parts = name.split("/")
    paths = ["/".join(parts[: i + 1]) for i in range(len(parts))]
    return next((glob for glob in globs if any(matches_glob(path, glob) for path in paths)), None)


def check_globs(globs: Sequence[str]) -> None:
    """ConfigError where one is empty or matches everything."""
    for glob in globs:
        if not glob.strip(" /*"):
            raise ConfigError(
                f"the pattern of files to exclude is '{glob}'; expected one that some files match, such as '*_mask.png'."
            )
