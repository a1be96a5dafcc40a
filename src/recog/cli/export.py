"""`recog export`, `recog push` and `recog verify`: commands on a finished bundle."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from recog.cli.guard import Threads, guarded
from recog.cli.output import from_here, print_json, print_lines, print_note, print_rendered
from recog.core.text import plural

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


@guarded
def push(
    run: Annotated[str, typer.Argument(help="A bundle, a run's folder, or a run's name.")],
    repo: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="The model on the Hugging Face hub.")],
    yes: Annotated[bool, typer.Option("--yes", help="Upload. Without it, show what would be uploaded.")] = False,
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
) -> None:
    """Upload a bundle to the Hugging Face hub; without --yes, a dry run."""
    from recog.bundle.hub import push as run_push

    result = run_push(run, repo, yes=yes, private=private)
    if as_json:
        print_json(
            {
                "repo": result.repo,
                "files": dict(result.files),
                "num_reference_images": result.num_reference_images,
                "address": result.address,
            }
        )
        return
    size = f"{plural(len(result.files), 'file')}, {result.num_bytes / 1e6:.1f} MB"
    if result.address is not None:
        print_note(f"uploaded {size}")
        print_lines(result.address)
        return
    for name, num_bytes in result.files:
        print_note(f"  {name}  {num_bytes:,} bytes")
    if result.num_reference_images:
        print_note(
            f"warning: reference.safetensors holds {plural(result.num_reference_images, 'image')} of your data, and report.json "
            "the names of misclassified files; train with --set reference=synthetic to publish none of the images"
        )
    print_note(f"dry run: {size} would go to {result.repo}; --yes uploads them")


@guarded
def verify(
    bundle: Annotated[str, typer.Argument(help="A bundle, a run's folder, or a run's name.")],
    threads: Threads = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")] = False,
) -> None:
    """Verify a bundle's file hashes and its predictions on the reference images.

    Verification detects damage and changes and weights that are NaN or infinite, and refuses an ONNX file with loops, branches,
    custom operators, functions or weights elsewhere. It does not tell who made the bundle, as whoever changes it can seal it
    again, nor how accurate it is, nor how much time and memory a stranger's network takes: run bundles that you do not trust
    under limits.
    """
    from recog.runtime.predictor import verify as run_verification

    outcome = run_verification(bundle)
    if as_json:
        print_json(asdict(outcome))
        return
    print_lines(f"{plural(outcome.num_files, 'file')} unchanged since the bundle was written (sha256)")
    if outcome.ignored:
        print_lines(f"ignored, as left behind by file managers: {', '.join(outcome.ignored)}")
    if outcome.max_prob_difference is None:
        print_lines("the bundle has no reference images, so its predictions were not repeated")
    else:
        print_lines(
            f"{plural(outcome.num_reference_images, 'reference image')} predicted again: probabilities differ by at most "
            f"{outcome.max_prob_difference:.1g}"
        )
