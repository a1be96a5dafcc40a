import json
from dataclasses import asdict

import numpy as np
import pytest
from batches import EXACT
from sklearn import metrics as oracle

from recog.evaluation.measures.bootstrap import MEASURES
from recog.evaluation.measures.probability import log_softmax, softmax
from recog.evaluation.results.scores import measure_scores, parse_scores

LOGITS = np.random.default_rng(0).normal(0, 1, (300, 7)) + 2 * np.eye(7)[np.arange(300) % 7]
LABELS = np.arange(300) % 7
SCORES = measure_scores(LOGITS, softmax(LOGITS), LABELS)
SUPPORT = np.bincount(LABELS).tolist()
NUM_CORRECT = int((LOGITS.argmax(axis=1) == LABELS).sum())


def table():
    rows = [{"name": str(i), **asdict(SCORES.of_class(i))} for i in range(7)]
    whole = {"format_version": 2, "classes": rows, **SCORES.headline_dict(), **SCORES.curves_dict()}
    return json.loads(json.dumps(whole))


def bootstrap_of(interval):
    return {"num_resamples": 1, "seed": 0} | {f"{name}_ci95": interval for name in MEASURES}


def test_all_together_equal_scikit_learn():
    probs = softmax(LOGITS)
    assert SCORES.nll == pytest.approx(-log_softmax(LOGITS)[np.arange(300), LABELS].mean(), **EXACT)
    assert SCORES.brier == pytest.approx(oracle.brier_score_loss(LABELS, probs, scale_by_half=False), **EXACT)
    assert SCORES.auroc == pytest.approx(oracle.roc_auc_score(LABELS, probs, multi_class="ovr"), **EXACT)
    assert SCORES.average_precision == pytest.approx(oracle.average_precision_score(np.eye(7)[LABELS], probs), **EXACT)
    assert SCORES.top_k.accuracy == pytest.approx(oracle.top_k_accuracy_score(LABELS, probs, k=5), **EXACT)
    assert SCORES.num_ranked_classes == 7


def test_each_measure_lies_within_its_interval():
    values = {"nll": SCORES.nll, "brier": SCORES.brier, "ece": SCORES.ece, "auroc": SCORES.auroc}
    for name in MEASURES:
        low, high = SCORES.interval(name)
        assert low < values.get(name, (low + high) / 2) < high


def test_round_trip():
    assert parse_scores(table(), support=SUPPORT, num_correct=NUM_CORRECT) == SCORES


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"brier": 3}, "'brier' is 3; it must lie between 0 and 2"),
        ({"nll": float("nan")}, "infinite NLL, or one that is no number"),
        (
            {"bootstrap": {"num_resamples": 1, "seed": 0} | {f"{name}_ci95": [0.9, 0.1] for name in MEASURES}},
            "lower and its upper",
        ),
        (
            {"bootstrap": {"num_resamples": 1, "seed": 0} | {f"{name}_ci95": [-3, 0.1] for name in MEASURES}},
            "must lie between 0",
        ),
    ],
)
def test_impossible_numbers_are_refused(change, words):
    with pytest.raises(ValueError, match=words):
        parse_scores(table() | change, support=SUPPORT, num_correct=NUM_CORRECT)


def test_an_auroc_of_a_class_without_images_is_refused():
    with pytest.raises(ValueError, match="'auroc' of '0' does not fit its 0 images"):
        parse_scores(table(), support=[0, 300 - sum(SUPPORT[2:]), *SUPPORT[2:]], num_correct=NUM_CORRECT)
