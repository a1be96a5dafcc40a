"""Formatting of numbers and lists for the page and the terminal."""

from __future__ import annotations

import re

from recog.core.text import listing as listing  # also for those that format the rest of a report
from recog.core.text import plural as plural

_UNDEFINED = "n/a"
# A signed number, or a path that starts with a sign (a suffix or a slash, no operator of a formula); further labels may follow.
_SIGNED_DATA = re.compile(r"[+-]([0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?|[\w .-]*[./\\][\w ./\\-]*)( \| [^!()=]*)?\Z")


def percent(rate: float | None, decimals: int = 1) -> str:
    """'87.5%' for 0.875, '-2.5%' for -0.025. Only 0 and 1 are rounded to 0% and 100%: 0.9999 is '99.99%'."""
    if rate is None:
        return _UNDEFINED
    return f"{'-' if rate < 0 else ''}{_percent_number(abs(rate), decimals)}%"


def percent_range(interval: tuple[float, float] | None, *, dash: str = "-", decimals: int = 1) -> str:
    """'82.2-91.4%' for (0.822, 0.914)."""
    if interval is None:
        return _UNDEFINED
    low, high = (_percent_number(bound, decimals) for bound in interval)
    return f"{low}{dash}{high}%"


def number_range(interval: tuple[float, float] | None, *, dash: str = "-", decimals: int = 3) -> str:
    """'0.301-0.462' for (0.3012, 0.4618)."""
    if interval is None:
        return _UNDEFINED
    return dash.join(f"{bound:.{decimals}f}" for bound in interval)


def _percent_number(rate: float, decimals: int) -> str:
    if rate in (0.0, 1.0):
        return f"{rate * 100:.0f}"
    for digits in range(decimals, decimals + 3):
        text = f"{rate * 100:.{digits}f}"
        if 0.0 < float(text) < 100.0:
            return text
    least = 10.0**-digits
    return f"<{least:.{digits}f}" if rate < 0.5 else f">{100 - least:.{digits}f}"


def spreadsheet_cell(text: str) -> str:
    """`text` with a leading quote where a spreadsheet would run it: =, @, tab, CR, and + or - unless a number or path follows.

    '-1', '-4.jpg', '-1 | daisy' and '-a/b.png' stay as they are; '-2+cmd|x!A1' and '+SUM(A1)' are quoted.
    """
    is_run = text.startswith(("=", "@", "\t", "\r")) or (text[:1] in ("+", "-") and not _SIGNED_DATA.match(text))
    return f"'{text}" if is_run else text
