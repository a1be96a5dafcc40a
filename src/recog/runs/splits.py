"""Which image went where: splits.json of a run, by name and content hash, so that later evaluations can tell seen from new."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from recog.core.errors import BundleError, DataError
from recog.core.files import natural_key, pretty_json, write_bytes_atomic
from recog.data.dataset import SPLITS, Dataset, Exclusion
from recog.data.inspection import HashKind, classes_of, hash_kind

SPLITS_FILE = "splits.json"
QUARANTINE = "quarantine.txt"
TEST_OPENINGS = "test_openings.jsonl"


def write_splits(run: Path, dataset: Dataset, hashes: Mapping[str, str], *, seed: int) -> None:
    key = "classes" if dataset.task == "multilabel" else "class"
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
        "excluded": [{"name": e.name, "reason": e.reason} for e in dataset.exclusions],
    }
    write_bytes_atomic(run / SPLITS_FILE, pretty_json(table))


def write_quarantine(folder: Path, bad: Iterable[Exclusion]) -> None:
    """The bad images, one per line: name, tab, reason. The files themselves stay where they are."""
    lines = [f"{_one_line(e.name)}\t{_one_line(e.reason)}\n" for e in bad]
    text = "# images that were left out: name, tab, reason; the files were not touched\n" + "".join(lines)
    write_bytes_atomic(folder / QUARANTINE, text.encode(errors="surrogateescape"))


def _one_line(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")


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


def read_seen(run: Path) -> SeenImages:
    try:
        table = json.loads((run / SPLITS_FILE).read_text(encoding="utf-8"))
        rows = table["splits"]
        hashes = {split: frozenset(row["sha256"] for row in rows[split]) for split in rows}
        return SeenImages(hashes=hashes, hash_of=table["hash_of"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{run / SPLITS_FILE} cannot be read: {error}.") from None


def log_test_opening(run: Path, *, command: str, num_images: int) -> int:
    """Note that the run's test split was looked at; returns how often it has been by now."""
    path = run / TEST_OPENINGS
    try:
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        lines.append(json.dumps({"opening": len(lines) + 1, "command": command, "num_images": num_images}))
        write_bytes_atomic(path, ("\n".join(lines) + "\n").encode())
    except OSError as error:
        raise DataError(f"{path} cannot be written, so the test split is not opened: {error.strerror}.") from None
    return len(lines)
