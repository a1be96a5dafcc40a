"""`recog cache`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from recog.cli.guard import guarded
from recog.cli.output import print_json, print_lines
from recog.core.text import plural

if TYPE_CHECKING:
    from recog.data.cache import CacheEntry, CacheListing


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
        what = entry.problem or f"{entry.name}, {plural(entry.num_images, 'image')}, {entry.reader}"
        print_lines(f"{entry.num_bytes / 1e6:>10,.1f} MB  {entry.path.name[:16]}  {what}")
    for entry in listing.left:
        print_lines(f"{entry.path} was not removed: {entry.problem}; remove it yourself")
    done = "removed" if listing.cleared else "held"
    count = len(listing.entries)
    print_lines(
        f"{count:,} {'entry' if count == 1 else 'entries'}, {listing.num_bytes / 1e6:,.1f} MB {done} in {listing.folder}"
    )


def _to_dict(listing: CacheListing) -> dict[str, object]:
    return {
        "folder": str(listing.folder),
        "num_bytes": listing.num_bytes,
        "cleared": listing.cleared,
        "entries": [_entry_to_dict(entry) for entry in listing.entries],
        "left": [_entry_to_dict(entry) for entry in listing.left],
    }


def _entry_to_dict(entry: CacheEntry) -> dict[str, object]:
    return asdict(entry) | {"path": str(entry.path)}
