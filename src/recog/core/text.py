"""Text from outside (class, file and column names) made printable. The only place that decides what is escaped."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence

_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})  # control, format, lone surrogate, line and paragraph separator
# Format characters (Cf) that are drawn: signs before Arabic, Syriac and Kaithi numbers.
_DRAWN = frozenset("\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd")
# Joiners stay between characters beyond Latin, where Persian and emoji need them; elsewhere they hide in a name.
_JOINED = re.compile("(?<=[^\0-\u024f])[\u200c\u200d](?=[^\0-\u024f])")
_UNCOMMON = re.compile("[^\n -~]")  # the characters of a document that are looked at one by one


def visible(text: str, *, keep_newlines: bool = False) -> str:
    r"""`text` with every character escaped that a terminal obeys or that hides or reverses its surroundings: '\n', '\u202e'.

    Those are control and format characters (C0, C1, bidirectional controls of UAX 9, zero width), lone surrogates (bytes of a
    file name that are not UTF-8), and line separators; newlines too unless `keep_newlines`.
    """
    if text.isprintable():
        return text
    kept = {joiner.start() for joiner in _JOINED.finditer(text)}
    return "".join(
        _escaped(c) if _is_hidden(c) and i not in kept and not (keep_newlines and c == "\n") else c
        for i, c in enumerate(text)
    )


def escape_json(text: str) -> str:
    r"""A JSON document in which hidden characters within strings are JSON escapes: '\u202e'. Its newlines stay."""
    return _escape_hidden(text, _json_escaped)


def escape_toml(text: str) -> str:
    r"""A TOML document in which hidden characters within strings are TOML escapes: '\u202e'. Its newlines stay."""
    return _escape_hidden(text, lambda c: f"\\U{ord(c):08x}")


def _escape_hidden(text: str, escaped: Callable[[str], str]) -> str:
    return _UNCOMMON.sub(lambda found: escaped(found[0]) if _is_hidden(found[0]) else found[0], text)


def _is_hidden(character: str) -> bool:
    return unicodedata.category(character) in _HIDDEN and character not in _DRAWN


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def _json_escaped(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[i : i + 4]}" for i in range(0, len(units), 4))


def plural(count: int, noun: str, plural_noun: str | None = None) -> str:
    """'1 class', '2,000 classes'."""
    return f"{count:,} {noun if count == 1 else plural_noun or noun + 's'}"


def listing(names: Sequence[str], limit: int = 8) -> str:
    """'daisy, roses and 3 more'."""
    listed = [visible(name) for name in names[:limit]]
    if len(names) > limit:
        return f"{', '.join(listed)} and {len(names) - limit:,} more"
    return " and ".join(filter(None, [", ".join(listed[:-1]), *listed[-1:]]))


def span(low: float, high: float, form: str = ",", between: str = " to ") -> str:
    """'3 to 1,200', and '300' where both ends read the same; `form` is a format of each."""
    first, last = f"{low:{form}}", f"{high:{form}}"
    return first if first == last else f"{first}{between}{last}"
