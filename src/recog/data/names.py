"""What names of files and folders tell: splits and classes, labels by a pattern, and files to leave out."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from types import MappingProxyType

from recog.core.errors import ConfigError, DataError
from recog.core.files import shown, user_path
from recog.core.images.formats import has_image_suffix

MAX_CLASS_NAME = 200  # characters; every report, table and bundle repeats it

SPLIT_FOLDERS = MappingProxyType(
    {  # the keywords of Hugging Face datasets (data_files.py, SPLIT_KEYWORDS, 2024)
        "train": "train",
        "training": "train",
        "val": "val",
        "valid": "val",
        "validation": "val",
        "dev": "val",
        "test": "test",
        "testing": "test",
        "eval": "test",
        "evaluation": "test",
    }
)
_CAMEL_CASE = re.compile(r"(?<=[a-z])(?=[A-Z])")
_WORD = re.compile(r"[^\W\d_]+")
_HEX = re.compile(r"[0-9a-f]{8,}", re.IGNORECASE)
_NUMBER = re.compile(r"\d+")
_JOINED_SUFFIX = re.compile(r"(set|data|images?|imgs?)$")
_FIELD = re.compile(r"(\{[^{}]*\}|\*)")
_PARTS = {
    "{label}": r"(?P<label>[^/]+)",  # as long as possible
    "{number}": r"(?<!\d)\d+",
    "{}": r"[^/]+?",  # as short as possible
    "*": r"[^/]+?",
}
_MAX_FIELDS = 8
_MEANING = "{label} is the class, {number} digits, {} any text"


def split_of_name(name: str) -> str | None:
    """The split that a name has as one of its words: seg_train, 'Train Data', train1, PublicTest, valset.

    None where no word is a split's, or words of two splits are in it.
    """
    words = [word.lower() for word in _WORD.findall(_CAMEL_CASE.sub(" ", name))]
    found = {SPLIT_FOLDERS.get(word) or SPLIT_FOLDERS.get(_JOINED_SUFFIX.sub("", word)) for word in words} - {None}
    return found.pop() if len(found) == 1 else None


def splits_of_files(names: Sequence[str]) -> list[str | None]:
    """The split of each file by its name: any word of it where every name has such a word, else only the first word.

    'my-test-data.tar' alone is all there is, and no test split.
    """
    stems = [name.partition(".")[0] for name in names]
    found = [split_of_name(stem) for stem in stems]
    if len(names) > 1 and None not in found:
        return found
    return [SPLIT_FOLDERS.get(re.split(r"[-_\d]", stem.lower(), maxsplit=1)[0]) for stem in stems]


def are_numbered(names: Sequence[str]) -> bool:
    """Whether the names differ by their numbers only, as P003 and P004, or are hexadecimal: parts, rather than classes."""
    shapes = {_NUMBER.sub("#", _HEX.sub("#", name)) for name in names}
    return 2 * len(shapes) <= len(names) and all(any(c.isdigit() for c in name) for name in names)


def class_name_of(text: str) -> str:
    """A class's name in Unicode form NFC: macOS writes folder names in NFD, and both look the same to a person.

    DataError where no file could hold the name, or no table show it.
    """
    if len(text) > MAX_CLASS_NAME:
        raise DataError(
            f"a class has a name of {len(text):,} characters, {shown(text[:40])} and so on; at most {MAX_CLASS_NAME} are "
            "read. Name it in fewer words."
        )
    name = unicodedata.normalize("NFC", text)
    if "\0" in name or any("\ud800" <= character <= "\udfff" for character in name):
        raise DataError(
            f"a class has the name {shown(name)}, with a NUL character or half of a surrogate pair in it, which no file "
            "can hold. Rename it."
        )
    return name


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


def is_decisions_file(entry: str) -> bool:
    """Whether an entry of --exclude is a CSV file that lists images, see `recog.data.decisions`, and no pattern of names."""
    return entry.lower().endswith(".csv") and user_path(entry).is_file()
