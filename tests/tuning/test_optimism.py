"""Expected values by hand, and by simulation from a known truth."""

import numpy as np
import pytest

from recog.evaluation.measures.task import TASK_MEASURES
from recog.tuning.optimism import estimate, pack_answers, pack_targets, unpack_targets

LABELS = np.arange(300) % 3


def logits_of(hits):
    """[1, N, 3]: the label where `hits`, else the next class."""
    rows = np.zeros((len(hits), 3), np.float32)
    rows[np.arange(len(hits)), np.where(hits, LABELS[: len(hits)], (LABELS[: len(hits)] + 1) % 3)] = 1
    return rows[None]


def estimated(all_hits, **options):
    packed = [pack_answers(logits_of(hits), LABELS) for hits in all_hits]
    return estimate(packed, [0.5] * len(packed), LABELS, **options)


def test_trials_that_are_equally_good_are_found_to_differ_by_luck_only():
    found = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        found.append(estimated([rng.random(300) < 0.8 for _ in range(40)], default=0))
    luck = found[0]
    assert np.mean([each.apparent for each in found]) > 0.835  # the best of 40 with a standard error of 0.023
    assert np.mean([each.corrected for each in found]) == pytest.approx(
        0.8, abs=0.02
    )  # two standard errors of the mean
    assert luck.gap == pytest.approx(luck.apparent - luck.corrected)
    assert luck.gain_ci95[0] < 0 < luck.gain_ci95[1]
    assert (luck.num_trials, luck.num_images) == (40, 300)


def test_a_trial_that_is_better_keeps_its_gain():
    rng = np.random.default_rng(1)
    luck = estimated([rng.random(300) < 0.6, rng.random(300) < 0.9], default=0)
    assert luck.gain_ci95[0] > 0.15
    assert luck.gap == pytest.approx(0, abs=0.01)


def test_one_trial_has_no_optimism_and_of_equals_the_lower_nll_is_chosen():
    rng = np.random.default_rng(2)
    hits = rng.random(300) < 0.7
    luck = estimated([hits], default=0)
    assert luck.apparent == pytest.approx(hits.mean())
    assert luck.corrected == pytest.approx(hits.mean(), abs=0.005)
    assert luck.gain == 0
    # two trials with the same number of hits on other images: the first 210 and the last 210
    first, last = np.arange(300) < 210, np.arange(300) >= 90
    packed = [pack_answers(logits_of(each), LABELS) for each in (first, last)]
    for nlls in ([0.4, 0.5], [0.5, 0.4]):
        found = estimate(packed, nlls, LABELS, default=int(np.argmin(nlls)))
        assert found.apparent == pytest.approx(0.7)
        assert found.gain <= 0.02


def test_repeats_count_by_their_mean():
    always, half = np.ones(300, bool), np.arange(300) % 2 == 0
    packed = pack_answers(np.concatenate([logits_of(always), logits_of(half)]), LABELS)
    assert estimate([packed], [0.1], LABELS).apparent == pytest.approx(0.75)


def test_labels_are_measured_by_their_mean_average_precision():
    rng = np.random.default_rng(3)
    targets = (rng.random((60, 2)) < 0.4).astype(np.float32)
    good, bad = targets + rng.normal(0, 0.3, targets.shape), rng.normal(0, 1, targets.shape)
    packed = [pack_answers(each[None].astype(np.float32), targets) for each in (bad, good)]
    luck = estimate(packed, [0.7, 0.3], targets, default=0)
    best = TASK_MEASURES["multilabel"].selection_score(good.astype(np.float16).astype(float), targets)
    assert luck.apparent == pytest.approx(best)
    assert luck.gain_ci95[0] > 0
    assert np.array_equal(unpack_targets(pack_targets(targets)), targets)


def test_answers_that_are_too_large_or_of_other_images_give_no_estimate():
    assert np.array_equal(unpack_targets(pack_targets(LABELS)), LABELS)
    assert estimate([""], [0.1], LABELS) is None
    assert estimate([pack_answers(logits_of(np.ones(30, bool)), LABELS[:30])], [0.1], LABELS) is None
    many = np.random.default_rng(4).normal(size=(1, 3000, 20)).astype(np.float32)
    assert pack_answers(many, np.zeros((3000, 20), np.float32)) == ""


def test_an_interval_that_is_missing_has_its_reason():
    table = estimated([np.ones(300, bool), np.ones(300, bool)], default=0).to_dict()
    assert (table["ci95"], table["ci95_reason"]) == (None, "all bootstrap samples scored the same")
    assert (table["gain_ci95"], table["gain_reason"]) == (None, "all bootstrap samples gained the same")
    rng = np.random.default_rng(3)
    table = estimated([rng.random(300) < 0.8 for _ in range(3)]).to_dict()
    assert "ci95_reason" not in table
    assert table["gain_reason"] == "the default recipe has no result"
