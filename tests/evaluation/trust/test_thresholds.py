from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import f1_score

from recog.core.errors import BundleError, ConfigError
from recog.core.records import convert_record
from recog.evaluation.trust.calibration import Calibration, CalibrationConfig
from recog.evaluation.trust.conformal import ConformalSets
from recog.evaluation.trust.thresholds import (
    DecisionThreshold,
    LabelThresholds,
    best_threshold,
    choose_decision,
    choose_thresholds,
    parse_aim,
)


@pytest.mark.parametrize(
    ("scores", "positive", "threshold"),
    [
        ([0.9, 0.8, 0.4, 0.1], [1, 1, 0, 0], 0.6),  # midway between 0.8 and 0.4: F1 1
        ([0.9, 0.8, 0.4, 0.1], [1, 0, 1, 0], 0.25),  # take 3: 2*2/(3+2) = 0.8, take 1: 2/3
        ([0.3, 0.2, 0.1], [0, 0, 1], 0.05),  # take all: F1 1/2; midway between 0.1 and 0
        ([0.7, 0.7, 0.2], [1, 0, 0], 0.45),  # equals go together
        ([0.9, 0.6, 0.3], [1, 1, 1], 0.5),  # nothing to tell apart
        ([0.9, 0.6, 0.3], [0, 0, 0], 0.5),
        ([0.4], [1], 0.5),
    ],
)
def test_by_hand(scores, positive, threshold):
    assert best_threshold(np.array(scores), np.array(positive, bool)) == pytest.approx(threshold)


@pytest.mark.parametrize("seed", range(8))
def test_no_other_threshold_has_a_higher_f1(seed):
    rng = np.random.default_rng(seed)
    scores = np.round(rng.random(40), 1 + seed % 2)
    positive = rng.random(40) < 0.2 + 0.6 * scores
    if positive.all() or not positive.any():
        return
    ours = f1_score(positive, scores >= best_threshold(scores, positive))
    assert ours == pytest.approx(max(f1_score(positive, scores >= t, zero_division=0) for t in np.linspace(0, 1, 101)))


def test_each_label_for_itself_with_its_n():
    probs = np.array([[0.9, 0.1], [0.8, 0.3], [0.4, 0.2], [0.1, 0.0]])
    shown = np.array([[1, 0], [1, 1], [0, 0], [0, 0]], bool)
    chosen = choose_thresholds(probs, shown, data="val")
    assert chosen.values == pytest.approx((0.6, 0.25))
    assert (chosen.data, chosen.num_images, chosen.support) == ("val", 4, (2, 1))
    assert convert_record(chosen.to_dict(), LabelThresholds, where="calibration.json") == chosen


def test_neighbours_without_a_number_between():
    low = 0.5
    high = np.nextafter(low, 1.0)
    threshold = best_threshold(np.array([high, low]), np.array([True, False]))
    assert low < threshold <= high


@pytest.mark.parametrize("values", [(), (0.5,), (0.5, 1.5), (0.5, float("nan"))])
def test_what_is_no_threshold_is_refused(values):
    with pytest.raises(ConfigError):
        LabelThresholds(values=values)


RULE = DecisionThreshold(positive=1, threshold=0.3, aim="f1", data="val", num_images=5, num_positives=2)


def choose(scores, is_positive, aim, positive=1):
    """`scores` are those of the positive class."""
    probs, labels = np.column_stack([1 - np.array(scores), scores]), np.array(is_positive)
    if positive == 0:
        probs, labels = probs[:, ::-1], 1 - labels
    return choose_decision(probs, labels, positive=positive, aim=aim, data="val")


@pytest.mark.parametrize(
    ("aim", "scores", "is_positive", "threshold"),
    [
        ("f1", [0.9, 0.8, 0.4, 0.1], [1, 1, 0, 0], 0.6),  # midway between 0.8 and 0.4: F1 1
        ("f1", [0.9, 0.8, 0.4, 0.1], [1, 0, 1, 0], 0.25),  # take 3: 4/5, take 1: 2/3
        ("f1", [0.9, 0.6], [1, 1], 0.5),  # nothing to choose by
        ("f1", [0.9, 0.6], [0, 0], 0.5),
        ("recall>=0.5", [0.9, 0.8, 0.4, 0.1], [1, 0, 1, 0], 0.85),  # 1 of 2 without a false alarm
        ("recall>=0.51", [0.9, 0.8, 0.4, 0.1], [1, 0, 1, 0], 0.25),  # both, with one
        ("recall>=1", [0.9, 0.1], [0, 1], 0.05),
        ("cost=1:1", [0.9, 0.8, 0.4, 0.1], [1, 1, 0, 0], 0.6),
        ("cost=5:1", [0.9, 0.5, 0.4, 0.2], [1, 0, 1, 0], 0.3),  # two found: 1 false alarm; one found: cost 5
        ("cost=1:5", [0.9, 0.5, 0.4, 0.2], [1, 0, 1, 0], 0.7),  # one missed costs 1, the false alarm 5
        ("cost=1:3", [0.9, 0.4], [0, 1], 0.95),  # predicts none: 1; all cost 3, one false alarm 4
        ("cost=1:3", [1.0, 0.4], [0, 1], 0.2),  # there is no threshold above 1
    ],
)
@pytest.mark.parametrize("positive", [0, 1])
def test_decision_by_hand(aim, scores, is_positive, threshold, positive):
    assert choose(scores, is_positive, aim, positive).threshold == pytest.approx(threshold)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("aim", ["f1", "recall>=0.8", "cost=5:1"])
def test_no_other_threshold_serves_the_aim_better(aim, seed):
    rng = np.random.default_rng(seed)
    scores = np.round(rng.uniform(0.05, 0.95, 60), 2)
    is_positive = rng.random(60) < 0.8 * scores
    rule = choose(scores, is_positive, aim)

    def counts(threshold):
        predicted = scores > threshold
        return int((predicted & is_positive).sum()), int((predicted & ~is_positive).sum())

    def loss(threshold):
        hits, alarms = counts(threshold)
        total = int(is_positive.sum())
        if aim == "f1":
            return -2 * hits / (total + hits + alarms)
        if aim == "cost=5:1":
            return 5 * (total - hits) + alarms
        return alarms if hits >= 0.8 * total else np.inf

    assert loss(rule.threshold) == min(loss(threshold) for threshold in np.linspace(0, 1, 201) + 1e-6)
    hits, alarms = counts(rule.threshold)
    assert (rule.num_correct, rule.num_predicted, rule.num_positives) == (hits, hits + alarms, is_positive.sum())


def test_what_it_gave():
    rule = choose([0.9, 0.8, 0.4, 0.1], [1, 0, 1, 0], "f1")
    assert (rule.precision, rule.recall, rule.f1) == (2 / 3, 1.0, 0.8)
    assert (rule.num_images, rule.data, rule.is_chosen) == (4, "val", True)
    one_kind = choose([0.4, 0.3], [0, 0], "f1")
    assert (one_kind.precision, one_kind.recall, one_kind.f1, one_kind.is_chosen) == (None, None, None, False)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("F2", "it must be f1, 'recall>=R'"),
        ("recall", "Quote it"),  # what a shell leaves of recall>=0.95
        ("recall>=0", "above 0 and at most 1"),
        ("recall>=1.5", "above 0 and at most 1"),
        ("recall>=nan", "must be"),
        ("cost=5", "must be"),
        ("cost=0:1", "Both costs must be above 0"),
        ("0.4", "must be"),
    ],
)
def test_what_is_no_aim_is_refused(text, part):
    with pytest.raises(ConfigError, match=part):
        parse_aim(text)


def test_a_positive_class_needs_a_threshold():
    with pytest.raises(ConfigError, match="add --threshold"):
        CalibrationConfig(positive="cat")


@pytest.mark.parametrize("positive", [0, 1])
def test_predictions_follow_the_threshold_and_probabilities_stay(positive):
    calibration = Calibration(decision=replace(RULE, positive=positive))
    probs = np.array([[0.8, 0.2], [0.69, 0.31], [0.4, 0.6]])[:, :: 1 if positive else -1]
    assert calibration.preds(probs)[:, positive].tolist() == [False, True, True]
    assert calibration.preds(probs).sum(axis=1).tolist() == [1, 1, 1]
    logits = np.log(probs)
    assert calibration.apply(logits) == pytest.approx(probs)


def test_written_and_read():
    calibration = Calibration(decision=RULE)
    assert Calibration.from_dict(calibration.to_dict()) == calibration
    assert convert_record(RULE.to_dict(), DecisionThreshold, where="calibration.json") == RULE


@pytest.mark.parametrize(
    "change", [{"positive": 2}, {"threshold": 1.5}, {"aim": "best"}, {"num_correct": 3}, {"num_predicted": 9}]
)
def test_what_is_damaged_is_refused(change):
    table = Calibration(decision=RULE).to_dict()
    with pytest.raises(BundleError):
        Calibration.from_dict(table | {"decision": table["decision"] | change})


def test_it_is_for_two_classes():
    with pytest.raises(BundleError, match="is for 2 classes and the model has 3"):
        Calibration(decision=RULE).check_classes(3)
    both = Calibration(decision=RULE).to_dict() | Calibration(thresholds=LabelThresholds(values=(0.5, 0.5))).to_dict()
    with pytest.raises(BundleError, match="damaged"):
        Calibration.from_dict(both)


def test_a_prediction_set_holds_the_predicted_class():
    """LAC at 0.5 takes the classes from a probability of 0.5 on; the threshold predicts class 1 from 0.3 on."""
    probs, coins = np.array([[0.6, 0.4], [0.9, 0.1]]), np.zeros(2)
    sets = ConformalSets(method="lac", alpha=0.1, quantile=0.5, num_images=9, data="val")
    assert Calibration(sets=sets).prediction_sets(probs, coins).tolist() == [[True, False], [True, False]]
    with_threshold = Calibration(sets=sets, decision=RULE)
    assert with_threshold.prediction_sets(probs, coins).tolist() == [[True, True], [True, False]]
    assert Calibration(decision=RULE).prediction_sets(probs, coins) is None
