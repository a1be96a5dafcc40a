"""What a run writes while it goes: metrics.jsonl, TensorBoard events, debug.log. A journal that fails never stops the run."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from recog.core.files import write_bytes_atomic
from recog.recipes.learn import CrossValidated, EpochResult, HeadLog, LearnEvent
from recog.training.early_stop import EarlyStopped
from recog.training.fit import StepLog

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

logger = logging.getLogger("recog")

METRICS = "metrics.jsonl"
TENSORBOARD = "tensorboard"
DEBUG_LOG = "debug.log"


class Journal:
    """Appends records to a run folder; a context manager that closes what it opened.

    A run that goes on `after` so many (epochs, steps) keeps their records; those of steps that are taken again are dropped.
    """

    def __init__(self, run: Path, *, after: tuple[int, int] = (0, 0)) -> None:
        from torch.utils.tensorboard import SummaryWriter  # half a second to import; only training needs it

        epochs, steps = after
        _drop_later(run / METRICS, epochs=epochs, steps=steps)
        self._metrics = (run / METRICS).open("a", encoding="utf-8")
        self._writer: SummaryWriter = SummaryWriter(str(run / TENSORBOARD), purge_step=steps + 1)
        self._handler = logging.FileHandler(run / DEBUG_LOG, encoding="utf-8")
        self._handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        self._level = logger.level
        logger.setLevel(logging.DEBUG)
        logger.addHandler(self._handler)

    def record(self, kind: str, step: int, values: Mapping[str, float | int | str]) -> None:
        """One line of metrics.jsonl, and each number as the scalar `kind/name` at `step`."""
        try:
            self._metrics.write(json.dumps({"kind": kind, "step": step, **values}, allow_nan=False) + "\n")
            self._metrics.flush()
            for name, value in values.items():
                if isinstance(value, (int, float)):
                    self._writer.add_scalar(f"{kind}/{name}", value, step)
        except (OSError, ValueError) as error:
            logger.warning("a record could not be written: %s", error)

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._metrics.close()
        self._writer.close()
        logger.removeHandler(self._handler)
        logger.setLevel(self._level)
        self._handler.close()


def _drop_later(path: Path, *, epochs: int, steps: int) -> None:
    """Drop from metrics.jsonl what is written again when a run goes on after so many epochs and steps."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            record = json.loads(line)
            last = {"step": steps, "epoch": epochs}.get(record["kind"], math.inf if steps else 0)
            if record["step"] <= last:
                kept.append(line + "\n")
        except (ValueError, KeyError, TypeError):
            continue  # the half line that a killed process leaves
    write_bytes_atomic(path, "".join(kept).encode())


def record_event(journal: Journal, event: LearnEvent) -> None:
    if isinstance(event, StepLog):
        values: dict[str, float | int | str] = {"epoch": event.epoch, "loss": event.loss, "lr": event.lr}
        if event.grad_norm is not None:
            values["grad_norm"] = event.grad_norm
        journal.record("step", event.step, values)
    elif isinstance(event, EpochResult):
        log = event.log
        values = {
            "train_loss": log.train_loss,
            "val_accuracy": event.val_accuracy,
            "val_nll": event.val_nll,
            **_map_of(event.val_map),
            "images_per_s": log.num_images / log.train_s,
        }
        journal.record("epoch", log.epoch, values)
    elif isinstance(event, EarlyStopped):
        values = {"measure": event.measure, "best": event.best, "best_epoch": event.best_epoch}
        journal.record("early_stop", event.epoch, values)
    elif isinstance(event, HeadLog):
        values = {
            "l2": event.l2,
            "val_accuracy": event.val_accuracy,
            "val_nll": event.val_nll,
            **_map_of(event.val_map),
        }
        journal.record("head", event.trial, values)
    elif isinstance(event, CrossValidated):
        values = {"accuracy": event.accuracy, "accuracy_std": event.accuracy_std, "nll": event.nll, "l2": event.l2}
        journal.record("cross_validation", event.num_repeats, values)


def _map_of(value: float | None) -> dict[str, float]:
    return {} if value is None else {"val_map": value}
