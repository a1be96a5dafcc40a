"""`recog verify`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from recog.cli.guard import Threads, guarded
from recog.cli.output import print_json, print_lines
from recog.report.text import plural


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
