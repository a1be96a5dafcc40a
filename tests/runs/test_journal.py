from __future__ import annotations

import json
import logging
import os
import threading

import pytest

from recog.runs.journal import Journal


def test_records_go_to_metrics_and_debug_log(tmp_path):
    with Journal(tmp_path) as journal:
        journal.record("epoch", 1, {"val_accuracy": 0.5, "note": "text is no scalar"})
        logging.getLogger("recog.data.loader").debug("by process 1")
    (row,) = map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
    assert row == {"kind": "epoch", "step": 1, "val_accuracy": 0.5, "note": "text is no scalar"}
    assert "by process 1" in (tmp_path / "debug.log").read_text()
    assert list((tmp_path / "tensorboard").iterdir())


def test_the_debug_log_has_what_was_planned_and_what_stopped_the_run(tmp_path):
    def run():
        with Journal(tmp_path) as journal:
            journal.log("Versions: recog", "recipe head: 100% of what was planned")
            raise ValueError("a bad image")

    with pytest.raises(ValueError, match="a bad image"):
        run()
    lines = (tmp_path / "debug.log").read_text().splitlines()
    assert [line.partition("recog: ")[2] for line in lines] == [
        "Versions: recog",
        "recipe head: 100% of what was planned",
        "stopped by ValueError: a bad image",
    ]


def test_logging_is_as_it_was_afterwards(tmp_path):
    logger = logging.getLogger("recog")
    before = (logger.level, list(logger.handlers))
    with Journal(tmp_path):
        pass
    assert (logger.level, list(logger.handlers)) == before


def test_a_record_that_cannot_be_written_stops_nothing(tmp_path, caplog):
    with Journal(tmp_path) as journal:
        journal.record("epoch", 1, {"loss": float("nan")})  # JSON has no NaN
        journal.record("epoch", 2, {"loss": 1.0})
    assert "a record of metrics.jsonl could not be written" in caplog.text
    (trouble,) = journal.pop_warnings()
    assert "metrics.jsonl cannot be written in full (Out of range float" in trouble
    assert journal.pop_warnings() == []
    assert [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == [2]


def test_a_run_that_goes_on_keeps_the_records_of_the_steps_that_stay(tmp_path):
    with Journal(tmp_path) as journal:
        journal.record("head", 1, {"l2": 1.0})
        for step in range(1, 8):
            journal.record("step", step, {"loss": 1.0})
            if step % 3 == 0:
                journal.record("epoch", step // 3, {"loss": 1.0})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "step", "st')  # where the process was killed
    with Journal(tmp_path, after=(1, 4)) as journal:
        journal.record("step", 5, {"loss": 2.0})
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    found = [(row["kind"], row["step"]) for row in rows]
    assert found == [("head", 1), ("step", 1), ("step", 2), ("step", 3), ("epoch", 1), ("step", 4), ("step", 5)]
    with Journal(tmp_path):
        pass
    assert (tmp_path / "metrics.jsonl").read_text() == ""  # a run that begins anew


def test_a_failure_of_another_thread_is_python_s_own_affair(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(threading, "excepthook", seen.append)
    with Journal(tmp_path) as journal:
        thread = threading.Thread(target=lambda: 1 / 0)
        thread.start()
        thread.join()
    assert [failed.exc_type for failed in seen] == [ZeroDivisionError]
    assert journal.pop_warnings() == []


def test_what_any_part_logs_as_a_warning_is_handed_on(tmp_path):
    with Journal(tmp_path) as journal:
        logging.getLogger("recog.data.loader").warning("warning: lost %d", 2)
        logging.getLogger("recog.data.loader").info("no warning")
    assert journal.pop_warnings() == ["warning: lost 2"]


@pytest.mark.timeout(20)  # a pipe that is opened would wait for the other end for ever
@pytest.mark.parametrize("name", ["metrics.jsonl", "debug.log"])
@pytest.mark.parametrize("kind", ["a named pipe", "a symbolic link"])
def test_records_go_into_regular_files_only(tmp_path, name, kind):
    run, mine = tmp_path / "run", tmp_path / "mine"
    run.mkdir()
    mine.write_text("mine\n")
    if kind == "a named pipe":
        os.mkfifo(run / name)
    else:
        (run / name).symlink_to(mine)
    with Journal(run) as journal:
        journal.record("epoch", 1, {"loss": 1.0})
        logging.getLogger("recog.data.loader").debug("a line")
    (warning,) = journal.pop_warnings()
    assert f"warning: {name} cannot be written in full" in warning
    assert f"is {kind}; expected a regular file" in warning
    assert mine.read_text() == "mine\n"


def test_tensorboard_is_not_written_through_a_link(tmp_path):
    run, mine = tmp_path / "run", tmp_path / "mine"
    run.mkdir()
    mine.mkdir()
    (run / "tensorboard").symlink_to(mine)
    with Journal(run) as journal:
        journal.record("epoch", 1, {"loss": 1.0})
    assert "tensorboard is a symbolic link; expected a folder" in journal.pop_warnings()[0]
    assert not list(mine.iterdir())


def test_lines_from_elsewhere_are_dropped_where_they_are_no_records(tmp_path):
    kept = '{"kind": "step", "step": 1}'
    lines = [kept, "[" * 100_000, "{}", "[]", '{"kind": [], "step": 1}', '{"kind": "step", "step": "1"}', "\u2028"]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    with Journal(tmp_path, after=(0, 1)) as journal:
        pass
    assert journal.pop_warnings() == []
    assert (tmp_path / "metrics.jsonl").read_text() == kept + "\n"
