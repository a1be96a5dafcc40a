"""`recog bench`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from recog.cli.guard import Threads, guarded
from recog.cli.output import print_json, print_lines, print_note, print_rendered

if TYPE_CHECKING:
    from rich.console import Console

    from recog.verbs.bench import BenchReport, EngineRow


@guarded
def bench(
    bundle: Annotated[str, typer.Argument(help="A bundle, a run's folder, or a run's name.")],
    data: Annotated[
        str | None,
        typer.Argument(help="Labelled images, laid out as for training, to compare accuracy on; bfloat16 needs them."),
    ] = None,
    batch_sizes: Annotated[str, typer.Option(help="Images per batch, comma-separated.")] = "1,32",
    seconds: Annotated[float, typer.Option(help="Time for each engine and batch size.")] = 2.0,
    record: Annotated[bool, typer.Option(help="Record the fastest engine for later use on this machine.")] = True,
    threads: Threads = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")] = False,
) -> None:
    """Measure the engines that can run a bundle on this machine, and record the fastest one with equal predictions."""
    from recog.verbs.bench import bench as run_bench

    report = run_bench(
        bundle,
        data,
        batch_sizes=_numbers(batch_sizes),
        num_threads=threads,
        seconds=seconds,
        record=record,
    )
    for note in report.notes:
        print_note(note)
    if as_json:
        print_json(report.to_dict())
        return
    print_rendered(lambda console: _print_table(report, console))
    for row in report.rows:
        if row.reason:
            print_lines(f"{row.engine} is not chosen: {row.reason}")
    print_lines(f"fastest: {report.chosen}")
    if report.recorded_in:
        print_note(f"recorded for recog predict and recog.load(..., engine='auto'): {report.recorded_in}")


def _numbers(text: str) -> list[int]:
    from recog.core.errors import ConfigError

    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(
            f"--batch-sizes is '{text}'; expected whole numbers joined by commas, such as 1,32."
        ) from None


def _print_table(report: BenchReport, console: Console) -> None:
    from rich.table import Table

    console.print(f"{report.cpu}, threads: {report.num_threads}; compared on {report.num_images} images")
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("engine", no_wrap=True)
    table.add_column("precision", no_wrap=True)
    sizes = sorted({size for row in report.rows for size in row.speeds})
    for size in sizes:
        table.add_column(f"images/s, batch {size}", justify="right", no_wrap=True)
    for heading in ("max |Δp|", "same labels", "accuracy"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in report.rows:
        table.add_row(row.engine, row.precision, *(_speed(row, size) for size in sizes), *_agreement(row))
    console.print(table)


def _speed(row: EngineRow, size: int) -> str:
    speed = row.speeds.get(size)
    return "-" if speed is None else f"{speed.median:.0f} ({speed.least:.0f}-{speed.most:.0f})"


def _agreement(row: EngineRow) -> tuple[str, str, str]:
    if row.max_prob_difference is None or row.label_agreement is None:
        return "-", "-", "-"
    accuracy = "-" if row.accuracy_difference is None else f"{100 * row.accuracy_difference:+.2f} points"
    return f"{row.max_prob_difference:.1g}", f"{row.label_agreement:.1%}", accuracy
