"""`recog evaluate` and `recog compare`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from recog.cli.guard import Threads, ViewsOption, guarded
from recog.cli.labels import BadImages, DataOptions, IncludeSeen, Split, with_data_options
from recog.cli.output import from_here, print_json, print_lines, print_note, print_rendered
from recog.core.errors import ConfigError
from recog.core.text import plural


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


@guarded
@with_data_options
def compare(
    bundle_a: Annotated[str, typer.Argument(help="A bundle, a run's folder, or a run's name.")],
    bundle_b: Annotated[str, typer.Argument(help="The bundle to compare with; it needs the same classes.")],
    data: Annotated[
        str | None,
        typer.Option(help="Labelled images: a folder, list or archive of images, or a name.", show_default=False),
    ] = None,
    robustness: Annotated[
        bool,
        typer.Option("--robustness", help="Instead: compare what recog robustness has measured of the two runs."),
    ] = False,
    split: Split = None,
    bad_images: BadImages = "auto",
    include_seen: IncludeSeen = False,
    *,
    data_options: DataOptions,
    threads: Threads = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the comparison as JSON on stdout.")] = False,
) -> None:
    """Compare two bundles on the same images: difference in accuracy and the images on which they differ."""
    if robustness:
        if data is not None or split is not None:
            raise ConfigError(
                "--robustness compares results that are kept in the runs. Remove --data and --split, or --robustness."
            )
        _compare_robustness(bundle_a, bundle_b, as_json=as_json)
        return
    if data is None:
        raise ConfigError("--data is missing: name the labelled images to compare on, or give --robustness.")
    from recog.report.comparison import print_comparison
    from recog.verbs.compare import compare as run_comparison

    result = run_comparison(
        bundle_a,
        bundle_b,
        data,
        split=split,
        bad_images=bad_images,
        labels=data_options.labels(),
        layout=data_options.layout(),
        include_seen=include_seen,
    )
    for note in (*result.notes, *_warnings(result.num_seen_by_a, result.num_seen_by_b, result.report.num_images)):
        print_note(note)
    for name, reason in result.excluded[:10]:
        print_note(f"left out {name}: {reason}")
    if as_json:
        print_json(result.to_dict())
        return
    title = (
        f"{result.data}{f', {result.split} split' if result.split else ''}: {plural(result.report.num_images, 'image')}"
    )
    print_rendered(
        lambda console: print_comparison(
            result.report, console, name_a=result.name_a, name_b=result.name_b, title=title
        )
    )


def _compare_robustness(bundle_a: str, bundle_b: str, *, as_json: bool) -> None:
    from recog.report.comparison import print_paired
    from recog.verbs.compare import compare_robustness

    found = compare_robustness(bundle_a, bundle_b)
    for note in found.notes:
        print_note(note)
    if as_json:
        print_json(found.to_dict())
        return
    title = f"robustness on {plural(found.num_images, 'image')} of {found.data}; A: {found.name_a}, B: {found.name_b}"
    rows = {**found.rows, **found.by_corruption}
    print_rendered(lambda console: print_paired(rows, console, title=title))


def _warnings(num_seen_by_a: int | None, num_seen_by_b: int | None, num_images: int) -> list[str]:
    return [
        f"warning: {who} was trained, selected or calibrated with {num_seen:,} of {plural(num_images, 'image')}; "
        f"its numbers are optimistic"
        for who, num_seen in (("A", num_seen_by_a), ("B", num_seen_by_b))
        if num_seen
    ]
