"""Options on how the data are laid out and labelled, shared by all commands that read labelled data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from recog.core.task import Task
    from recog.data.data_layout import DataLayout
    from recog.data.lists.label_format import LabelFormat

SplitFolders = Annotated[
    str, typer.Option(metavar="SPLIT=FOLDER,...", help="Split folders, if not detected: train=FOLDER,test=FOLDER.")
]
ClassesAtDepth = Annotated[
    int | None,
    typer.Option(help="Level of the class folders: 1 (in DATA), 2 (within those), ...; detected by default."),
]
LabelPattern = Annotated[
    str,
    typer.Option(help="Label in the file name: '{label}.{}.jpg' for cat.0.jpg; {number} is digits, {} any text."),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATTERN",
        help="Files or folders to leave out, such as '*_mask.png', or a CSV of images marked 'exclude'; repeatable.",
    ),
]
Relabel = Annotated[
    str, typer.Option(metavar="FILE", help="CSV of images with new labels, as the page of recog scan --deep gives it.")
]
Group = Annotated[
    str,
    typer.Option(help="Images to keep in one split: 'subfolder', a column, or a regular expression on the path."),
]
PathColumn = Annotated[
    str, typer.Option(metavar="COLUMN", help="Column of image paths in a list, if its name does not tell.")
]
LabelColumn = Annotated[
    str, typer.Option(metavar="COLUMN", help="Column of labels in a list, if its name does not tell.")
]
SplitColumn = Annotated[
    str, typer.Option(metavar="COLUMN", help="Column of train, val and test in a list; 'none' ignores it.")
]
GroupColumn = Annotated[
    str, typer.Option(metavar="COLUMN", help="Column of groups (patient, clip) in a list; 'none' ignores it.")
]
Images = Annotated[
    list[str] | None,
    typer.Option("--images", metavar="DIR", help="Folder of the images of a list, if not beside it; repeatable."),
]
Encoding = Annotated[str, typer.Option(help="Encoding of a list's text, such as cp1252 or utf-16; UTF-8 by default.")]
LabelSeparator = Annotated[str, typer.Option(help="Multi-label data: separator of labels in a CSV cell, such as '|'.")]
LabelColumns = Annotated[
    str,
    typer.Option(help="Multi-label data: 0/1 label columns, comma-separated; detected by default, except in shards."),
]

TaskOption = Annotated[
    Literal["multiclass", "multilabel"] | None,
    typer.Option(
        "--task", help="One label per image (multiclass) or any number (multilabel), where the data leave it open."
    ),
]
NameEncoding = Annotated[
    str, typer.Option("--names", help="Encoding of names in a zip archive that states none, such as gbk or shift_jis.")
]


def label_format(separator: str, columns: str, names: str, task: Task | None = None) -> LabelFormat:
    """`columns` are names joined by commas."""
    from recog.data.lists.label_format import LabelFormat

    return LabelFormat(separator=separator, columns=split_columns(columns), names=names, task=task)


def split_columns(columns: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in columns.split(",") if name.strip())


def data_layout(values: Mapping[str, Any]) -> DataLayout:
    """Of the arguments of a command those that state the layout; a text may be several values, joined by commas."""
    from dataclasses import fields

    from recog.data.data_layout import DataLayout

    given: dict[str, Any] = {}
    for field in fields(DataLayout):
        value = values[field.name]
        if isinstance(field.default, tuple):
            given[field.name] = split_columns(value) if isinstance(value, str) else tuple(value or ())
        else:
            given[field.name] = value
    return DataLayout(**given)
