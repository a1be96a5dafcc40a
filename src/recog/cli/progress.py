"""Training on the terminal: what was understood, a bar with loss, accuracy, images/s and time left, one line per epoch."""

from __future__ import annotations

import time
from pathlib import Path

from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from recog.cli.output import notes, print_note
from recog.evaluation.results.facts import CrossValidation
from recog.recipes.events import (
    CutShort,
    EpochResult,
    FeatureTime,
    HeadChoice,
    HeadFitted,
    HeadLog,
    PrunedLabels,
    StartKept,
    describe_cross_validation,
    scaled_nll,
)
from recog.report.text import plural
from recog.training.fit import StepLog
from recog.training.schedule import EarlyStopped
from recog.verbs.run import Note, Planned, Run
from recog.verbs.train import TrainEvent

NUM_TIMED = 2  # steps from which the time of training is expected
MIN_EXPECTED_S = 5  # a shorter time is not announced


class TrainPrinter:
    """Shows the events of a run on stderr: what is being done on a terminal, and a line for each epoch that improves, or for
    all if `verbose`.
    """

    def __init__(self, *, verbose: bool = False) -> None:
        self._verbose = verbose
        self.folder: Path | None = None  # of the run, once it is planned
        self._progress: Progress | None = None  # a bar during the steps, else what is being done and for how long
        self._task = TaskID(0)
        self._started = time.perf_counter()
        self._num_images = 0
        self._num_steps = self._first_step = self._last_step = 0
        self._recipe = ""
        self._keeps_parent = False  # its last layer, in place of a new head
        self._step_times: list[float] = []  # of this process; a run may be resumed
        self._num_epochs, self._images_per_step = 0, 1
        self._val = ""  # of the last epoch
        self._best: EpochResult | None = None  # of this process
        self._show_activity("reading the images")

    def show(self, event: TrainEvent) -> None:
        match event:
            case Note():
                self._show_note(event)
            case Planned():
                self._show_plan(event)
            case StepLog():
                self._show_step(event)
            case FeatureTime():
                self._show_features(event)
            case HeadLog():
                self._show_head(event)
            case PrunedLabels() | HeadFitted() | HeadChoice() | CrossValidation() | EarlyStopped() | CutShort():
                self._show_line(event)
            case EpochResult():
                self._show_epoch(event)
            case StartKept():
                self._show_start_kept(event)
            case Run():
                self.close()

    def _show_features(self, event: FeatureTime) -> None:
        self._show_activity("computing features")
        if event.seconds >= MIN_EXPECTED_S:
            print_note(_line_of(event))

    def _show_head(self, event: HeadLog) -> None:
        if self._verbose:
            print_note(_line_of(event))
        elif event.is_best:
            print_note(f"{_line_of(event)}; the best of those tried (--verbose: all)")

    def _show_line(
        self, event: PrunedLabels | HeadFitted | HeadChoice | CrossValidation | EarlyStopped | CutShort
    ) -> None:
        if isinstance(event, PrunedLabels) and self._num_steps:  # fewer images make fewer steps than were planned
            num_left = event.num_images - len(event.suspects)
            self._num_steps = self._num_epochs * max(1, num_left // self._images_per_step)
        self._keeps_parent |= isinstance(event, HeadChoice) and event.keeps_parent
        print_note(_line_of(event))

    def _show_note(self, note: Note) -> None:
        if self._num_steps and self._last_step == self._num_steps:
            self.close()  # the network is trained; what follows is not counted in steps
        if note.is_activity:
            self._show_activity(note.text)
        if self._verbose or not note.is_detail:
            print_note(note.text)

    def _show_plan(self, planned: Planned) -> None:
        self.folder = planned.folder
        self._num_epochs, self._num_steps = planned.config.optim.epochs or 0, planned.num_steps
        self._images_per_step = (planned.config.loader.batch_size or 1) * (planned.config.optim.accumulation or 1)
        self._recipe = planned.config.recipe or ""
        print_note(f"run folder: {planned.folder}")
        if self._num_steps and not self._verbose:
            print_note(f"{plural(self._num_epochs, 'epoch')}; those that improve are listed (--verbose: all)")
        self._show_activity("preparing the network")

    def close(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def _show_activity(self, text: str) -> None:
        self._open(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        if self._progress is not None:
            self._progress.add_task(text, total=None)

    def _open_bar(self, num_steps: int) -> None:
        self._open(
            TextColumn("{task.description}"),
            BarColumn(bar_width=12, complete_style="cyan", finished_style="cyan"),
            TextColumn("{task.fields[pace]}"),
        )
        if self._progress is not None:
            self._task = self._progress.add_task("training", total=num_steps, pace="")

    def _open(self, *columns: ProgressColumn) -> None:
        self.close()
        if notes.is_terminal:
            self._progress = Progress(*columns, console=notes, transient=True)
            self._progress.start()

    def _show_step(self, log: StepLog) -> None:
        if not self._step_times:
            self._open_bar(self._num_steps)
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
        seconds = pace * (self._num_steps - log.step)
        if seconds < MIN_EXPECTED_S:
            return
        if self._first_step > 1:
            print_note(f"the remaining steps: {_about(seconds)} expected")
            return
        shorter = "--epochs N or --recipe head" if self._recipe == "finetune" else "--epochs N"
        print_note(f"{plural(self._num_epochs, 'epoch')}: {_about(seconds)} expected; {shorter} shortens it")

    def _show_epoch(self, result: EpochResult) -> None:
        log = result.log
        self._val = f"  val {result.quality.removeprefix('accuracy ')}"
        if self._best is None or _rank(result) > _rank(self._best):
            self._best = result
        if not (self._verbose or result.is_best):
            return
        num_before = (log.epoch - 1) * self._num_steps // max(1, self._num_epochs)  # steps before this epoch
        is_whole = self._first_step <= num_before + 1 and log.num_images > 0  # not resumed within it or at its end
        pace = f", {log.num_images / log.train_s:,.0f} images/s" if is_whole else ""
        print_note(
            f"epoch {log.epoch:>3}: loss {log.train_loss:.3f}, val {result.quality}, "
            f"NLL {result.val_nll:.3f}{pace}{self._time_left()}"
            f"{', best' if result.is_best and self._verbose else ''}"
        )

    def _show_start_kept(self, event: StartKept) -> None:
        start = "head" if self._recipe == "finetune" and not self._keeps_parent else "network that training began with"
        best = self._best
        reached = "" if best is None else f"; the best, epoch {best.log.epoch}: {best.quality}, NLL {best.val_nll:.3f}"
        print_note(
            f"the {start} is kept (val {event.score:.1%}, NLL {event.nll:.3f}), as none of "
            f"{plural(event.num_epochs, 'epoch')} improved on it{reached}"
        )

    def _time_left(self) -> str:
        """At the pace of the steps since the first of this process, validation included."""
        num_done = self._last_step - self._first_step
        if num_done < (NUM_TIMED if self._first_step > 1 else 1):
            return ""
        elapsed = time.perf_counter() - self._started
        seconds = elapsed / num_done * (self._num_steps - self._last_step)
        return f", {seconds:.0f} s left" if seconds >= 1 else ""


def _line_of(
    event: FeatureTime | HeadLog | PrunedLabels | HeadFitted | HeadChoice | CrossValidation | EarlyStopped | CutShort,
) -> str:
    if isinstance(event, FeatureTime):
        images = plural(event.num_images, "image")
        return f"computing the features of {images}: {_about(event.seconds)} expected; --set model.image_size=N shortens it"
    if isinstance(event, HeadLog):
        measured = "cross-validated" if event.num_folds else "val"
        return f"{event.method} head, L2 {event.l2:g}: {measured} {event.quality}, {scaled_nll(event.val_nll)}"
    return describe_cross_validation(event) if isinstance(event, CrossValidation) else str(event)


def _about(seconds: float) -> str:
    if seconds < 1:
        return "less than 1 s"
    if seconds < 120:
        return f"about {seconds:.0f} s"
    return f"about {seconds / 60:.0f} min" if seconds < 7200 else f"about {seconds / 3600:.1f} h"


def _rank(result: EpochResult) -> tuple[float, float]:
    """Of two epochs, the one with the greater rank is better."""
    return result.val_score[1], -result.val_nll
