"""`recog push`."""

from __future__ import annotations

from typing import Annotated

import typer

from recog.cli.guard import guarded
from recog.cli.output import print_json, print_lines, print_note
from recog.core.text import plural


@guarded
def push(
    run: Annotated[str, typer.Argument(help="A bundle, a run's folder, or a run's name.")],
    repo: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="The model on the Hugging Face hub.")],
    yes: Annotated[bool, typer.Option("--yes", help="Upload. Without it, show what would be uploaded.")] = False,
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
) -> None:
    """Upload a bundle to the Hugging Face hub; without --yes, a dry run."""
    from recog.verbs.push import push as run_push

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
