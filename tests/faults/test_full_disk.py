"""A full disk (T2): a checkpoint that cannot be written is one clear error; a log that cannot be is a note, and no more."""

from __future__ import annotations

import errno
import logging
import os
import resource
from pathlib import Path

import numpy as np
import pytest
from small_training import EPOCHS, STEPS, checkpoints_in, hash_of, train

from recog.core.errors import DiskError
from recog.core.files import open_regular
from recog.runs import journal as journal_module
from recog.runs.journal import Journal
from recog.training import checkpoint


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr(checkpoint, "RETRY_PAUSES_S", (0.0, 0.0, 0.0))


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    return hash_of(train(tmp_path_factory.mktemp("straight")))


def fail_from(call, monkeypatch, *, once=False):
    """os.write fails with ENOSPC from the given call on, or in that call alone."""
    real, count = os.write, [0]

    def write(descriptor, data):
        count[0] += 1
        if count[0] == call or (count[0] > call and not once):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(descriptor, data)

    monkeypatch.setattr(os, "write", write)


@pytest.mark.parametrize("call", range(1, 9))
def test_a_disk_that_fills_up_is_a_clear_error_and_loses_nothing(call, expected, tmp_path, monkeypatch):
    saved = []
    with monkeypatch.context() as patch:
        fail_from(call, patch)
        with pytest.raises(
            DiskError, match=r"No space left on device\. The ones before it are intact.*--resume"
        ) as caught:
            train(tmp_path, on_saved=saved.append)
    assert caught.value.exit_code == 74
    loaded = checkpoints_in(tmp_path).load_newest()
    assert (0 if loaded is None else loaded.state["cursor"]["num_steps_done"]) == max(saved, default=0)
    assert not list(tmp_path.glob("*.tmp-*"))
    assert hash_of(train(tmp_path)) == expected  # space was freed


@pytest.mark.parametrize("call", range(1, 5))
def test_a_write_that_fails_once_costs_nothing(call, expected, tmp_path, monkeypatch):
    fail_from(call, monkeypatch, once=True)
    assert hash_of(train(tmp_path)) == expected


@pytest.mark.parametrize("limit", [0, 1000, 30_000])
def test_a_limit_on_file_sizes(limit, tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        with pytest.raises(DiskError, match="File too large"):
            train(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())


def write_all(journal, step):
    journal.record("step", step, {"loss": 1.0})
    logging.getLogger("recog.data.loader").debug("a line")
    for draw in (
        lambda: journal.board.speed(step, 8),
        lambda: journal.board.batch(np.zeros((4, 8, 8, 1), dtype=np.uint8), step),
        lambda: journal.board.settings("seed = 0"),
    ):
        with journal.suppressed("tensorboard"):
            draw()


@pytest.mark.parametrize("file", ["metrics.jsonl", "debug.log"])
def test_a_full_log_is_said_once_and_stops_nothing(file, tmp_path, capfd, monkeypatch):
    def open_on_a_full_disk(path, mode):
        return Path("/dev/full").open("ab") if path.name == file else open_regular(path, mode)

    monkeypatch.setattr(journal_module, "open_regular", open_on_a_full_disk)
    with Journal(tmp_path) as journal:
        for step in range(1, 21):
            write_all(journal, step)
    (trouble,) = journal.pop_warnings()
    assert file in trouble
    assert "No space left on device" in trouble
    assert capfd.readouterr().err == ""


def test_a_full_board_is_said_once_and_stops_nothing(tmp_path, capfd, monkeypatch):
    from tensorboard.summary.writer import record_writer

    def full(writer, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(record_writer.RecordWriter, "write", full)
    with Journal(tmp_path) as journal:
        for step in range(1, 21):
            write_all(journal, step)
    (trouble,) = journal.pop_warnings()
    assert "tensorboard" in trouble
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 20
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("file", ["metrics.jsonl", "tensorboard", "debug.log"])
def test_a_log_that_cannot_be_opened_stops_nothing(file, tmp_path):
    if file == "tensorboard":
        (tmp_path / file).write_text("a file where a folder is wanted")
    else:
        (tmp_path / file).mkdir()
    with Journal(tmp_path) as journal:
        for step in range(1, 4):
            write_all(journal, step)
    assert any(file in trouble for trouble in journal.pop_warnings())


def test_the_run_has_the_length_that_the_cases_assume():
    assert EPOCHS * STEPS == 24
