"""Records of work that takes long, one a line in the user's cache, so that work that was interrupted can go on."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from recog.core.errors import DataError, RecogError
from recog.core.files import cache_folder, open_regular
from recog.core.records import decode_record

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    R = TypeVar("R", bound=DataclassInstance)
else:
    R = TypeVar("R")

MAX_BYTES = 1 << 30


class RecordLog(Generic[R]):
    """The dataclass records of one piece of work, which `digest` tells from all others.

    Without a cache, or where it cannot be written, nothing is kept and the work goes on.
    """

    def __init__(self, purpose: str, digest: str, kind: type[R]) -> None:
        self._kind = kind
        self._path: Path | None = None
        try:
            self._path = cache_folder(purpose) / f"{digest}.jsonl"
        except DataError:  # no place for a cache: all is done anew
            return

    def read(self) -> list[R]:
        """What was added before, without lines that were cut off when the process ended."""
        if self._path is None or not self._path.exists():
            return []
        with open_regular(self._path) as file:
            lines = file.read(MAX_BYTES).splitlines()
        found = []
        for line in lines:
            try:
                found.append(decode_record(line, self._kind, where=str(self._path)))
            except RecogError:
                continue
        return found

    def add(self, record: R) -> None:
        if self._path is None:
            return
        try:
            with open_regular(self._path, "ab") as file:
                # a new line first: the last one may have been cut off
                file.write(b"\n" + json.dumps(asdict(record)).encode() + b"\n")
        except (OSError, DataError):
            self._path = None

    def remove(self) -> None:
        if self._path is not None:
            self._path.unlink(missing_ok=True)
