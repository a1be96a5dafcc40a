import numpy as np
import pytest
from sklearn.metrics import f1_score

from recog.core.errors import ConfigError
from recog.core.records import convert_record
from recog.evaluation.trust.thresholds import LabelThresholds, best_threshold, choose_thresholds


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
