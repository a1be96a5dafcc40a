"""Folder names that denote splits and classes, shared by the readers."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from types import MappingProxyType

from recog.core.errors import DataError
from recog.core.files import shown

MAX_CLASS_NAME = 200  # characters; every report, table and bundle repeats it

SPLIT_FOLDERS = MappingProxyType(
    {
        "train": "train",
        "training": "train",
        "val": "val",
        "valid": "val",
        "validation": "val",
        "test": "test",
        "testing": "test",
    }
)


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


def case_notes(class_names: Sequence[str]) -> Iterator[str]:
    by_fold: dict[str, list[str]] = {}
    for name in class_names:
        by_fold.setdefault(name.casefold(), []).append(name)
    for names in by_fold.values():
        if len(names) > 1:
            listed = " and ".join(f"'{name}'" for name in names)
            yield f"the classes {listed} differ by case only and are taken as {len(names)} classes"
