import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mapie_sets import mapie_coins, mapie_raps, mapie_sets

from recog.core.errors import ConfigError, DataError, ShapeError
from recog.core.records import convert_record
from recog.evaluation.measures.probability import softmax
from recog.evaluation.trust.conformal import (
    SET_METHODS,
    ConformalSets,
    check_set_method,
    choose_alpha,
    conformal_quantile,
    fit_sets,
    image_coins,
    row_coins,
    set_scores,
)

PROBS = np.array([[0.5, 0.2, 0.3], [0.1, 0.8, 0.1]])


def batch(num_images, num_classes=5, seed=0, spread=1.5):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, num_classes, num_images)
    return softmax(spread * rng.normal(0, 1, (num_images, num_classes)) + 2 * np.eye(num_classes)[labels]), labels


def rule(**changes):
    table = {"method": "lac", "alpha": 0.1, "quantile": 0.6, "num_images": 100, "data": "val"}
    return ConformalSets(**{**table, **changes})


# the scores, by hand


def test_lac_is_what_the_class_lacks_in_probability():
    np.testing.assert_allclose(set_scores(PROBS, np.zeros(2), "lac"), 1 - PROBS)


def test_aps_by_hand():
    # The likelier classes count in full, the class itself by 1 - coin. With coin 0.5: 0.25, 0.5 + 0.15, 0.8 + 0.1.
    scores = set_scores(PROBS, np.array([0.5, 0.0]), "aps")
    np.testing.assert_allclose(scores[0], [0.25, 0.9, 0.65])
    np.testing.assert_allclose(scores[1], [0.9, 0.8, 1.0])  # of equals the first class comes first


def test_raps_by_hand():
    scores = set_scores(PROBS, np.array([0.5, 0.0]), "raps", penalty=0.1, free_classes=1)
    np.testing.assert_allclose(scores[0], [0.25, 0.9 + 0.2, 0.65 + 0.1])


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.sampled_from(SET_METHODS))
def test_scores_rise_as_classes_get_less_likely(seed, method):
    probs, _ = batch(20, seed=seed)
    scores = set_scores(probs, row_coins(np.arange(20)), method)
    by_rank = np.take_along_axis(scores, np.argsort(-probs, axis=1), axis=1)
    assert (np.diff(by_rank, axis=1) >= -1e-12).all()


def test_coins_are_needed_for_each_image():
    with pytest.raises(ShapeError, match=r"coins have shape \(1,\); expected \(2,\)"):
        set_scores(PROBS, np.zeros(1), "aps")
    with pytest.raises(ConfigError, match="'nap'; expected one of lac, aps, raps"):
        check_set_method("nap")
    with pytest.raises(DataError, match="NaN"):
        set_scores(np.array([[np.nan, 1.0]]), np.zeros(1), "lac")


# the quantile


@pytest.mark.parametrize(
    ("num_scores", "alpha", "expected"),
    [(9, 0.1, 9), (10, 0.1, 10), (19, 0.1, 18), (99, 0.1, 90), (99, 0.05, 95), (8, 0.1, None), (0, 0.1, None)],
)
def test_the_quantile_is_the_next_of_n_plus_one(num_scores, alpha, expected):
    """ceil((n + 1)(1 - alpha)): of 9 scores and alpha 0.1 the 9th smallest, of 8 there is none."""
    scores = np.random.default_rng(0).permutation(np.arange(1.0, num_scores + 1))
    assert conformal_quantile(scores, alpha) == expected


# the sets, against MAPIE


@settings(deadline=None, max_examples=20)
@given(
    seed=st.integers(0, 2**16),
    num_images=st.integers(20, 300),
    num_classes=st.integers(3, 12),
    method=st.sampled_from(["lac", "aps"]),
    alpha=st.sampled_from([0.05, 0.1, 0.3]),
)
def test_equal_to_mapie(seed, num_images, num_classes, method, alpha):
    probs, labels = batch(num_images + 100, num_classes, seed)
    labels[:num_classes] = np.arange(num_classes)  # MAPIE wants each class in calibration
    fitted, new = probs[:num_images], probs[num_images:]
    quantile, expected = mapie_sets(method, fitted, labels[:num_images], new, alpha=alpha, seed=seed)
    sets = fit_sets(fitted, labels[:num_images], mapie_coins(num_images, seed), method=method, alpha=alpha)
    assert sets.quantile == pytest.approx(quantile, abs=1e-12)
    assert (sets.raw_sets(new, mapie_coins(100, seed)) == expected).all()


@pytest.mark.parametrize(("penalty", "free_classes"), [(0.01, 5), (0.1, 4), (0.3, 1)])
def test_raps_has_mapies_quantile_and_within_the_free_classes_its_sets(penalty, free_classes):
    """Beyond the free classes MAPIE drops the last class by another chance than that of its scores; recog inverts the score."""
    probs, labels = batch(1000, 10, spread=0.8)
    fit, new = slice(0, 600), slice(600, 1000)
    penalties = {"penalty": penalty, "free_classes": free_classes}
    quantile, theirs = mapie_raps(probs[fit], labels[fit], probs[new], alpha=0.1, **penalties)
    scores = set_scores(probs[fit], mapie_coins(600), "raps", **penalties)[np.arange(600), labels[fit]]
    assert conformal_quantile(scores, 0.1) == pytest.approx(quantile, abs=1e-12)
    ours = rule(method="raps", quantile=quantile, **penalties).raw_sets(probs[new], mapie_coins(400))
    short = (ours.sum(axis=1) < free_classes) & (theirs.sum(axis=1) < free_classes)
    assert (ours[short] == theirs[short]).all()
    assert short.any() or free_classes == 1


@pytest.mark.parametrize("method", SET_METHODS)
def test_the_rate_is_held_on_average(method):
    """200 splits of 2,000 images: the mean coverage of 0.9 has a standard error of about 0.001 here; n + 1 adds below 0.002."""
    probs, labels = batch(2000)
    coins = row_coins(np.arange(2000))
    coverages = []
    for seed in range(200):
        order = np.random.default_rng(seed).permutation(2000)
        fit, new = order[:500], order[500:]
        sets = fit_sets(probs[fit], labels[fit], coins[fit], method=method, alpha=0.1)
        coverages.append(sets.raw_sets(probs[new], coins[new])[np.arange(1500), labels[new]].mean())
    assert 0.895 < np.mean(coverages) < 0.907


def test_empty_sets_get_the_most_probable_class():
    strict = rule(quantile=0.05)
    assert not strict.raw_sets(PROBS, np.zeros(2)).any()
    assert strict.sets(PROBS, np.zeros(2)).tolist() == [[True, False, False], [False, True, False]]
    assert rule().sets(PROBS, np.zeros(2)).tolist() == [[True, False, False], [False, True, False]]
    assert rule(quantile=0.7).sets(PROBS, np.zeros(2)).tolist() == [[True, False, True], [False, True, False]]


def test_too_few_calibration_images_admit_every_class():
    sets = fit_sets(PROBS, np.array([0, 1]), np.zeros(2), method="lac", alpha=0.1)
    assert sets.quantile is None
    assert sets.sets(PROBS, np.zeros(2)).all()


# each class its own


@pytest.mark.parametrize(
    ("num_images", "num_wrong", "expected"),
    [
        (1000, 51, 0.05),  # 94.9 % correct
        (1000, 50, 0.01),  # 95.0 %
        (99, 0, 0.01),  # (99 + 1) * 0.01 = 1: just enough for a quantile
        (98, 0, 0.05),
        (19, 0, 0.05),
        (18, 0, 0.1),
        (3, 0, 0.1),  # too few for any of them
    ],
)
def test_the_default_rate_follows_the_accuracy_and_the_number_of_images(num_images, num_wrong, expected):
    labels = np.zeros(num_images, dtype=np.int64)
    logits = np.tile([1.0, 0.0], (num_images, 1))
    logits[:num_wrong] = [0.0, 1.0]
    assert choose_alpha(logits, labels) == expected
    assert (conformal_quantile(labels.astype(float), expected) is None) == (num_images == 3)


def test_the_chosen_rate_is_held_where_the_accuracy_lies_at_its_limit():
    rng = np.random.default_rng(0)
    above = []  # coverage of new images less the rate that was chosen
    for seed in range(200):
        probs, labels = batch(1200, num_classes=3, seed=seed, spread=0.9)  # right on 94 to 96 %
        alpha = choose_alpha(probs[:200], labels[:200])
        rule = fit_sets(probs[:200], labels[:200], rng.random(200), method="lac", alpha=alpha)
        covered = rule.sets(probs[200:], rng.random(1000))[np.arange(1000), labels[200:]]
        above.append(covered.mean() - (1 - alpha))
    assert np.mean(above) > -2 * np.std(above) / np.sqrt(200)


def test_classes_with_200_images_have_a_quantile_of_their_own():
    probs, labels = batch(2000, 3)
    labels[labels == 2] = np.where(np.arange((labels == 2).sum()) < 199, 2, 0)
    coins = row_coins(np.arange(2000))
    sets = fit_sets(probs, labels, coins, method="lac", alpha=0.1, class_conditional=True)
    assert sets.refused == (2,)
    scores = 1 - probs[np.arange(2000), labels]
    for k in (0, 1):
        assert sets.class_quantiles[k] == conformal_quantile(scores[labels == k], 0.1)
        assert sets.raw_sets(probs, coins)[labels == k, k].mean() >= 0.9
    assert sets.class_quantiles[2] == sets.quantile == conformal_quantile(scores, 0.1)


def test_where_no_class_has_200_images_all_are_refused():
    probs, labels = batch(100, 3)
    sets = fit_sets(probs, labels, np.zeros(100), method="lac", alpha=0.1, class_conditional=True)
    assert (sets.class_quantiles, sets.refused) == ((), (0, 1, 2))
    assert sets.quantile == fit_sets(probs, labels, np.zeros(100), method="lac", alpha=0.1).quantile


# coins


def test_coins_come_from_the_pixels_alone():
    images = np.random.default_rng(0).integers(0, 256, (50, 4, 4, 3), dtype=np.uint8)
    coins = image_coins(images)
    assert (image_coins(images[::-1]) == coins[::-1]).all()
    assert len(set(coins)) == 50
    assert image_coins(images[:1])[0] == coins[0]


def test_coins_are_even():
    """Kolmogorov-Smirnov: 1.63 / sqrt(n) is passed by chance once in a hundred."""
    coins = np.sort(row_coins(np.arange(2000)))
    assert np.abs(coins - (np.arange(2000) + 0.5) / 2000).max() < 1.63 / math.sqrt(2000)


# the file


@pytest.mark.parametrize("method", SET_METHODS)
def test_round_trip_through_json(method):
    probs, labels = batch(700, 3)
    coins = row_coins(np.arange(700))
    sets = fit_sets(probs, labels, coins, method=method, alpha=0.1, class_conditional=True)
    again = convert_record(json.loads(json.dumps(sets.to_dict())), ConformalSets, where="calibration.json")
    assert again == sets
    assert (again.sets(probs, coins) == sets.sets(probs, coins)).all()


@pytest.mark.parametrize("changes", [{"alpha": 0.0}, {"quantile": math.nan}, {"method": "nap"}, {"penalty": math.inf}])
def test_impossible_numbers_are_refused(changes):
    with pytest.raises(ConfigError):
        rule(**changes)
