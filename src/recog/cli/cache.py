"""`recog cache`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from recog.cli.guard import guarded
from recog.cli.output import print_json, print_lines

if TYPE_CHECKING:
    from recog.data.cache import CacheListing


@guarded
def cache(
    clear: Annotated[bool, typer.Option("--clear", help="Remove every entry.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the listing as JSON on stdout.")] = False,
) -> None:
    """List or clear the cache of decoded images. Datasets that fit in memory are not cached."""
    from recog.data.cache import cache as run_cache

    listing = run_cache(clear=clear)
    if as_json:
        print_json(_to_dict(listing))
        return
    for entry in listing.entries:
        what = entry.problem or f"{entry.name}, {entry.num_images:,} images, {entry.reader}"
        print_lines(f"{entry.num_bytes / 1e6:>10,.1f} MB  {entry.path.name[:16]}  {what}")
    done = "removed" if listing.cleared else "held"
    count = len(listing.entries)
    print_lines(
        f"{count:,} {'entry' if count == 1 else 'entries'}, {listing.num_bytes / 1e6:,.1f} MB {done} in {listing.folder}"
    )


def _to_dict(listing: CacheListing) -> dict[str, object]:
    entries = [
        {
            "path": str(entry.path),
            "num_bytes": entry.num_bytes,
            "name": entry.name,
            "reader": entry.reader,
            "num_images": entry.num_images,
            "problem": entry.problem,
        }
        for entry in listing.entries
    ]
    return {
        "folder": str(listing.folder),
        "num_bytes": listing.num_bytes,
        "cleared": listing.cleared,
        "entries": entries,
    }
