"""`recog runs`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
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
    names = (run.name, run.data, run.recipe, run.model)
    return [*(name or "" for name in names), accuracy, f"{run.when:%Y-%m-%d %H:%M}"]


def _print_table(found: Sequence[RunSummary]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in COLUMNS:
        table.add_column(name, overflow="fold")
    for run in found:
        table.add_row(*(Text(visible(cell)) for cell in _cells(run)))
    Console(highlight=False).print(table)
