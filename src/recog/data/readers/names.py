"""Folder names that denote splits and classes, shared by the readers."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from types import MappingProxyType

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
    """A class's name in Unicode form NFC: macOS writes folder names in NFD, and both look the same to a person."""
    return unicodedata.normalize("NFC", text)


def case_notes(class_names: Sequence[str]) -> Iterator[str]:
    by_fold: dict[str, list[str]] = {}
    for name in class_names:
        by_fold.setdefault(name.casefold(), []).append(name)
    for names in by_fold.values():
        if len(names) > 1:
            listed = " and ".join(f"'{name}'" for name in names)
            yield f"the classes {listed} differ by case only and are taken as {len(names)} classes"
