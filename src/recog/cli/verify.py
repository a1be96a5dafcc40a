"""`recog verify`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from recog.cli.guard import Threads, guarded
from recog.cli.output import print_json, print_lines


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
    from recog.runtime.verify import verify as run_verification

    outcome = run_verification(bundle)
    if as_json:
        print_json(asdict(outcome))
        return
    print_lines(f"{outcome.num_files} files are as sealed")
    if outcome.ignored:
        print_lines(f"ignored, as left behind by file managers: {', '.join(outcome.ignored)}")
    if outcome.max_prob_difference is None:
        print_lines("the bundle carries no reference images to answer again")
    else:
        print_lines(
            f"{outcome.num_reference_images} reference images answered as sealed: "
            f"probabilities differ by {outcome.max_prob_difference:.1g} at most"
        )
