"""What training shows: one bar on a terminal, one line per improving epoch in a file."""

import io
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from recog.cli import output, progress
from recog.cli.progress import TrainPrinter
from recog.recipes.config import LoaderConfig, TrainConfig
from recog.recipes.events import EpochResult, FeatureTime, HeadFitted, HeadLog, PrunedLabels, StartKept, Suspect
from recog.training.config import OptimConfig
from recog.training.fit import EpochLog, StepLog
from recog.verbs.run import Note, Planned


@pytest.fixture
def show(monkeypatch):
    """A training of 3 epochs, of which the first and third improve, and its text; `is_terminal` or a file."""

    def run(*, is_terminal, verbose=False):
        text = io.StringIO()
        console = Console(file=text, width=80, height=24, highlight=False, force_terminal=is_terminal)
        monkeypatch.setattr(output, "notes", console)
        monkeypatch.setattr(progress, "notes", console)
        now = [0.0]
        monkeypatch.setattr(progress, "time", SimpleNamespace(perf_counter=lambda: now[0]))
        printer = TrainPrinter(verbose=verbose)
        config = TrainConfig(optim=OptimConfig(epochs=3))
        printer.show(Planned(folder=Path("runs/digits-1"), config=config, num_steps=300))
        for epoch, accuracy in enumerate((0.9, 0.8, 0.95), start=1):
            log = StepLog(epoch=epoch, step=100 * epoch, loss=0.5, lr=0.1, grad_norm=1.0, num_images=64)
            for event in (log, replace(log, loss=0.25)):
                now[0] += 1.0
                printer.show(event)
            done = EpochLog(epoch=epoch, train_loss=0.4, train_s=1.0, num_images=6400)
            printer.show(EpochResult(log=done, val_accuracy=accuracy, val_nll=0.1, is_best=epoch != 2))
            if is_terminal:
                printer._progress.refresh()
        printer.close()
        return text.getvalue()

    return run


def test_a_file_has_one_line_for_each_epoch_that_improves(show):
    lines = show(is_terminal=False).splitlines()
    assert lines == [
        "run folder: runs/digits-1",
        "3 epochs; those that improve are listed (--verbose: all)",
        "epoch   1: loss 0.400, val accuracy 90.0%, NLL 0.100",  # resumed at its last step: no pace, and no time left
        # the third step that is shown is the 200th of 300, and each took 1 s: 100 are left
        "the remaining steps: about 100 s expected",
        "epoch   3: loss 0.400, val accuracy 95.0%, NLL 0.100, 6,400 images/s",
    ]
    verbose = show(is_terminal=False, verbose=True).splitlines()
    assert sum(line.startswith("epoch ") for line in verbose) == 3
    assert not any("those that improve" in line for line in verbose)


def lines_of(monkeypatch, *events, recipe="finetune"):
    """What is printed into a file for `events`."""
    text = io.StringIO()
    monkeypatch.setattr(output, "notes", Console(file=text, width=80, highlight=False))
    printer = TrainPrinter()
    config = TrainConfig(recipe=recipe, optim=OptimConfig(epochs=2))
    for event in (Planned(folder=Path("runs/a"), config=config, num_steps=20), *events):
        printer.show(event)
    printer.close()
    return text.getvalue().splitlines()


def epoch(number, accuracy, num_images=640):
    log = EpochLog(epoch=number, train_loss=0.4, train_s=1.0, num_images=num_images)
    return EpochResult(log=log, val_accuracy=accuracy, val_nll=0.5, is_best=False)


@pytest.mark.parametrize(("recipe", "start"), [("finetune", "head"), ("scratch", "network that training began with")])
def test_a_start_that_no_epoch_improved_on_is_stated_with_the_best_epoch(recipe, start, monkeypatch):
    kept = StartKept(num_epochs=2, score=0.9, nll=0.3)
    assert lines_of(monkeypatch, epoch(1, 0.75), epoch(2, 0.5), kept, recipe=recipe)[2:] == [
        f"the {start} is kept (val 90.0%, NLL 0.300), as none of 2 epochs improved on it; the best, epoch 1: "
        "accuracy 75.0%, NLL 0.500"
    ]


def test_the_chosen_head_is_stated(monkeypatch):
    best = HeadLog(trial=1, l2=0.1, val_accuracy=0.8, val_nll=0.4, is_best=True)
    other = HeadLog(trial=2, l2=0.01, val_accuracy=0.9, val_nll=0.9)
    assert lines_of(monkeypatch, best, other, HeadFitted(method="logistic", l2=0.1))[2:] == [
        "logistic head, L2 0.1: val accuracy 80.0%, NLL 0.400 (temperature-scaled); the best of those tried (--verbose: all)",
        "the logistic head with L2 0.1 is chosen: the lowest product of error rate and this NLL",
    ]


def test_images_that_are_left_out_are_stated_and_shorten_the_steps(monkeypatch):
    suspects = (Suspect(name="1.jpg", label="a", looks_like="b", suspicion=1.0),) * 100
    event = PrunedLabels(num_images=400, suspects=suspects)
    assert lines_of(monkeypatch, event)[2:] == [str(event)]
    printer = TrainPrinter()
    config = TrainConfig(optim=OptimConfig(epochs=3), loader=LoaderConfig(batch_size=64))
    printer.show(Planned(folder=Path("runs/digits-1"), config=config, num_steps=18))
    printer.show(event)
    assert printer._num_steps == 3 * (300 // 64)


def test_short_times_and_a_pace_of_no_images_are_left_out(monkeypatch):
    resumed_at_its_end = replace(epoch(1, 0.9, num_images=0), is_best=True)
    steps = [StepLog(epoch=1, step=n, loss=0.5, lr=0.1, grad_norm=1.0, num_images=32) for n in (1, 2, 3)]
    lines = lines_of(monkeypatch, FeatureTime(num_images=90, seconds=0.5), *steps, resumed_at_its_end)
    assert not any("expected" in line or "images/s" in line for line in lines)


def test_the_time_of_features_and_of_fine_tuning(monkeypatch):
    text = io.StringIO()
    monkeypatch.setattr(output, "notes", Console(file=text, width=80, highlight=False))
    now = [0.0]
    monkeypatch.setattr(progress, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    printer = TrainPrinter()
    config = TrainConfig(recipe="finetune", optim=OptimConfig(epochs=8))
    printer.show(Planned(folder=Path("runs/a"), config=config, num_steps=103))
    printer.show(FeatureTime(num_images=3670, seconds=61.2))
    for step, now[0] in ((1, 10.0), (2, 14.0), (3, 18.0)):
        printer.show(StepLog(epoch=1, step=step, loss=0.5, lr=0.1, grad_norm=1.0, num_images=32))
    printer.close()
    features, training = text.getvalue().splitlines()[2:4]
    assert (
        features == "computing the features of 3,670 images: about 61 s expected; --set model.image_size=N shortens it"
    )
    # 100 steps are left, at (18 s - 10 s) / 2 each: 400 s
    assert training == "8 epochs: about 7 min expected; --epochs N or --recipe head shortens it"


def test_the_pace_is_that_of_the_steps_and_the_bar_ends_with_them(monkeypatch):
    text = io.StringIO()
    console = Console(file=text, width=80, height=24, highlight=False, force_terminal=True)
    monkeypatch.setattr(output, "notes", console)
    monkeypatch.setattr(progress, "notes", console)
    now = [0.0]
    monkeypatch.setattr(progress, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    printer = TrainPrinter()
    config = TrainConfig(recipe="finetune", optim=OptimConfig(epochs=1))
    printer.show(Planned(folder=Path("runs/a"), config=config, num_steps=4))
    for step, now[0] in ((1, 100.0), (2, 102.0)):  # the head took 100 s
        printer.show(StepLog(epoch=1, step=step, loss=0.5, lr=0.1, grad_norm=1.0, num_images=32))
    # 32 images in the 2 s since the first step; two steps are left
    assert printer._progress.tasks[0].fields["pace"] == "16 images/s, 4 s left"
    for step, now[0] in ((3, 104.0), (4, 106.0)):
        printer.show(StepLog(epoch=1, step=step, loss=0.5, lr=0.1, grad_norm=1.0, num_images=32))
    printer.show(Note(text="exporting to ONNX", is_activity=True))
    assert [task.description for task in printer._progress.tasks] == ["exporting to ONNX"]
    printer.close()
    assert printer._progress is None


def test_a_terminal_has_one_bar_within_80_columns(show):
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", show(is_terminal=True))
    states = [line.rstrip() for line in re.split(r"[\r\n]", text) if "images/s" in line and "━" in line]
    assert states[-1].startswith("epoch 3/3  loss 0.250  val 80.0% ━━━━━━━━━━━━ ")
    assert re.search(r" [\d,]+ images/s", states[-1])
    assert max(map(len, states)) <= 80
    assert not any("epoch   2:" in line for line in text.splitlines())  # its line, apart from the bar
