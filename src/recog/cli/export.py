"""`recog export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from recog.cli.guard import Threads, guarded
from recog.cli.output import from_here, print_json, print_note, print_rendered

if TYPE_CHECKING:
    from rich.console import Console

    from recog.deployment.gate import Gate


@guarded
def export(
    bundle: Annotated[str, typer.Argument(help="A bundle, a run's folder, or a run's name.")],
    to: Annotated[str, typer.Option("--to", help="onnx, openvino, torch, triton, browser or tensorrt.")],
    int8: Annotated[
        bool, typer.Option("--int8", help="Quantise to 8-bit integers on training images: smaller and faster.")
    ] = False,
    images: Annotated[
        str | None,
        typer.Option(
            help="Labelled images to measure on, laid out as for training; default: the run's validation split."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="New folder; default: RUN/exports/TARGET.")] = None,
    seconds: Annotated[float, typer.Option(help="Time for each measurement of speed.")] = 1.0,
    threads: Threads = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")] = False,
) -> None:
    """Export a bundle for another runtime, and refuse it where it does not answer as the bundle does."""
    from recog.verbs.export import export as export_bundle

    result = export_bundle(bundle, to, int8=int8, images=images, out=out, seconds=seconds, num_threads=threads)
    for note in result.notes:
        print_note(note)
    if as_json:
        print_json(result.to_dict())
        return
    print_rendered(lambda console: _print_gate(result.gate, console))
    print_note(f"export: {from_here(result.folder)}")


def _print_gate(gate: Gate, console: Console) -> None:
    from rich.table import Table

    console.print(f"{gate.machine['cpu']}, threads: {gate.machine['num_threads']}")
    console.print(gate.figures())
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    sizes = sorted(gate.speeds["bundle"])
    for heading in ("MB", "accuracy", *(f"images/s, batch {size}" for size in sizes)):
        table.add_column(heading, justify="right", no_wrap=True)
    rows = (
        ("bundle", gate.bundle_bytes, gate.comparison.accuracy_a),
        ("export", gate.export_bytes, gate.comparison.accuracy_b),
    )
    for side, num_bytes, accuracy in rows:
        speeds = (f"{gate.speeds[side][size].median:,.0f}" for size in sizes)
        table.add_row(side, f"{num_bytes / 1e6:.2f}", f"{accuracy:.1%}", *speeds)
    console.print(table)
