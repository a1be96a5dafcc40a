import json

import numpy as np
import pytest
from batches import EXACT
from sklearn import metrics as oracle

from recog.core.errors import BundleError
from recog.evaluation.measures.bootstrap import MEASURES as ALL_MEASURES
from recog.evaluation.measures.counts import Hits
from recog.evaluation.measures.probability import log_softmax, softmax
from recog.evaluation.results.evaluate import evaluate
from recog.evaluation.results.facts import DataFacts
from recog.evaluation.results.read import parse_report
from recog.evaluation.results.scores import measure_scores, parse_scores

LOGITS = np.random.default_rng(0).normal(0, 1, (300, 7)) + 2 * np.eye(7)[np.arange(300) % 7]
LABELS = np.arange(300) % 7
REPORT = evaluate(
    LOGITS, LABELS, class_names="abcdefg", names=[str(i) for i in range(300)], data=DataFacts(name="letters")
)
SCORES = REPORT.scores
HITS = Hits(num_images=300, num_correct=int((LOGITS.argmax(axis=1) == LABELS).sum()))
MEASURES = ALL_MEASURES["multiclass"]


def table():
    return json.loads(json.dumps(REPORT.to_dict()))


def test_all_together_equal_scikit_learn():
    probs = softmax(LOGITS)
    assert SCORES.nll == pytest.approx(-log_softmax(LOGITS)[np.arange(300), LABELS].mean(), **EXACT)
    assert SCORES.brier == pytest.approx(oracle.brier_score_loss(LABELS, probs, scale_by_half=False), **EXACT)
    assert REPORT.auroc == pytest.approx(oracle.roc_auc_score(LABELS, probs, multi_class="ovr"), **EXACT)
    assert REPORT.average_precision == pytest.approx(oracle.average_precision_score(np.eye(7)[LABELS], probs), **EXACT)
    assert SCORES.top_k.accuracy == pytest.approx(oracle.top_k_accuracy_score(LABELS, probs, k=5), **EXACT)
    assert REPORT.num_ranked_classes == 7


def test_each_measure_lies_within_its_interval():
    values = {"nll": SCORES.nll, "brier": SCORES.brier, "ece": SCORES.ece, "auroc": REPORT.auroc}
    for name in MEASURES:
        low, high = REPORT.interval(name)
        assert low < values.get(name, (low + high) / 2) < high


def test_round_trip():
    assert parse_scores(table(), HITS) == SCORES


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"brier": 3}, "'brier' is 3.0; it must lie between 0 and 2"),
        ({"nll": float("nan")}, "report.json: nll is out of the range of numbers"),
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
    with pytest.raises(BundleError, match=words):
        parse_report(table() | change)


def test_an_auroc_of_a_class_without_images_is_refused():
    changed = table()
    first, second, *others = changed["confusion"]
    changed["confusion"] = [[0] * 7, [a + b for a, b in zip(first, second, strict=True)], *others]
    with pytest.raises(BundleError, match="'auroc' of 'a' does not fit its 0 images"):
        parse_report(changed)


def test_the_order_of_images_does_not_change_the_nll():
    """Sums of floats depend on their order; math.fsum rounds once."""
    generator = np.random.default_rng(0)
    probs = generator.dirichlet(np.ones(3), 50)
    preds = probs == probs.max(axis=1, keepdims=True)
    labels = generator.integers(0, 3, 50)
    terms = -np.log(probs[np.arange(50), labels])
    orders = [generator.permutation(50) for _ in range(20)]
    assert len({float(terms[order].sum()) for order in orders}) > 1
    assert len({measure_scores(probs[order], preds[order], labels[order], terms[order]).nll for order in orders}) == 1
