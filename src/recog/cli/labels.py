"""The options that say how several labels of one image are written, alike in every command that reads labelled data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from recog.data.readers.label_format import LabelFormat

LabelSeparator = Annotated[
    str, typer.Option(help="Several labels an image: what joins them in a CSV's cell, such as '|'.")
]
LabelColumns = Annotated[
    str,
    typer.Option(
        help="Several labels an image: the columns of 0 and 1, with commas; recognised if left out, but in shards."
    ),
]


def label_format(separator: str, columns: str) -> LabelFormat:
    """`columns` are names joined by commas."""
    from recog.data.readers.label_format import LabelFormat

    return LabelFormat(separator=separator, columns=split_columns(columns))


def split_columns(columns: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in columns.split(",") if name.strip())
