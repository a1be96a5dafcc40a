"""`recog evaluate`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from recog.cli.guard import Threads, ViewsOption, guarded
from recog.cli.labels import DataOptions, IncludeSeen, Split, with_data_options
from recog.cli.output import from_here, print_json, print_lines, print_note, print_rendered


@guarded
@with_data_options
def evaluate(
    bundle: Annotated[str, typer.Argument(help="A bundle, a run's folder, or a run's name.")],
    data: Annotated[str, typer.Argument(help="Labelled images: a folder, list or archive of images, or a name.")],
    split: Split = None,
    out: Annotated[
        Path | None, typer.Option(help="New folder for report.json and report.html; default: the run folder.")
    ] = None,
    predictions: Annotated[
        Path | None,
        typer.Option(
            help="New .csv, .json, .jsonl or .parquet file: true and predicted class and probabilities of each image."
        ),
    ] = None,
    bad_images: Annotated[
        Literal["auto", "skip", "error", "quarantine"],
        typer.Option(
            help="Unreadable images: auto (skip up to 1 % or 3), skip, error (stop), or quarantine (skip and list in a file)."
        ),
    ] = "auto",
    slice_by: Annotated[
        list[str] | None,
        typer.Option(
            "--slice",
            help="size, brightness, source-folder or a column of the data: accuracy per subgroup, worst first; repeatable.",
        ),
    ] = None,
    include_seen: IncludeSeen = False,
    no_images: Annotated[bool, typer.Option("--no-images", help="Write report.html without thumbnails.")] = False,
    maps: Annotated[
        bool, typer.Option("--maps", help="Draw in report.html where the worst errors count for their answer.")
    ] = False,
    views: ViewsOption = "one",
    *,
    data_options: DataOptions,
    threads: Threads = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON on stdout.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Print the report's tables.")] = False,
) -> None:
    """Evaluate a bundle on labelled images: accuracy, per-class metrics and confusion matrix."""
    from recog.report.brief import MAX_NAME, brief_lines
    from recog.report.table import print_report
    from recog.verbs.evaluate import evaluate as run_evaluation

    result = run_evaluation(
        bundle,
        data,
        split=split,
        out=out,
        bad_images=bad_images,
        slice_by=slice_by or (),
        labels=data_options.labels(),
        layout=data_options.layout(),
        include_seen=include_seen,
        predictions=predictions,
        report_images=not no_images,
        maps=maps,
        views=views,
    )
    for note in result.notes:
        print_note(note)
    if as_json:
        print_json(result.report.to_dict())
    elif verbose:
        print_rendered(lambda console: print_report(result.report, console))
    else:
        print_lines(*brief_lines(result.report, max_name=MAX_NAME if sys.stdout.isatty() else None))
    if result.folder is not None:
        print_note(f"report: {from_here(result.folder / 'report.html')}")
    if predictions is not None:
        print_note(f"predictions: {predictions}")
