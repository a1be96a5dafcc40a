"""What is kept of a condition, and what of a damaged log is used. Going on after an interruption: tests/verbs/test_robustness."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_perturbations import condition

import recog
from recog.perturbation.corruptions import corrupt
from recog.perturbation.measure import ConditionLog, Subject, measure_conditions

GOLDEN = Path(__file__).parents[1] / "golden"


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
    assert log.known(3, 2) == {("fog", 2): whole}
    log.remove()
    assert log.known(3, 2) == {}


@pytest.mark.parametrize(("bundle", "several"), [("digits-format-1-trust", False), ("digits-labels-format-1", True)])
def test_a_condition_is_the_answers_on_corrupted_images(bundle, several, tmp_path, monkeypatch):
    """One class per image, and any number of labels; a second measurement reads the log."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    predictor = recog.load(GOLDEN / bundle)
    random = np.random.default_rng(0)
    shape = (*predictor.preprocess.image_size, predictor.preprocess.channels)
    images = random.integers(0, 256, (40, *shape)).astype(np.uint8)  # more than are corrupted together
    num_classes = len(predictor.class_names)
    labels = random.integers(0, num_classes, 40)
    targets = (random.random((40, num_classes)) < 0.5).astype(np.float32) if several else labels
    subject = Subject(
        predictor=predictor,
        images=images,
        hashes=[f"{i:064x}" for i in range(40)],
        targets=targets,
        num_threads=2,
        seed=5,
    )
    log = ConditionLog(subject)
    clean, fog = measure_conditions(subject, [("clean", 0), ("fog", 2)], log)
    for measured, changed in (
        (clean, images),
        # an image's number is that of the first 8 digits of its hash
        (fog, np.stack([corrupt(image, "fog", 2, seed=5, index=0) for image in images])),
    ):
        preds = predictor.predict_batch(changed).preds
        is_class = targets == 1 if several else np.eye(num_classes, dtype=bool)[labels]
        np.testing.assert_array_equal(measured.is_correct(40), (preds == is_class).all(axis=1))
        assert measured.found == tuple((preds & is_class).sum(axis=0))
    assert (fog.unknown_rate is None) == several
    assert list(measure_conditions(subject, [("fog", 2)], log)) == [fog]
