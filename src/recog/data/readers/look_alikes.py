"""Class names that a person cannot tell apart, or hardly: they differ by case, width, invisible or look-alike characters."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Sequence

# Letters that most fonts draw as a Latin one, from the Unicode consortium's confusables.txt (UTS 39); the rarer are left out.
_CYRILLIC = dict(zip("АВЕЅІЈКМНОРСТУХаеорсухіјѕһԁԛԝ", "ABESIJKMHOPCTYXaeopcyxijshdqw", strict=True))
_GREEK = dict(zip("ΑΒΕΖΗΙΚΜΝΟΡΤΥΧαινορ", "ABEZHIKMNOPTYXaivop", strict=True))
_SIGNS = dict(zip("‐‑‒–—−‘’ʼ´`“”", "------'''''\"\"", strict=True))
_LATIN_OF = str.maketrans(_CYRILLIC | _GREEK | _SIGNS)


def look_alike_notes(class_names: Sequence[str]) -> Iterator[str]:
    """A sentence for each set of classes whose names look alike."""
    groups: dict[str, list[str]] = {}
    for name in class_names:
        groups.setdefault(_skeleton(name), []).append(name)
    for names in groups.values():
        if len(names) > 1:
            listed = " and ".join(f"'{name}'" for name in names)
            yield f"the classes {listed} differ by {_difference(names)} only and are taken as {len(names)} classes"


def _difference(names: Sequence[str]) -> str:
    """What the names, whose skeletons are equal, differ by: the first form that makes them equal tells it."""
    forms: dict[str, Callable[[str], str]] = {
        "case": str.casefold,
        "full-width or other forms of the same characters": _plain,
        "invisible characters or spaces": lambda name: _visible(_plain(name)),
    }
    for difference, form in forms.items():
        if len({form(name) for name in names}) == 1:
            return difference
    odd = sorted({c for name in names for c in unicodedata.normalize("NFKC", name) if ord(c) in _LATIN_OF})
    described = ", ".join(f"{unicodedata.name(c).lower()} U+{ord(c):04X}" for c in odd[:5])
    return f"characters that look alike ({described})"


def _skeleton(name: str) -> str:
    return _visible(unicodedata.normalize("NFKC", name).translate(_LATIN_OF).casefold())


def _plain(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold()


def _visible(name: str) -> str:
    """Without characters that draw nothing; all spaces alike, none at the ends or doubled."""
    kept = (c for c in name if c.isspace() or unicodedata.category(c) not in ("Cf", "Cc"))
    return " ".join("".join(kept).split())
