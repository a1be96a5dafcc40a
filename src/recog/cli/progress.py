"""Training on the terminal: what was understood, a bar with loss, accuracy, images/s and time left, one line per epoch."""

from __future__ import annotations

import time
from pathlib import Path

from rich.progress import BarColumn, Progress, TaskID, TextColumn

from recog.cli.output import notes, print_note
from recog.evaluation.results.training_facts import CrossValidation
from recog.recipes.events import EpochResult, FeatureTime, HeadChoice, HeadLog, describe_cross_validation
from recog.training.fit import StepLog
from recog.training.schedule import EarlyStopped
from recog.verbs.train import Note, Planned, Run, TrainEvent

NUM_TIMED = 2  # steps from which the time of training is expected


class TrainPrinter:
    """Shows the events of a run on stderr: a bar on a terminal, and a line for each epoch that improves, or for all if
    `verbose`.
    """

    def __init__(self, *, verbose: bool = False) -> None:
        self._verbose = verbose
        self.folder: Path | None = None  # of the run, once it is planned
        self._progress: Progress | None = None
        self._task = TaskID(0)
        self._started = time.perf_counter()
        self._num_images = 0
        self._num_steps = self._first_step = self._last_step = 0
        self._recipe = ""
        self._step_times: list[float] = []  # of this process; a run may be resumed
        self._num_epochs = 0
        self._val = ""  # of the last epoch

    def show(self, event: TrainEvent) -> None:
        match event:
            case Note():
                self._show_note(event)
            case Planned():
                self.folder = event.folder
                self._num_epochs, self._num_steps = event.config.optim.epochs or 0, event.num_steps
                self._recipe = event.config.recipe or ""
                print_note(f"run folder: {event.folder}")
                if event.num_steps:
                    self._open_bar(event.num_steps)
            case StepLog():
                self._show_step(event)
            case FeatureTime() | HeadLog() | HeadChoice() | CrossValidation() | EarlyStopped():
                print_note(_line_of(event))
            case EpochResult():
                self._show_epoch(event)
            case Run():
                self.close()

    def _show_note(self, note: Note) -> None:
        if self._num_steps and self._last_step == self._num_steps:
            self.close()  # the network is trained; what follows is not counted in steps
        if self._verbose or not note.is_detail:
            print_note(note.text)

    def close(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def _open_bar(self, num_steps: int) -> None:
        self._started = time.perf_counter()
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=12),
            TextColumn("{task.fields[pace]}"),
            console=notes,
            transient=True,
            disable=not notes.is_terminal,
        )
        self._progress.start()
        self._task = self._progress.add_task("training", total=num_steps, pace="")

    def _show_step(self, log: StepLog) -> None:
        if not self._step_times:
            self._started = time.perf_counter()  # the head of recipe finetune came before
            self._first_step = log.step
        else:
            self._num_images += log.num_images
        self._last_step = log.step
        if len(self._step_times) <= NUM_TIMED:
            self._step_times.append(time.perf_counter())
            if len(self._step_times) == NUM_TIMED + 1:
                self._show_expected(log)
        if self._progress is None:
            return
        elapsed = time.perf_counter() - self._started
        pace = f"{self._num_images / elapsed:,.0f} images/s{self._time_left()}" if self._num_images else ""
        self._progress.update(
            self._task,
            completed=log.step,
            description=f"epoch {log.epoch}/{self._num_epochs}  loss {log.loss:.3f}{self._val}",
            pace=pace,
        )

    def _show_expected(self, log: StepLog) -> None:
        """The time that training will take, from the steps after the first, which allocates."""
        pace = (self._step_times[-1] - self._step_times[0]) / NUM_TIMED
        shorter = "--epochs N or --recipe head" if self._recipe == "finetune" else "--epochs N"
        expected = _about(pace * (self._num_steps - log.step))
        print_note(f"{self._num_epochs} epochs: {expected} expected; {shorter} shortens it")

    def _show_epoch(self, result: EpochResult) -> None:
        log = result.log
        self._val = f"  val {_quality(result).removeprefix('accuracy ')}"
        if not (self._verbose or result.is_best):
            return
        left = self._time_left()
        print_note(
            f"epoch {log.epoch:>3}: loss {log.train_loss:.3f}, val {_quality(result)}, "
            f"NLL {result.val_nll:.3f}, {log.num_images / log.train_s:.0f} images/s{left}"
            f"{', best' if result.is_best and self._verbose else ''}"
        )

    def _time_left(self) -> str:
        """At the pace of the steps since the first of this process, validation included."""
        num_done = self._last_step - self._first_step
        if self._progress is None or not num_done:
            return ""
        elapsed = time.perf_counter() - self._started
        seconds = elapsed / num_done * (self._num_steps - self._last_step)
        return f", {seconds:.0f} s left" if seconds >= 1 else ""


def _line_of(event: FeatureTime | HeadLog | HeadChoice | CrossValidation | EarlyStopped) -> str:
    if isinstance(event, FeatureTime):
        return f"features of {event.num_images:,} images: {_about(event.seconds)} expected; --set model.image_size=N shortens it"
    if isinstance(event, HeadLog):
        measured = "cross-validated" if event.num_folds else "val"
        return f"head with L2 {event.l2:g}: {measured} {_quality(event)}, NLL {event.val_nll:.3f}"
    return describe_cross_validation(event) if isinstance(event, CrossValidation) else str(event)


def _about(seconds: float) -> str:
    if seconds < 1:
        return "less than 1 s"
    if seconds < 120:
        return f"about {seconds:.0f} s"
    return f"about {seconds / 60:.0f} min" if seconds < 7200 else f"about {seconds / 3600:.1f} h"


def _quality(event: HeadLog | EpochResult) -> str:
    return f"accuracy {event.val_accuracy:.1%}" if event.val_map is None else f"mAP {event.val_map:.1%}"
