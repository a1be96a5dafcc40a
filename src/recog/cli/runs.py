"""`recog runs`, `recog report` and `recog cache`: what earlier commands left on this machine."""

from __future__ import annotations

import os
import sys
import webbrowser
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from recog.cli.guard import guarded
from recog.cli.output import print_cells, print_json, print_lines, print_note
from recog.core.text import plural, visible

if TYPE_CHECKING:
    from recog.data.cache import CacheEntry, CacheListing
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


@guarded
def report(
    run: Annotated[str, typer.Argument(help="A run's name, or the folder of a run, bundle or evaluation.")],
    png: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Write confusion_matrix, curves, errors and reliability as .png into this folder, instead of opening the page.",
        ),
    ] = None,
    open_page: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in the web browser.")] = True,
) -> None:
    """Open the report of a run in the web browser; print its path."""
    from recog.runs.listing import find_page

    page = find_page(run)
    if png is not None:
        _save_figures(page, png)
        return
    print_lines(str(page))
    if open_page and sys.stdout.isatty() and _has_browser():
        _open(page)


def _save_figures(page: Path, folder: Path) -> None:
    from recog.bundle.manifest import read_bundle_json
    from recog.bundle.seal import REPORT_JSON
    from recog.evaluation.results.read import parse_report
    from recog.report.pictures import read_pictures
    from recog.report.plots import save_figures
    from recog.runs.history import read_history

    report = parse_report(read_bundle_json(page.parent / REPORT_JSON))
    written, left_out = save_figures(folder, report, read_history(page.parent), read_pictures(page))
    for note in left_out:
        print_note(note)
    print_lines(*map(str, written))


def _open(page: Path) -> None:
    try:
        webbrowser.open(page.absolute().as_uri())
    except webbrowser.Error:
        return  # the path is printed


def _has_browser() -> bool:
    """Whether there is a screen to open a page on: without one, `webbrowser` would start a text browser."""
    has_screen = any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))
    return has_screen or sys.platform in ("win32", "darwin")


@guarded
def cache(
    clear: Annotated[bool, typer.Option("--clear", help="Remove every entry.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the listing as JSON on stdout.")] = False,
) -> None:
    """List or clear the cache of decoded images. Datasets that fit in memory are not cached."""
    from recog.data.cache import cache as run_cache

    listing = run_cache(clear=clear)
    if as_json:
        print_json(_to_dict(listing))
        return
    for entry in listing.entries:
        what = entry.problem or f"{entry.name}, {plural(entry.num_images, 'image')}, {entry.reader}"
        print_lines(f"{entry.num_bytes / 1e6:>10,.1f} MB  {entry.path.name[:16]}  {what}")
    for entry in listing.left:
        print_lines(f"{entry.path} was not removed: {entry.problem}; remove it yourself")
    done = "removed" if listing.cleared else "held"
    count = len(listing.entries)
    print_lines(
        f"{count:,} {'entry' if count == 1 else 'entries'}, {listing.num_bytes / 1e6:,.1f} MB {done} in {listing.folder}"
    )


def _to_dict(listing: CacheListing) -> dict[str, object]:
    return {
        "folder": str(listing.folder),
        "num_bytes": listing.num_bytes,
        "cleared": listing.cleared,
        "entries": [_entry_to_dict(entry) for entry in listing.entries],
        "left": [_entry_to_dict(entry) for entry in listing.left],
    }


def _entry_to_dict(entry: CacheEntry) -> dict[str, object]:
    return asdict(entry) | {"path": str(entry.path)}
