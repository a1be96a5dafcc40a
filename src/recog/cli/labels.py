"""Options for multi-label data, shared by all commands that read labelled data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from recog.data.readers.label_format import LabelFormat

LabelSeparator = Annotated[str, typer.Option(help="Multi-label data: separator of labels in a CSV cell, such as '|'.")]
LabelColumns = Annotated[
    str,
    typer.Option(help="Multi-label data: 0/1 label columns, comma-separated; detected by default, except in shards."),
]


def label_format(separator: str, columns: str) -> LabelFormat:
    """`columns` are names joined by commas."""
    from recog.data.readers.label_format import LabelFormat

    return LabelFormat(separator=separator, columns=split_columns(columns))


def split_columns(columns: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in columns.split(",") if name.strip())
