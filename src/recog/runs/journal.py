"""Records of a run: metrics.jsonl, results.csv, TensorBoard events, debug.log. No failure to write one stops the run."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import math
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO, cast

import numpy as np
import torch
from numpy.typing import NDArray

from recog.core.config import flatten
from recog.core.errors import DataError
from recog.core.files import not_linked, open_regular, write_bytes_atomic
from recog.core.records import read_bytes
from recog.core.text import visible
from recog.evaluation.results.facts import CrossValidation
from recog.models.classifier import Classifier
from recog.recipes.events import CutShort, EpochResult, FirstBatch, HeadChoice, HeadLog, LearnEvent
from recog.recipes.prepare import Prepared
from recog.report.pictures import confusion_picture, image_grid
from recog.runs.history import MAX_METRICS_BYTES, METRICS, RESULTS, history_of, read_records, results_csv
from recog.training.fit import SkippedStep, StepLog, eval_mode
from recog.training.schedule import EarlyStopped

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

logger = logging.getLogger("recog")

TENSORBOARD = "tensorboard"
GRAPH = "TensorBoard's graph"
DEBUG_LOG = "debug.log"
RESULTS_EVERY_S = 1.0  # at most, as each writing waits for the disk; at the end in any case

Values = dict[str, float | int | str]


class Journal:
    """Appends records to a run folder; a context manager that closes what it opened.

    A run that resumes `after` so many (epochs, steps) keeps their records; those of steps that are taken again are dropped.
    `pop_warnings` has a failure to write, once per file; each record is tried anew. It also has what any part of recog logs
    as a warning, such as a checkpoint that was written at the second attempt.
    """

    def __init__(self, run: Path, *, after: tuple[int, int] = (0, 0)) -> None:
        epochs, steps = after
        self._reported: set[str] = set()
        self._messages: list[str] = []
        self._metrics: TextIO | None = None
        self._handler: logging.Handler = logging.NullHandler()
        self._warnings = _Warnings(lambda message: self._messages.append(message))
        self.outcome: dict[str, float] = {}  # of the best epoch or head so far
        self.board = Board(run / TENSORBOARD, steps_done=steps)
        self._results = run / RESULTS
        self._rows: list[dict[str, Any]] = []  # of results.csv
        self._results_due = 0.0  # in seconds of time.monotonic
        with self.suppressed(METRICS):
            _drop_later(run / METRICS, epochs=epochs, steps=steps)
            self._rows += read_records(run)
            self._metrics = io.TextIOWrapper(
                cast(io.BufferedWriter, open_regular(run / METRICS, "ab")), encoding="utf-8"
            )
        with self.suppressed(DEBUG_LOG):
            self._handler = _DebugLog(run / DEBUG_LOG, self._note)

    def log(self, *lines: str) -> None:
        """Lines of debug.log."""
        for line in lines:
            logger.info("%s", line)

    def record(self, kind: str, step: int, values: Mapping[str, float | int | str]) -> None:
        """One line of metrics.jsonl, a row of results.csv for an epoch or head, and each number as the scalar `kind/name`."""
        if self._metrics is not None:
            with self.suppressed(METRICS):
                self._metrics.write(json.dumps({"kind": kind, "step": step, **values}, allow_nan=False) + "\n")
                self._metrics.flush()
        if kind in ("epoch", "head"):
            self._rows.append({"kind": kind, "step": step, **values})
            if time.monotonic() >= self._results_due:
                self._write_results()
        with self.suppressed(TENSORBOARD):
            self.board.scalars(kind, step, values)

    def _write_results(self) -> None:
        with self.suppressed(RESULTS):
            write_bytes_atomic(self._results, results_csv(history_of(self._rows)))
        self._results_due = time.monotonic() + RESULTS_EVERY_S

    @contextlib.contextmanager
    def suppressed(self, what: str) -> Iterator[None]:
        """A block that records: an error in it becomes a warning, and training continues."""
        try:
            yield
        except Exception as error:  # noqa: BLE001  no record is worth a run
            self._note(what, error)

    def pop_warnings(self) -> list[str]:
        """The warnings since the last call."""
        messages, self._messages = self._messages, []
        return messages

    def _note(self, what: str, error: BaseException) -> None:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        if what not in self._reported:
            self._reported.add(what)
            self._messages.append(
                f"warning: {what} cannot be written in full ({reason}); training continues without it"
            )
        if what != DEBUG_LOG:
            logger.warning("a record of %s could not be written: %s", what, reason)

    def _note_thread(self, failed: threading.ExceptHookArgs) -> None:
        """TensorBoard writes in its own thread; Python would print a traceback if that fails."""
        if type(failed.thread).__module__.startswith("tensorboard") and failed.exc_value is not None:
            self._note(TENSORBOARD, failed.exc_value)
        else:
            self._hook(failed)

    def __enter__(self) -> Journal:
        self._level = logger.level
        self._hook, threading.excepthook = threading.excepthook, self._note_thread
        logger.setLevel(logging.DEBUG)
        logger.addHandler(self._handler)
        logger.addHandler(self._warnings)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and kind is not GeneratorExit:
            self.log(f"stopped by {type(error).__name__}: {error}")
        if self._rows:
            self._write_results()
        if self._metrics is not None:
            with self.suppressed(METRICS):
                self._metrics.close()
        with self.suppressed(TENSORBOARD):
            self.board.close()
        logger.removeHandler(self._handler)
        logger.removeHandler(self._warnings)
        logger.setLevel(self._level)
        threading.excepthook = self._hook
        with self.suppressed(DEBUG_LOG):
            self._handler.close()


class _Warnings(logging.Handler):
    """Passes on what is logged as a warning, except by the journal itself."""

    def __init__(self, pass_on: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._pass_on = pass_on

    def emit(self, record: logging.LogRecord) -> None:
        if record.name != logger.name:
            self._pass_on(record.getMessage())


class _DebugLog(logging.FileHandler):
    def __init__(self, path: Path, note: Callable[[str, BaseException], None]) -> None:
        super().__init__(path, encoding="utf-8")
        self._note = note
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))

    def format(self, record: logging.LogRecord) -> str:
        return visible(super().format(record), keep_newlines=True)

    def _open(self) -> io.TextIOWrapper:
        return io.TextIOWrapper(cast(io.BufferedWriter, open_regular(Path(self.baseFilename), "ab")), encoding="utf-8")

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  logging's name for it
        error = sys.exc_info()[1]
        if error is not None:
            self._note(DEBUG_LOG, error)


def _drop_later(path: Path, *, epochs: int, steps: int) -> None:
    """Drop from metrics.jsonl what is written again when a run resumes after so many epochs and steps."""
    if not os.path.lexists(path):
        return
    kept = []
    for line in read_bytes(path, max_bytes=MAX_METRICS_BYTES, error=DataError).decode(errors="replace").split("\n"):
        try:
            record = json.loads(line)
            last = {"step": steps, "epoch": epochs}.get(record["kind"], math.inf if steps else 0)
            if record["step"] <= last:
                kept.append(line + "\n")
        except (ValueError, KeyError, TypeError, RecursionError):
            continue  # the half line that a killed process leaves
    write_bytes_atomic(path, "".join(kept).encode())


def record_event(journal: Journal, event: LearnEvent, prepared: Prepared) -> None:
    """Record `event`; of an epoch also the present weights."""
    if isinstance(event, StepLog):
        _record_step(journal, event)
    elif isinstance(event, SkippedStep):
        journal.record("skipped", event.step, {"epoch": event.epoch, "reason": event.reason})
        logger.warning("step %d was skipped; its batch held %s", event.step, ", ".join(event.names))
    elif isinstance(event, FirstBatch):
        with journal.suppressed(TENSORBOARD):
            journal.board.batch(event.images, event.step)
        with journal.suppressed(GRAPH):
            journal.board.graph(prepared.model.classifier, event.images)
    elif isinstance(event, EpochResult):
        _record_epoch(journal, event, prepared)
    elif isinstance(event, (EarlyStopped, CutShort)):
        _record_end(journal, event)
    elif isinstance(event, HeadLog):
        journal.record("head", event.trial, head_values(event))
        if event.is_best:
            journal.outcome = {"val_accuracy": event.val_accuracy, "val_nll": event.val_nll}
    elif isinstance(event, HeadChoice):
        journal.record("head_choice", 0, asdict(event))
    elif isinstance(event, CrossValidation):
        values = {name: value for name, value in asdict(event).items() if value is not None}
        journal.record("cross_validation", event.num_repeats, values)


def _record_end(journal: Journal, event: EarlyStopped | CutShort) -> None:
    if isinstance(event, CutShort):
        journal.record("cut_short", event.step, {"num_steps": event.num_steps})
        return
    values: Values = {"measure": event.measure, "best": event.best, "best_epoch": event.best_epoch}
    journal.record("early_stop", event.epoch, values)


def _record_step(journal: Journal, log: StepLog) -> None:
    values: Values = {"epoch": log.epoch, "loss": log.loss, "lr": log.lr, "grad_norm": log.grad_norm}
    journal.record("step", log.step, {k: v for k, v in values.items() if isinstance(v, int) or math.isfinite(float(v))})
    with journal.suppressed(TENSORBOARD):
        journal.board.speed(log.step, log.num_images)


def _record_epoch(journal: Journal, result: EpochResult, prepared: Prepared) -> None:
    log = result.log
    journal.record("epoch", log.epoch, epoch_values(result))
    if result.is_best:
        journal.outcome = {"val_accuracy": result.val_accuracy, "val_nll": result.val_nll}
    with journal.suppressed(TENSORBOARD):
        if log.epoch > FIRST_PICTURES and log.epoch % PICTURES_EVERY:
            return
        journal.board.weights(prepared.model.classifier, log.epoch)
        if result.confusion is not None:
            journal.board.confusion(result.confusion, prepared.dataset.class_names, log.epoch)


def epoch_values(result: EpochResult) -> Values:
    """What is recorded of an epoch."""
    log = result.log
    return {
        "train_loss": log.train_loss,
        "val_accuracy": result.val_accuracy,
        "val_nll": result.val_nll,
        **_map_of(result.val_map),
        "images_per_s": log.num_images / log.train_s,
        **({"num_skipped": log.num_skipped} if log.num_skipped else {}),
    }


def head_values(head: HeadLog) -> Values:
    """What is recorded of a head that was tried."""
    values: Values = {"method": head.method, "l2": head.l2, "val_accuracy": head.val_accuracy, "val_nll": head.val_nll}
    return values | {"num_folds": head.num_folds} | _map_of(head.val_map)


def _map_of(value: float | None) -> Values:
    return {} if value is None else {"val_map": value}


NOT_COMPARED = frozenset({"data", "split", "checkpoint", "reference", "calibration"})
FIRST_PICTURES, PICTURES_EVERY = 10, 5  # epochs with histograms and a confusion matrix: the first ten, then every fifth
MAX_HISTOGRAM_VALUES = 50_000  # of one tensor, evenly spread: binning millions an epoch would take longer than its use


class Board:
    """Writes event files into `folder`, after a run's first `steps_done` steps. Any method may raise, as a disk may be full."""

    def __init__(self, folder: Path, *, steps_done: int = 0) -> None:
        self._folder = folder
        self._steps_done = steps_done
        self._stepped_at: float | None = None

    @cached_property
    def _writer(self) -> SummaryWriter:
        from torch.utils.tensorboard import SummaryWriter  # half a second to import

        # what an earlier process wrote of steps that are taken again is not shown
        return SummaryWriter(str(not_linked(self._folder)), purge_step=self._steps_done + 1)

    def close(self) -> None:
        if "_writer" in self.__dict__:
            self._writer.close()

    def scalars(self, kind: str, step: int, values: Mapping[str, float | int | str]) -> None:
        """Each number of `values` as `kind/name`."""
        for name, value in values.items():
            if not isinstance(value, str):
                self._writer.add_scalar(f"{kind}/{name}", value, step)

    def speed(self, step: int, num_images: int) -> None:
        """Images per second since the step before, all that happened in between included."""
        now = time.perf_counter()
        if self._stepped_at is not None:
            self._writer.add_scalar("step/images_per_s", num_images / (now - self._stepped_at), step)
        self._stepped_at = now

    def batch(self, images: NDArray[np.uint8], step: int) -> None:
        """Training images uint8 [B, H, W, C] as the network sees them."""
        self._writer.add_image("batch/as_the_network_sees_it", image_grid(images), step, dataformats="HWC")

    def confusion(self, counts: NDArray[np.int64], class_names: Sequence[str], epoch: int) -> None:
        """Counts int64 [K, K] of the validation split, row = true class."""
        picture = confusion_picture(counts, class_names)
        self._writer.add_image("val/confusion_true_class_by_row", picture, epoch, dataformats="HWC")

    def weights(self, classifier: Classifier, epoch: int) -> None:
        for name, parameter in classifier.network.named_parameters():
            values = parameter.detach().float().cpu().reshape(-1)
            values = values[:: max(1, len(values) // MAX_HISTOGRAM_VALUES)]
            self._writer.add_histogram(f"weights/{name.replace('.', '/')}", values.numpy(), epoch)

    def graph(self, classifier: Classifier, images: NDArray[np.uint8]) -> None:
        """The operations on uint8 [B, H, W, C]; nothing of the classifier or of torch's chance is changed."""
        example = torch.from_numpy(images[:1].copy()).to(classifier.device)
        with (
            eval_mode(classifier),
            torch.random.fork_rng(devices=[]),
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),  # torch prints its failures to where a command's answer goes
        ):
            warnings.simplefilter("ignore")
            self._writer.add_graph(classifier, example, use_strict_trace=False)

    def settings(self, toml: str) -> None:
        """The text of run.toml."""
        self._writer.add_text("run.toml", f"```toml\n{toml}```")

    def outcome(self, table: Mapping[str, Any], measures: Mapping[str, float]) -> None:
        """The settings that people vary beside what they led to, for TensorBoard's comparison of runs."""
        varied = {key: value for key, value in table.items() if key not in NOT_COMPARED}
        flat = {name: value for name, value in flatten(varied).items() if value or not name.startswith("augment.")}
        self._writer.add_hparams(flat, {f"outcome/{name}": value for name, value in measures.items()}, run_name=".")
