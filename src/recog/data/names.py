"""Folder names that denote splits and classes, shared by the readers."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from types import MappingProxyType

from recog.core.errors import DataError
from recog.core.files import shown

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
