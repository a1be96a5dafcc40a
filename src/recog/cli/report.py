"""`recog report`."""

from __future__ import annotations

import os
import sys
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from recog.cli.guard import guarded
from recog.cli.output import print_lines, print_note


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
    from recog.report.page.read_page import read_pictures
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
