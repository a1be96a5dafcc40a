from __future__ import annotations

import json
import logging

from recog.recipes.journal import Journal


def test_records_go_to_metrics_and_debug_log(tmp_path):
    with Journal(tmp_path) as journal:
        journal.record("epoch", 1, {"val_accuracy": 0.5, "note": "text is no scalar"})
        logging.getLogger("recog.data.loader").debug("by process 1")
    (row,) = map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
    assert row == {"kind": "epoch", "step": 1, "val_accuracy": 0.5, "note": "text is no scalar"}
    assert "by process 1" in (tmp_path / "debug.log").read_text()
    assert list((tmp_path / "tensorboard").iterdir())


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
    assert "a record could not be written" in caplog.text
    assert [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == [2]
