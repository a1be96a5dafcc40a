"""`recog runs`."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from recog.cli.guard import guarded
from recog.cli.output import print_cells, print_json, print_note
from recog.core.text import visible

if TYPE_CHECKING:
    from recog.runs.listing import RunSummary

COLUMNS = ("run", "data", "recipe", "network", "accuracy", "when")
_SHORTENED = {"data": 8, "recipe": 8, "network": 8, "accuracy": 16}  # with an ellipsis, to so many characters
_LEFT_OUT_FIRST = ("network", "recipe", "when", "data")
_PADDING = 2  # between columns


@guarded
def runs(
    folder: Annotated[Path, typer.Argument(help="The folder that holds the runs.")] = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the list as JSON on stdout.")] = False,
) -> None:
    """List the runs, the newest first."""
    from recog.runs.listing import list_runs

    found = list_runs(folder)
    if as_json:
        print_json([asdict(run) | {"folder": str(run.folder), "when": run.when.isoformat()} for run in found])
    elif sys.stdout.isatty():
        _print_table(found)
    else:
        print_cells(COLUMNS)
        for run in found:
            print_cells(_cells(run))
    if not found:
        print_note(f"no runs in {folder}; start one with: recog train DATA")


def _cells(run: RunSummary) -> list[str]:
    accuracy = run.state if run.value is None else f"{run.value:.1%}"
    if run.measure == "mAP" and run.value is not None:
        accuracy += " mAP"
    if run.split not in (None, "test"):
        accuracy += f" ({run.split})"
    names = (run.name, run.data, run.recipe, run.model)
    return [*(name or "" for name in names), accuracy, f"{run.when:%Y-%m-%d %H:%M}"]


def _print_table(found: Sequence[RunSummary]) -> None:
    """No name of a run is broken or cut: other columns are shortened, then left out, in the order of _LEFT_OUT_FIRST."""
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    rows = [[visible(cell) for cell in _cells(run)] for run in found]
    widths = {
        name: max(len(name), *(cell_len(row[i]) for row in rows)) if rows else len(name)
        for i, name in enumerate(COLUMNS)
    }
    least = {name: min(width, _SHORTENED.get(name, width)) for name, width in widths.items()}
    shown = list(COLUMNS)
    for name in _LEFT_OUT_FIRST:
        if _width(least, shown) > console.width:
            shown.remove(name)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in shown:
        is_whole = name not in _SHORTENED
        table.add_column(name, overflow="ellipsis", no_wrap=is_whole, min_width=least[name])
    for row in rows:
        table.add_row(*(Text(row[COLUMNS.index(name)]) for name in shown))
    console.width = max(console.width, _width(least, shown))
    console.print(table)


def _width(widths: Mapping[str, int], names: Sequence[str]) -> int:
    return sum(widths[name] + _PADDING for name in names) - _PADDING
