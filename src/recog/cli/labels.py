"""Options on how the data are laid out and labelled, shared by all commands that read labelled data."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
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
Split = Annotated[str | None, typer.Option(help="train, val or test, if the data have splits.")]
BadImages = Annotated[
    Literal["auto", "skip", "error"],
    typer.Option(help="Unreadable images: auto (skip up to 1 % or 3), skip, or error (stop)."),
]
IncludeSeen = Annotated[
    bool, typer.Option("--include-seen", help="Include images used to train, select or calibrate the model.")
]
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


DATA_OPTIONS: Mapping[str, tuple[Any, Any]] = (
    MappingProxyType(  # of a command that reads labelled data: (type, default)
        {
            "split_folders": (SplitFolders, ""),
            "classes_at_depth": (ClassesAtDepth, None),
            "label_pattern": (LabelPattern, ""),
            "exclude": (Exclude, None),
            "relabel": (Relabel, ""),
            "group": (Group, ""),
            "path_column": (PathColumn, ""),
            "label_column": (LabelColumn, ""),
            "split_column": (SplitColumn, ""),
            "group_column": (GroupColumn, ""),
            "images": (Images, None),
            "encoding": (Encoding, ""),
            "label_separator": (LabelSeparator, ""),
            "label_columns": (LabelColumns, ""),
            "names": (NameEncoding, ""),
        }
    )
)


@dataclass(frozen=True)
class DataOptions:
    """The values of DATA_OPTIONS."""

    values: dict[str, Any]

    def layout(self) -> DataLayout:
        return data_layout(self.values)

    def labels(self, task: Task | None = None) -> LabelFormat:
        return label_format(self.values["label_separator"], self.values["label_columns"], self.values["names"], task)


def with_data_options(command: Callable[..., None]) -> Callable[..., None]:
    """`command` with the options DATA_OPTIONS in place of its parameter `data_options`, for typer to read."""
    signature = inspect.signature(command, eval_str=True)
    parameters: list[inspect.Parameter] = []
    for parameter in signature.parameters.values():
        if parameter.annotation is not DataOptions:
            parameters.append(parameter)
            continue
        parameters += [
            inspect.Parameter(name, parameter.kind, default=default, annotation=kind)
            for name, (kind, default) in DATA_OPTIONS.items()
        ]

    @functools.wraps(command)
    def run(**values: Any) -> None:
        data_options = DataOptions({name: values.pop(name, default) for name, (_, default) in DATA_OPTIONS.items()})
        command(**values, data_options=data_options)

    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return run


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
