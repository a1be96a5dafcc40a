"""Small HTML for the results in notebooks: escaped, without scripts or requests, on light and dark pages alike."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape

from PIL import Image

from recog.core.errors import RecogError
from recog.core.text import visible

_PICTURE_PX = 240
MAX_ROWS = 20  # of a table; the rest is counted
_BOX = "max-width:44rem;font-family:system-ui,sans-serif;font-size:14px;line-height:1.5"
_SOFT = "opacity:.7"
_CELL = "padding:.15em 1em .15em 0;text-align:left;background:none;border:0"


def esc(text: str) -> str:
    """`text` for HTML, with characters that hide or reverse others made visible."""
    return escape(visible(text))


def card(title: str, subtitle: str, *parts: str) -> str:
    """A titled block of `parts`, which are HTML."""
    head = f'<div><b style="font-size:1.15em">{esc(title)}</b> <span style="{_SOFT}">{esc(subtitle)}</span></div>'
    return f'<div style="{_BOX}">{head}{"".join(parts)}</div>'


def below(card: str, *parts: str) -> str:
    """`card` with further `parts`, in its font."""
    return f'{card}<div style="{_BOX}">{"".join(parts)}</div>'


def paragraph(text: str, *, soft: bool = False) -> str:
    return f'<div style="{_SOFT if soft else ""}">{esc(text)}</div>' if text else ""


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """At most MAX_ROWS of `rows` below `columns`; without columns, no head."""
    given = list(rows)
    head = "".join(f'<th style="{_CELL};font-weight:600">{esc(name)}</th>' for name in columns)
    body = "".join(
        "<tr>" + "".join(f'<td style="{_CELL}">{esc(cell)}</td>' for cell in row) + "</tr>" for row in given[:MAX_ROWS]
    )
    more = f'<div style="{_SOFT}">and {len(given) - MAX_ROWS:,} more</div>' if len(given) > MAX_ROWS else ""
    head = f"<thead><tr>{head}</tr></thead>" if head else ""
    return f'<table style="border-collapse:collapse;margin:.4em 0">{head}<tbody>{body}</tbody></table>{more}'


def bars(rows: Iterable[tuple[str, float, str]]) -> str:
    """A bar for each (name, share in [0, 1], text)."""
    given = list(rows)
    lines = "".join(
        f'<tr><td style="{_CELL}">{esc(name)}</td><td style="{_CELL}"><div style="width:12em">'
        f'<div style="width:{100 * min(1.0, max(0.0, share)):.1f}%;height:.8em;background:#3b82a6;border-radius:2px">'
        f'</div></div></td><td style="{_CELL}">{esc(text)}</td></tr>'
        for name, share, text in given[:MAX_ROWS]
    )
    more = f'<div style="{_SOFT}">and {len(given) - MAX_ROWS:,} more</div>' if len(given) > MAX_ROWS else ""
    return f'<table style="border-collapse:collapse;margin:.4em 0"><tbody>{lines}</tbody></table>{more}'


def page_frame(page: str, title: str) -> str:
    """A whole page without scripts or requests, in a frame of its own."""
    style = "width:100%;max-width:62rem;height:36rem;border:1px solid;border-radius:3px;margin-top:.6em"
    return f'<iframe srcdoc="{escape(page)}" title="{esc(title)}" sandbox loading="lazy" style="{style}"></iframe>'


def side_by_side(left: str, right: str) -> str:
    return f'<div style="display:flex;flex-wrap:wrap;gap:1em;align-items:flex-start">{left}<div>{right}</div></div>'


def picture_of(source: object, name: str) -> str:
    """The image `source` (path, bytes, open file, Pillow image or array), small; empty where it cannot be shown any more."""
    if source is None:
        return ""
    from recog.core.images.decode import decode

    try:
        image = Image.fromarray(decode(source, name=name, channels=3, min_side=_PICTURE_PX))  # type: ignore[arg-type]
    except RecogError:
        return ""
    image.thumbnail((_PICTURE_PX, _PICTURE_PX))
    buffer = io.BytesIO()
    image.save(buffer, format="png")
    uri = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
    return (
        f'<img src="{uri}" alt="{esc(name)}" style="width:12em;max-height:14em;object-fit:contain;border-radius:3px">'
    )
