"""`recog cache`: what the decoded cache holds, and clearing it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from recog.core.files import cache_folder
from recog.data.cache import PURPOSE, CacheEntry, clear_entries, list_entries


@dataclass(frozen=True, kw_only=True)
class CacheListing:
    """The files of the decoded cache, the largest first; `cleared` says whether they have just been removed."""

    folder: Path
    entries: tuple[CacheEntry, ...]
    cleared: bool

    @property
    def num_bytes(self) -> int:
        return sum(entry.num_bytes for entry in self.entries)


def cache(*, clear: bool = False) -> CacheListing:
    """List the decoded cache, and empty it where `clear` is set. Runs that have it open keep what they read."""
    entries = clear_entries() if clear else list_entries()
    return CacheListing(folder=cache_folder(PURPOSE), entries=tuple(entries), cleared=clear)
