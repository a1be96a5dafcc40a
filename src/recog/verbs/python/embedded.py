"""`recog.train`: training inside a script or notebook, with one progress line and the program's state left as found."""

from __future__ import annotations

import contextlib
import random
import shutil
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, TextIO

import numpy as np
import torch

from recog.core.errors import ConfigError
from recog.core.task import Task
from recog.core.text import visible
from recog.data.balance import Balance
from recog.data.dataset import Dataset
from recog.data.sources import Source, open_source
from recog.data.store import BadImagePolicy
from recog.evaluation.measures.task import TASK_MEASURES
from recog.evaluation.results.report import Report
from recog.recipes.config import OPTIONS, DataConfig, Recipe, TrainConfig, given_options, with_options
from recog.recipes.cost import Budget, parse_budget
from recog.recipes.events import EpochResult, HeadLog, LearnEvent
from recog.runs.folder import RUN_CONFIG, find_unfinished, load_run_config, read_config
from recog.training.config import Device, OptimizerName
from recog.training.distributed import read_world
from recog.training.fit import StepLog
from recog.verbs.python.wording import in_python
from recog.verbs.run import Note, Planned, Run
from recog.verbs.train import TrainEvent, resume_events, train_events

if TYPE_CHECKING:
    from torch import nn

MIN_INTERVAL_S = 0.1  # between two updates of the line
NOTEBOOK_COLUMNS = 100


def train(  # noqa: PLR0913  keywords of a public verb
    source: Source | None = None,
    config: TrainConfig | str | Path | None = None,
    *,
    recipe: Recipe | None = None,
    model: str | None = None,
    weights: str | Path | None = None,
    parent: str | Path | None = None,
    channels: Literal[1, 3] | None = None,
    epochs: int | None = None,
    lr: float | None = None,
    batch_size: int | None = None,
    optimizer: OptimizerName | None = None,
    find_lr: bool = False,
    budget: str | None = None,
    seed: int | None = None,
    balance: Balance | None = None,
    noisy_labels: bool | None = None,
    threshold: str | None = None,
    positive: str | None = None,
    workers: int | None = None,
    split_folders: Sequence[str] | None = None,
    classes_at_depth: int | None = None,
    label_pattern: str | None = None,
    exclude: Sequence[str] | None = None,
    relabel: str | None = None,
    group: str | None = None,
    path_column: str | None = None,
    label_column: str | None = None,
    split_column: str | None = None,
    group_column: str | None = None,
    images: Sequence[str | Path] | None = None,
    encoding: str | None = None,
    label_separator: str | None = None,
    label_columns: Sequence[str] | None = None,
    task: Task | None = None,
    names: str | None = None,
    bad_images: BadImagePolicy | None = None,
    min_images: int | None = None,
    split: Literal["auto", "none"] | None = None,
    report_images: bool | None = None,
    log_to: Literal["none", "mlflow", "wandb"] | None = None,
    device: Device | None = None,
    threads: int | None = None,
    settings: Mapping[str, Any] = MappingProxyType({}),
    name: str | None = None,
    class_names: Sequence[str] | None = None,
    resume: str | Path | None = None,
    network: nn.Module | None = None,
    verbose: bool = True,
) -> Run:
    """Train on `source` and return the finished Run; what is not given is planned.

    `source` is a folder, a file or a name as for `recog train`, or what your program holds: pairs (image, label), a tuple of
    images and labels, a Dataset of torch, or one of these per split: {'train': ..., 'test': ...}. Images are paths, arrays,
    tensors or Pillow images. `class_names` names number labels, in their order, where a Dataset has no `.classes`; `task` decides
    what one-hot labels are.

    `recipe` to `threads` are the options of the command line; `parent`, a run or bundle to continue from, is its --from. They go
    over `config`, which is a TrainConfig or a TOML file such as an earlier run's run.toml, and `settings` such as
    {'augment.policy': 'none'} go over both. `name` names the run's folder.

    `resume` names an interrupted run, which continues with its own settings; a Dataset and a network of your own are to be given
    again, and `source` if the data were moved.

    `budget` is the time of the whole call, such as '90s', '10m' or '2h'; recipe, network, input size and epochs are planned to
    fit it.

    `network` is a module of your own: float32 images [B, C, H, W] in, logits [B, K] out, one per class. A copy of it is trained,
    at the settings model.image_size and channels, and its bundle is served by its ONNX file.

    `verbose` shows one progress line on stderr, after what was understood of data that your program holds. torch's thread count
    and all random generators are left as found.
    """
    options = given_options(locals())
    limit = None if budget is None else Budget(seconds=parse_budget(budget), started=time.perf_counter())
    events: Iterator[TrainEvent]
    if resume is not None:
        others = {"config": config, "settings": settings, "name": name, "find_lr": find_lr, "budget": budget}
        _check_resume(resume, [*options, *(key for key, value in others.items() if value)])
        dataset = _open_object(source, load_run_config(find_unfinished(resume) / RUN_CONFIG).data, class_names)
        moved = None if source is None or dataset is not None else str(source)
        events = resume_events(resume, source=moved, dataset=dataset, network=network)
    else:
        chosen = with_options(read_config(config), options, settings)
        dataset = _open_object(source, chosen.data, class_names)
        if source is not None:
            chosen = replace(chosen, data=replace(chosen.data, source="" if dataset is not None else str(source)))
        events = train_events(chosen, name=name, dataset=dataset, choose_lr=find_lr, network=network, budget=limit)
    return finish(events, notes=dataset.notes if dataset is not None else (), verbose=verbose)


def finish(events: Iterator[TrainEvent], *, notes: Sequence[str] = (), verbose: bool) -> Run:
    """The Run at the end of `events`, within another program; `verbose` shows `notes` and one progress line on stderr."""
    with state_kept(), progress_line(sys.stderr if verbose else None) as line:
        line.note([in_python(note, OPTIONS) for note in notes])
        for event in events:
            if isinstance(event, Run):
                line.finish(event.report, event.duration_s)
                return event
            if isinstance(event, Planned):
                line.begin(event.folder.name, num_steps=event.num_steps, num_epochs=event.config.optim.epochs or 0)
            elif not isinstance(event, Note):
                line.show(event)
    raise ConfigError("training ended without a run.")


def _check_resume(resume: str | Path, given: Sequence[str]) -> None:
    if given:
        raise ConfigError(
            f"resume={str(resume)!r} continues with the run's own settings; leave out {', '.join(given)}. "
            "Only its data, if they were moved, and a Dataset or network of your own are given again."
        )


def _open_object(source: Source | None, data: DataConfig, class_names: Sequence[str] | None) -> Dataset | None:
    """The data that the caller holds; None where `source` is a path or a name."""
    if source is None or isinstance(source, (str, Path)):
        return None
    return open_source(source, labels=data.labels, layout=data.layout, class_names=class_names)


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
        """A line each, which takes the place of the progress line; that goes on below them."""
        for text in texts if self._stream is not None else ():
            blank = f"\r{' ' * self._width}\r" if self._width else ""
            print(f"{blank}{visible(text)}", file=self._stream, flush=True)
            self._width = 0

    def state(self, text: str) -> None:
        """What is under way, where no run of its own name is trained."""
        self._rewrite(visible(text))

    def begin(self, name: str, *, num_steps: int, num_epochs: int) -> None:
        """Training of the run `name` starts; `num_steps` is 0 if no gradient steps are taken."""
        self._name, self._num_steps, self._num_epochs = visible(name), num_steps, num_epochs
        self._rewrite("training")

    def show(self, event: LearnEvent) -> None:
        if isinstance(event, StepLog):
            self._show_step(event)
        elif isinstance(event, EpochResult):
            self._quality = f"  val {event.quality}"
        elif isinstance(event, HeadLog):
            self._rewrite(f"head  val {event.quality}")

    def finish(self, report: Report, duration_s: float) -> None:
        """The result, and the end of the line."""
        score = f"{TASK_MEASURES[report.task].score_name} {report.score or 0:.1%}"
        result = f"{self._name}  {report.data.split} {score} of {report.num_images:,} images  {duration_s:.1f} s"
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
        line = f"{self._name}{'  ' if self._name else ''}{text}"[: self._columns - 1]
        print(f"\r{line.ljust(self._width)}", end="", file=self._stream, flush=True)
        self._width = len(line)
