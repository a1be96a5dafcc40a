"""`recog explain`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from recog.cli.guard import Threads, guarded
from recog.cli.output import from_here, notes, print_json, print_lines, print_note, print_rendered
from recog.report.text import plural

if TYPE_CHECKING:
    from rich.console import Console

    from recog.verbs.explain import Explanations
    from recog.verbs.explain_checks import CheckProgress


@guarded
def explain(
    bundle: Annotated[str, typer.Argument(help="A bundle, a run's folder, or a run's name.")],
    images: Annotated[
        list[str] | None, typer.Argument(help="Image files, folders or patterns; default: test images of all classes.")
    ] = None,
    errors: Annotated[bool, typer.Option("--errors", help="Explain the worst errors of the run's report.")] = False,
    class_name: Annotated[str, typer.Option("--class", metavar="NAME", help="Explain test images of this class.")] = "",
    data: Annotated[str, typer.Option(help="Labelled images; default: where the run found them.")] = "",
    label: Annotated[
        str, typer.Option(metavar="NAME", help="Explain this class; default: the predicted and the true one.")
    ] = "",
    method: Annotated[
        str,
        typer.Option(
            help="auto, gradcam, layercam, integrated-gradients, gradients, smoothgrad, occlusion or rise; auto: the most "
            "faithful one, if --check was run."
        ),
    ] = "auto",
    check: Annotated[
        bool, typer.Option("--check", help="Measure how faithful the methods are on this model; takes minutes.")
    ] = False,
    nearest: Annotated[int, typer.Option(help="Show so many of the most similar training images.", min=0, max=12)] = 0,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="New folder for the sheet and maps; default: the run folder.")
    ] = None,
    threads: Threads = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")] = False,
) -> None:
    """Show where images count for a class: maps, checks of the maps, and hints at shortcuts such as watermarks."""
    from recog.verbs.explain import explain_events
    from recog.verbs.explain_checks import CheckProgress
    from recog.verbs.explain_choice import Choice

    choice = Choice(
        images=tuple(images or ()),
        errors=errors,
        class_name=class_name,
        data=data,
        label=label,
        method=method,
        check=check,
        nearest=nearest,
    )
    with _bar() as show_progress:
        for event in explain_events(bundle, choice, out=out, num_threads=threads):
            if isinstance(event, str):
                print_note(event)
            elif isinstance(event, CheckProgress):
                show_progress(event)
            else:
                found = event
    _print(found, as_json=as_json)


@contextlib.contextmanager
def _bar() -> Iterator[Callable[[CheckProgress], None]]:
    """What shows the progress of checks: first the time that they are expected to take, then on a terminal a bar."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    from recog.attribution.table import EXPLAINERS
    from recog.report.sections import duration_text

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=notes, transient=True, disable=not notes.is_terminal) as bar:

        def show(event: CheckProgress) -> None:
            if not event.method:
                print_note(
                    f"checking {plural(event.num_methods, 'method')} on {plural(event.num_images, 'image')}: about "
                    f"{duration_text(event.all_s)} expected; if it is interrupted, the same command goes on where it stopped"
                )
                bar.add_task("checking", total=event.all_s)
            else:
                bar.update(bar.task_ids[0], completed=event.done_s, description=EXPLAINERS[event.method].title)

        yield show


def _print(found: Explanations, *, as_json: bool) -> None:
    for note in found.notes:
        print_note(note)
    if as_json:
        print_json(found.to_dict())
    else:
        for card in found.cards:
            truth = "" if not card.true else ", correct" if not card.is_wrong else f", true: {card.true}"
            print_lines(f"{card.name}: {card.predicted}{truth}")
        if found.checks:
            print_rendered(lambda console: _print_checks(found, console))
        print_lines(*(f"possible shortcut: {hint.text}" for hint in found.shortcuts))
    if found.folder is not None:
        print_note(f"{found.method}: {found.why_method}", f"sheet: {from_here(found.folder / 'explain.html')}")


def _print_checks(found: Explanations, console: Console) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("method", no_wrap=True)
    for name in ("gain over random", "gain over edges", "random weights", "two halves", "gap"):
        table.add_column(name, justify="right", no_wrap=True)
    for check in found.checks:
        gains = (check.faithfulness.over_random, check.faithfulness.over_edges)
        point, similarity, gap = check.pointing, check.weight_similarity, check.completeness_gap
        table.add_row(
            check.method,
            *(f"{gain.mean:+.3f} ({gain.low:+.2f} to {gain.high:+.2f})" for gain in gains),
            "-" if similarity is None else f"{similarity:.2f}{' unchanged!' if check.ignores_weights else ''}",
            "-" if point is None else f"{point.num_right} of {point.num_cases}",
            "-" if gap is None else f"{gap:.1%}",
        )
    console.print(table)
