"""The table that `recog predict` prints: the image's name once, then a line for each of its answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from recog.core.errors import BadImage

if TYPE_CHECKING:
    from recog.runtime.predictor import Prediction


def print_answers(
    files: Sequence[Path],
    answers: Iterator[Prediction | BadImage],
    columns: Sequence[Column],
    lines_of: Callable[[Prediction], Sequence[Sequence[str]]],
) -> int:
    """`lines_of` gives the cells of an answer's lines, one for each of `columns`. Returns how many images could not be used."""
    table = Table(Column("image", overflow="fold"), *columns, box=None, pad_edge=False, header_style="bold")
    num_bad = 0
    for file, answer in zip(files, answers, strict=True):
        if isinstance(answer, BadImage):
            num_bad += 1
            table.add_row(Text(str(file)), Text(f"not used: {answer.reason}", style="red"))
            continue
        for i, line in enumerate(lines_of(answer)):
            table.add_row(*(Text(cell) for cell in (str(file) if i == 0 else "", *line)))
    Console(highlight=False).print(table)
    return num_bad
