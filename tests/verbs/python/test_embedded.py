"""recog.train inside another program: its line, its warnings, and the state that it leaves."""

import io
import random
import warnings

import numpy as np
import pytest
import torch

import recog
from recog.recipes.events import EpochResult, HeadLog
from recog.training.fit import EpochLog, StepLog
from recog.verbs.python import embedded
from recog.verbs.python.embedded import ProgressLine, progress_line, state_kept


class Terminal(io.StringIO):
    def isatty(self):
        return True


def step(number, epoch=1):
    return StepLog(epoch=epoch, step=number, loss=0.5, lr=0.1, grad_norm=1.0, num_images=64)


def epoch_result(accuracy):
    log = EpochLog(epoch=1, train_loss=0.4, train_s=1.0, num_images=128)
    return EpochResult(log=log, val_accuracy=accuracy, val_nll=0.1, is_best=True)


@pytest.fixture
def clock(monkeypatch):
    """Seconds that the line sees, set by the test."""
    now = [0.0]
    monkeypatch.setattr(embedded.time, "perf_counter", lambda: now[0])
    return now


def show_training(stream, report, clock):
    """Four steps of 64 images, the first at 10 s, then one per second."""
    with progress_line(stream) as line:
        line.begin("digits-1", num_steps=10, num_epochs=5)
        for number in range(1, 5):
            clock[0] = 9.0 + number
            line.show(step(number))
        line.show(epoch_result(0.75))
        clock[0] = 14.0
        line.show(step(5, epoch=2))
        line.finish(report, 20.0)


def test_a_terminal_has_one_line_that_is_rewritten(digits_run, clock, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    stream = Terminal()
    show_training(stream, digits_run.report, clock)
    text = stream.getvalue()
    assert text.count("\n") == 1
    assert text.endswith("\n")
    states = text.split("\r")
    # 4 steps of 64 images in the 4 s since the first step; 5 steps are left, at 1 s each
    assert states[-2].rstrip() == ("digits-1  epoch 2/5  loss 0.500  val accuracy 75.0%  64 images/s  5 s left")
    assert states[-1].rstrip() == f"digits-1  test accuracy {digits_run.report.accuracy:.1%} of 360 images  20.0 s"
    assert max(map(len, states)) < 80


def test_a_file_has_the_result_only(digits_run, clock):
    stream = io.StringIO()
    show_training(stream, digits_run.report, clock)
    assert stream.getvalue() == f"digits-1  test accuracy {digits_run.report.accuracy:.1%} of 360 images  20.0 s\n"


def test_an_interrupted_line_is_ended():
    stream = Terminal()

    def interrupted():
        with progress_line(stream) as line:
            line.begin("digits-1", num_steps=0, num_epochs=0)
            line.show(HeadLog(trial=1, l2=0.1, val_accuracy=0.5, val_nll=1.0))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert stream.getvalue().endswith("digits-1  head  val accuracy 50.0%\n")


def test_lines_take_the_place_of_a_state_that_goes_on_below():
    stream = Terminal()
    with progress_line(stream) as line:
        line.state("trial 0: epoch 1/2")
        line.note(["trial 0: done"])
        line.state("trial 1: head")
    assert stream.getvalue() == (
        "\rtrial 0: epoch 1/2" + "\r                  \rtrial 0: done\n" + "\rtrial 1: head" + "\n"
    )


def test_a_narrow_terminal_cuts_the_line(monkeypatch):
    monkeypatch.setenv("COLUMNS", "12")
    stream = Terminal()
    ProgressLine(stream).begin("a-long-name-1", num_steps=0, num_epochs=0)
    assert stream.getvalue() == "\ra-long-name"  # 11 columns: the last one would wrap


def test_nothing_is_shown_without_a_stream(digits_run, clock, capsys):
    show_training(None, digits_run.report, clock)
    assert capsys.readouterr() == ("", "")


def states():
    legacy = np.random.get_state()[1].tolist()  # noqa: NPY002
    return torch.get_num_threads(), random.getstate(), legacy, torch.get_rng_state().tolist()


def test_the_program_state_is_kept_and_warnings_are_not_shown():
    def fail():
        with state_kept():
            warnings.warn("of a library", stacklevel=1)
            torch.set_num_threads(torch.get_num_threads() + 1)
            torch.manual_seed(1)
            np.random.seed(1)  # noqa: NPY002
            random.seed(1)
            raise ValueError("failed")

    before = states()
    with warnings.catch_warnings(record=True) as shown, pytest.raises(ValueError, match="failed"):
        fail()
    assert states() == before
    assert not shown


def test_verbs_leave_threads_and_generators_as_found(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 2)  # another number than training takes
    try:
        before = states()
        config = recog.TrainConfig(optim=recog.OptimConfig(epochs=1), compute=recog.ComputeConfig(num_threads=1))
        run = recog.train("digits", config)
        assert states() == before
        assert capsys.readouterr().err.splitlines() == [
            f"digits-1  test accuracy {run.report.accuracy:.1%} of 360 images  {run.duration_s:.1f} s"
        ]
        recog.train("digits", config, verbose=False)
        results = [
            recog.evaluate(run.bundle, "digits"),
            recog.compare(run.bundle, run.bundle, "digits"),
            recog.scan("digits"),
            recog.verify(run.bundle),
        ]
        assert states() == before
        assert capsys.readouterr() == ("", "")
    finally:
        torch.set_num_threads(threads)
    predictor = recog.load(run.bundle)
    prediction = predictor.predict(np.zeros((8, 8, 1), dtype=np.uint8))
    reports = [result.report for result in (run, *results[:3])]
    for result in (run, *results, *reports, predictor, prediction):
        assert "\n" not in repr(result)
        assert len(repr(result).replace(str(tmp_path), "")) < 200
        assert type(result).__name__ in recog.__all__
    assert (
        repr(run)
        == f"Run('runs/digits-1', MulticlassReport('digits', split='test', num_images=360, accuracy={run.report.accuracy:.4f}))"
    )
    assert repr(predictor) == "Predictor(task='multiclass', num_classes=10, image_size=(8, 8), channels=1)"
