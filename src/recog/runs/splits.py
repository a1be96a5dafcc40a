"""Which image went where: splits.json of a run, by name and content hash, so that later evaluations can tell seen from new."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from recog.core.errors import DataError
from recog.core.files import is_read_only, natural_key, open_regular, pretty_json, write_bytes_atomic
from recog.core.records import MAX_BYTES, read_bytes, read_record
from recog.core.text import visible
from recog.data.dataset import SPLITS, Dataset, Exclusion
from recog.data.inspection import HashKind, classes_of, hash_kind
from recog.evaluation.measures.task import TASK_MEASURES
from recog.report.text import spreadsheet_cell

if TYPE_CHECKING:
    from recog.recipes.events import PrunedLabels

if sys.platform != "win32":
    import fcntl

SPLITS_FILE = "splits.json"
QUARANTINE = "quarantine.txt"
PRUNED = "pruned.csv"
TEST_OPENINGS = "test_openings.jsonl"
MAX_SPLITS_BYTES = 1 << 30  # some millions of images


def write_splits(
    run: Path, dataset: Dataset, hashes: Mapping[str, str], *, seed: int, parent: SeenImages | None = None
) -> None:
    """Write splits.json. The images that made the `parent`, which the run continues, are listed by hash: they count as seen."""
    key = TASK_MEASURES[dataset.task].classes_key
    table = {
        "seed": seed,
        "class_names": list(dataset.class_names),
        "hash_of": hash_kind(dataset.samples),
        "splits": {
            split: [
                {"name": s.name, key: classes_of(dataset, s), "sha256": hashes[s.name]}
                for s in sorted(dataset.subset(split), key=lambda s: natural_key(s.name))
            ]
            for split in SPLITS
            if dataset.subset(split)
        },
        **({} if parent is None else {"parent": {s: sorted(parent.hashes.get(s, ())) for s in ("train", "val")}}),
        "excluded": [{"name": e.name, "reason": e.reason} for e in dataset.exclusions],
    }
    write_bytes_atomic(run / SPLITS_FILE, pretty_json(table))


def write_quarantine(folder: Path, bad: Iterable[Exclusion]) -> None:
    """The bad images, one per line: name, tab, reason. The files themselves stay where they are."""
    lines = [f"{_cell(e.name)}\t{_cell(e.reason)}\n" for e in bad]
    text = "# images that were left out: name, tab, reason; the files were not touched\n" + "".join(lines)
    write_bytes_atomic(folder / QUARANTINE, text.encode())


def write_pruned(folder: Path, found: PrunedLabels) -> None:
    """A row for each training image that is left out for its label, the most suspicious first."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "label", "looks_like", "suspicion"])
    for row in found.suspects:
        names = (spreadsheet_cell(visible(name)) for name in (row.name, row.label, row.looks_like))
        writer.writerow([*names, f"{row.suspicion:.4f}"])
    write_bytes_atomic(folder / PRUNED, text.getvalue().encode())


def _cell(text: str) -> str:
    return visible(text.replace("\\", "\\\\"))


@dataclass(frozen=True, kw_only=True)
class SeenImages:
    """The images that a run used, as content hashes by split."""

    hashes: Mapping[str, frozenset[str]]
    hash_of: HashKind

    def count(self, split: str, hashes: Iterable[str]) -> int:
        known = self.hashes.get(split, frozenset())
        return sum(h in known for h in hashes)

    def shaped_the_model(self, content_hash: str) -> bool:
        """Whether the run trained on the image (train), or selected and calibrated the model with it (val)."""
        return any(content_hash in self.hashes.get(split, ()) for split in ("train", "val"))

    def split_of(self) -> dict[str, str]:
        """The split of each content hash; of several the first, as train was used for fitting and val for selection."""
        return {h: split for split in reversed(SPLITS) for h in self.hashes.get(split, ())}


class SplitRow(msgspec.Struct, frozen=True, kw_only=True):
    """One image of splits.json; `classes` where it may have none or several."""

    name: str
    sha256: str
    label: str | None = msgspec.field(name="class", default=None)
    classes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Splits:
    """What is read back of splits.json."""

    hash_of: HashKind
    splits: Mapping[str, tuple[SplitRow, ...]]
    parent: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # content hashes by split


def read_splits(run: Path) -> Splits:
    return read_record(run / SPLITS_FILE, Splits, max_bytes=MAX_SPLITS_BYTES)


def read_seen(run: Path) -> SeenImages:
    found = read_splits(run)
    hashes = {
        split: frozenset(row.sha256 for row in found.splits.get(split, ())).union(found.parent.get(split, ()))
        for split in dict.fromkeys((*found.splits, *found.parent))
    }
    return SeenImages(hashes=hashes, hash_of=found.hash_of)


@dataclass(frozen=True, kw_only=True)
class TestOpening:
    """How often a run's test split was used by now, this time included; `note` where this time could not be recorded."""

    number: int
    note: str | None = None


def log_test_opening(run: Path, *, command: str, num_images: int, once: bool = False) -> TestOpening:
    """Record that the run's test split is used: a line of test_openings.jsonl. DataError where it is not a file to write to.

    With `once` an equal record stands for this use too, as that of a training that stopped before its end and is resumed.

    A run that the user may only read is used without a record, and the note states that.
    """
    path = run / TEST_OPENINGS
    record = json.dumps({"command": command, "num_images": num_images}).encode() + b"\n"
    try:
        with open_regular(path, "a+b") as file:
            return TestOpening(number=_append_line(file.fileno(), record, path, once=once))
    except DataError as error:
        if not is_read_only(error.__cause__):
            raise
        number = 1 + (read_bytes(path, error=DataError).count(b"\n") if path.is_file() else 0)
        return TestOpening(number=number, note=f"{run} is read-only, so this use of its test split was not recorded")
    except OSError as error:
        raise DataError(f"{path} cannot be written, so the test split is not opened: {error.strerror}.") from None


def _append_line(descriptor: int, record: bytes, path: Path, *, once: bool) -> int:
    """Append `record`, a line, and return its number, from 1; with `once`, not if it is there.

    Others may append at the same time: the file is locked.
    """
    if sys.platform != "win32":
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)  # until the file is closed
    size = os.fstat(descriptor).st_size
    if size > MAX_BYTES:
        raise DataError(f"{path} has {size:,} bytes; at most {MAX_BYTES:,} are read.")
    os.lseek(descriptor, 0, os.SEEK_SET)
    if once and record in (lines := os.read(descriptor, size).splitlines(keepends=True)):
        return lines.index(record) + 1
    os.lseek(descriptor, max(0, size - 1), os.SEEK_SET)
    is_torn = os.read(descriptor, 1) not in (b"", b"\n")  # by a process that was killed
    os.write(descriptor, (b"\n" if is_torn else b"") + record)  # in one call, so that lines stay whole
    end = os.lseek(descriptor, 0, os.SEEK_CUR)
    os.fsync(descriptor)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return os.read(descriptor, end).count(b"\n")
