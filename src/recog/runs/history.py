"""What a training recorded of its epochs and heads: read from metrics.jsonl, and written as results.csv."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from recog.core.errors import DataError, RecogError
from recog.core.records import convert_record, read_bytes
from recog.report.page.facts import EpochRow, HeadRow, History

METRICS = "metrics.jsonl"
RESULTS = "results.csv"
MAX_METRICS_BYTES = 1 << 30  # some ten million steps


def read_history(run: Path) -> History:
    """Of the run folder `run`; empty where it has no metrics.jsonl."""
    return history_of(read_records(run))


def read_records(run: Path) -> list[dict[str, Any]]:
    """The records of epochs and heads in metrics.jsonl, if there is one. Damaged lines are passed over."""
    try:
        text = read_bytes(run / METRICS, max_bytes=MAX_METRICS_BYTES, error=DataError).decode(errors="replace")
    except DataError:
        return []
    lines = (line for line in text.split("\n") if '"epoch"' in line or '"head"' in line)  # steps are many and not read
    return [record for record in map(_decoded, lines) if isinstance(record, dict)]


def _decoded(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def history_of(records: Iterable[Mapping[str, Any]]) -> History:
    """From records of metrics.jsonl; those that lack a number are passed over."""
    epochs, heads = {}, {}
    for record in records:
        table = {key: value for key, value in record.items() if key not in ("kind", "step")}
        try:
            if record.get("kind") == "epoch":
                row = convert_record({"epoch": record["step"], **table}, EpochRow, where=METRICS)
                epochs[row.epoch] = row
            elif record.get("kind") == "head":
                head = convert_record({"trial": record["step"], **table}, HeadRow, where=METRICS)
                heads[head.trial] = head
        except (KeyError, RecogError):
            continue
    return History(
        epochs=tuple(epochs[number] for number in sorted(epochs)),
        heads=tuple(heads[number] for number in sorted(heads)),
    )


def results_csv(history: History) -> bytes:
    """A row per epoch, or where there are none per head that was tried; empty columns are left out."""
    rows: Sequence[EpochRow | HeadRow] = history.epochs or history.heads
    table = [asdict(row) for row in rows]
    names = [name for name in (table[0] if table else ()) if any(row[name] is not None for row in table)]
    text = io.StringIO()
    writer = csv.DictWriter(text, names, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    return text.getvalue().encode()
