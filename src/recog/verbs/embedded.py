"""Training inside another program, a script or notebook: one progress line, and the program's state left as found."""

from __future__ import annotations

import contextlib
import random
import shutil
import time
import warnings
from collections.abc import Iterator, Sequence
from typing import TextIO

import numpy as np
import torch

from recog.core.text import visible
from recog.evaluation.results.report import MultilabelReport, Report
from recog.recipes.events import EpochResult, HeadLog, LearnEvent
from recog.training.distributed import read_world
from recog.training.fit import StepLog

MIN_INTERVAL_S = 0.1  # between two updates of the line
NOTEBOOK_COLUMNS = 100


@contextlib.contextmanager
def state_kept() -> Iterator[None]:
    """Warnings are not shown in the block; torch's threads and device, and the generators of torch, NumPy and random, are
    afterwards as before.
    """
    num_threads, has_cuda = torch.get_num_threads(), torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002  the program's own generator
    device, cuda_states = (torch.cuda.current_device(), torch.cuda.get_rng_state_all()) if has_cuda else (0, [])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.set_num_threads(num_threads)
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        torch.set_rng_state(states[2])
        if has_cuda:
            torch.cuda.set_device(device)
            torch.cuda.set_rng_state_all(cuda_states)


@contextlib.contextmanager
def progress_line(stream: TextIO | None) -> Iterator[ProgressLine]:
    """A ProgressLine on `stream`, ended if an error interrupts it. Nothing is shown by processes that do not write, or without
    a stream.
    """
    line = ProgressLine(stream if read_world().is_writer else None)
    try:
        yield line
    finally:
        line.close()


class ProgressLine:
    """One line that is rewritten as training proceeds; in a file or pipe, only its last state."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        in_notebook = type(stream).__module__.startswith("ipykernel")
        self._rewrites = stream is not None and (stream.isatty() or in_notebook)
        self._columns = NOTEBOOK_COLUMNS if in_notebook else shutil.get_terminal_size().columns
        self._name, self._quality = "", ""
        self._num_steps = self._num_epochs = 0
        self._num_done = self._num_images = 0  # by this process; a run may be resumed
        self._begun = self._shown = time.perf_counter()
        self._width = 0  # of the open line

    def note(self, texts: Sequence[str]) -> None:
        """A line each, before the progress line begins."""
        for text in texts if self._stream is not None else ():
            print(visible(text), file=self._stream, flush=True)

    def begin(self, name: str, *, num_steps: int, num_epochs: int) -> None:
        """Training of the run `name` starts; `num_steps` is 0 if nothing is learnt by steps."""
        self._name, self._num_steps, self._num_epochs = visible(name), num_steps, num_epochs
        self._rewrite("training")

    def show(self, event: LearnEvent) -> None:
        if isinstance(event, StepLog):
            self._show_step(event)
        elif isinstance(event, EpochResult):
            self._quality = f"  val {_quality(event)}"
        elif isinstance(event, HeadLog):
            self._rewrite(f"head  val {_quality(event)}")

    def finish(self, report: Report, duration_s: float) -> None:
        """The result, and the end of the line."""
        if isinstance(report, MultilabelReport):
            quality = f"mAP {report.mean_average_precision or 0:.1%}"
        else:
            quality = f"accuracy {report.accuracy:.1%}"
        result = f"{self._name}  {report.data.split} {quality} of {report.num_images:,} images  {duration_s:.1f} s"
        if self._rewrites:
            self._rewrite(result.removeprefix(f"{self._name}  "))
            self.close()
        elif self._stream is not None:
            print(result, file=self._stream, flush=True)

    def close(self) -> None:
        if self._width and self._stream is not None:
            print(file=self._stream, flush=True)
            self._width = 0

    def _show_step(self, log: StepLog) -> None:
        now = time.perf_counter()
        if not self._num_done:
            self._begun = now
        self._num_done, self._num_images = self._num_done + 1, self._num_images + log.num_images
        if now - self._shown < MIN_INTERVAL_S or self._num_done < 2:
            return
        self._shown, elapsed = now, now - self._begun
        rate = (self._num_images - log.num_images) / elapsed
        left = elapsed / (self._num_done - 1) * (self._num_steps - log.step)
        self._rewrite(
            f"epoch {log.epoch}/{self._num_epochs}  loss {log.loss:.3f}{self._quality}  {rate:,.0f} images/s  {left:,.0f} s left"
        )

    def _rewrite(self, text: str) -> None:
        if self._stream is None or not self._rewrites:
            return
        line = f"{self._name}  {text}"[: self._columns - 1]
        print(f"\r{line.ljust(self._width)}", end="", file=self._stream, flush=True)
        self._width = len(line)


def _quality(event: HeadLog | EpochResult) -> str:
    return f"accuracy {event.val_accuracy:.1%}" if event.val_map is None else f"mAP {event.val_map:.1%}"
