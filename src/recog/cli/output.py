"""Where text leaves the program: notes on stderr, the answer on stdout. What came from outside is printed escaped."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.text import Text

from recog.core.text import visible

WIDEST = 100_000  # columns: no table is folded

notes = Console(stderr=True, highlight=False)
"""Progress and notes go to stderr, so that stdout holds the answer alone."""


def print_note(*lines: str, prefix: tuple[str, str] = ("", "")) -> None:
    """Each of `lines` as one line on stderr, the first after `prefix`, which is (text, style).

    A terminal folds them between words; in a file or pipe nothing is folded.
    """
    text = "\n".join(map(visible, lines))
    if notes.is_terminal:
        text = _folded(prefix[0] + text, notes.width).removeprefix(prefix[0])
    try:
        notes.print(Text.assemble(prefix, text), soft_wrap=True)
    except BrokenPipeError:
        raise
    except OSError:  # such as a full disk: no note is worth the work
        silence(sys.stderr)


def _folded(text: str, width: int) -> str:
    """`text` with line breaks between words, what goes on indented; long words such as paths stay whole, to be copied."""
    lines = []
    for line in text.split("\n"):
        indent = line[: len(line) - len(line.lstrip())]
        lines += textwrap.wrap(
            line, width, subsequent_indent=f"{indent}  ", break_long_words=False, break_on_hyphens=False
        ) or [""]
    return "\n".join(lines)


def silence(stream: TextIO) -> None:
    """Let nothing more arrive at `stream`, which can no longer be written."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


def activity(text: str) -> contextlib.AbstractContextManager[object]:
    """A block in which a terminal shows that the program is at work, and on what."""
    return notes.status(visible(text)) if notes.is_terminal else contextlib.nullcontext()


def print_lines(*lines: str) -> None:
    """Each of `lines` as one line on stdout."""
    for line in lines:
        print(visible(line))


def print_rendered(render: Callable[[Console], None], *, to_stderr: bool = False) -> None:
    """What `render` prints: as wide as a terminal is; in a file or pipe without colours, nothing folded, cut or padded."""
    console = notes if to_stderr else Console(highlight=False)
    if console.is_terminal:
        render(console)
        return
    text = io.StringIO()
    render(Console(file=text, width=WIDEST, highlight=False, force_terminal=False))
    lines = [line.rstrip() for line in text.getvalue().splitlines()]
    if to_stderr:
        print_note(*lines)
    else:
        print(*lines, sep="\n")


def print_json(value: Any, *, indent: int | None = None) -> None:
    """JSON of ASCII characters, valid in every encoding; names that are not UTF-8 become escapes of lone surrogates."""
    print(json.dumps(value, indent=indent, ensure_ascii=True))


def print_cells(cells: Sequence[str]) -> None:
    """One line on stdout for a file or pipe: cells separated by tabs, nothing folded or cut."""
    print(*map(visible, cells), sep="\t")


def from_here(path: Path) -> Path:
    """Relative to the current folder, where it is below it."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
