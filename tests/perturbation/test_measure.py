"""What is kept of a condition, and what of a damaged log is used. Going on after an interruption: tests/verbs/test_robustness."""

from __future__ import annotations

import numpy as np
from small_perturbations import condition

from recog.perturbation.measure import ConditionLog


class Fixed:
    """The part of a Subject that a log asks for."""

    def digest(self):
        return "abc"


def test_answers_come_back_from_their_bits():
    correct = np.random.default_rng(0).random(19) < 0.5
    kept = condition("fog", 2, correct, (9, 10))
    np.testing.assert_array_equal(kept.is_correct(19), correct)


def test_a_log_keeps_whole_lines_of_the_same_size(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    log = ConditionLog(Fixed())
    whole = condition("fog", 2, [1, 0, 1], (1, 1))
    log.add(whole)
    log.add(condition("fog", 3, [1] * 9, (1, 1)))  # of more images
    log.add(condition("snow", 1, [1, 0, 1], (1, 1, 0)))  # of more classes
    path = next(tmp_path.rglob("abc.jsonl"))
    path.write_bytes(path.read_bytes() + b'{"name": "frost", "sev')
    assert log.read(3, 2) == {("fog", 2): whole}
    log.remove()
    assert log.read(3, 2) == {}
