import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import average_precision_score

from recog.core.errors import DataError
from recog.core.files import pretty_json
from recog.evaluation.measures.bootstrap import mean_precision_difference
from recog.evaluation.measures.counts import wilson_interval
from recog.evaluation.measures.resampling import resampled_counts
from recog.evaluation.results.comparison import compare, mcnemar_exact, paired_interval

CLASSES = ("cat", "dog")


def comparison(answers_a, answers_b, labels, **options):
    preds = np.eye(2)[answers_a] == 1, np.eye(2)[answers_b] == 1
    return compare(
        (0.1 + 0.8 * preds[0], 0.2 + 0.6 * preds[1]),
        preds,
        np.array(labels),
        class_names=CLASSES,
        names=[f"{i}.jpg" for i in range(len(labels))],
        **options,
    )


@settings(deadline=None)
@given(st.integers(0, 300), st.integers(0, 300))
def test_mcnemar_equals_scipys_binomial_test(lost, gained):
    expected = binomtest(lost, lost + gained, 0.5).pvalue if lost + gained else 1.0
    assert mcnemar_exact(lost, gained) == pytest.approx(expected, rel=1e-9, abs=1e-300)
    assert mcnemar_exact(lost, gained) == mcnemar_exact(gained, lost)


def test_mcnemar_by_hand():
    # One of five: 2 (1 + 5) / 2^5. None of five: 2 / 2^5. Even: more than half on both sides, so 1.
    assert mcnemar_exact(1, 4) == pytest.approx(12 / 32)
    assert mcnemar_exact(5, 0) == pytest.approx(2 / 32)
    assert mcnemar_exact(3, 3) == 1.0
    assert mcnemar_exact(0, 0) == 1.0


@pytest.mark.parametrize(("lost", "gained", "n"), [(3, 9, 100), (0, 4, 50), (40, 45, 1000), (1, 0, 1)])
def test_interval_equals_a_bootstrap_that_draws(lost, gained, n):
    steps = np.repeat([-1, 1, 0], [lost, gained, n - lost - gained])
    draws = np.random.default_rng(0).choice(steps, (20_000, n)).mean(axis=1)
    expected = np.quantile(draws, (0.025, 0.975), method="inverted_cdf")
    # whole images: where the distribution crosses 2.5 % near a step, chance may draw the next one
    assert paired_interval(lost, gained, n) == pytest.approx(tuple(expected), abs=1.01 / n)


def test_interval_by_hand():
    # One image, gained: every resample has +1. Two images, one gained: sums 0, 1, 2 with chances 1/4, 1/2, 1/4.
    assert paired_interval(0, 1, 1) == (1.0, 1.0)
    assert paired_interval(0, 1, 2) == (0.0, 1.0)
    assert paired_interval(1, 0, 2) == (-1.0, 0.0)


def test_where_nothing_changed_the_doubt_stays():
    assert paired_interval(0, 0, 50) == (-wilson_interval(0, 50)[1], wilson_interval(0, 50)[1])


def test_interval_of_many_images_is_the_normal_one():
    low, high = paired_interval(1000, 1200, 100_000)
    # variance of one step: (1000 + 1200) / n - (200 / n)^2
    half = 1.959964 * np.sqrt((0.022 - 0.002**2) / 100_000)
    assert (low, high) == pytest.approx((0.002 - half, 0.002 + half), abs=2e-5)


def test_by_hand():
    result = comparison([0, 0, 1, 1, 0, 0], [0, 1, 1, 0, 1, 1], [0, 0, 1, 1, 1, 0])
    # images 0, 2 right by both; 1, 3, 5 lost; 4 gained
    assert (result.num_both_right, result.num_only_a_right, result.num_only_b_right, result.num_both_wrong) == (
        2,
        3,
        1,
        0,
    )
    assert (result.accuracy_a, result.accuracy_b, result.difference) == (5 / 6, 3 / 6, pytest.approx(-2 / 6))
    assert result.accuracy_a_ci95 == wilson_interval(5, 6)
    assert result.p_value == pytest.approx(2 * (1 + 4) / 16)
    assert result.better is None
    assert [image.name for image in result.lost] == ["1.jpg", "3.jpg", "5.jpg"]
    (gained,) = result.gained
    assert (gained.name, gained.true_class, gained.answer_a, gained.answer_b) == ("4.jpg", "dog", "cat", "dog")


def test_better_needs_a_small_p():
    assert comparison([0] * 5, [1] * 5, [1] * 5).better is None  # 2 / 32 = 0.0625
    assert comparison([0] * 6, [1] * 6, [1] * 6).better == "B"  # 2 / 64
    assert comparison([1] * 6, [0] * 6, [1] * 6).better == "A"


def test_the_list_of_changed_images_is_bounded_and_the_total_is_not():
    result = comparison([0] * 9, [1] * 9, [1] * 9, max_changed=2)
    assert (len(result.gained), result.num_only_b_right) == (2, 9)


def test_the_largest_swing_comes_first():
    probs_a = np.array([[0.6, 0.4], [0.9, 0.1], [0.7, 0.3]])
    probs_b = np.tile([[0.1, 0.9]], (3, 1))
    result = compare(
        (probs_a, probs_b),
        (probs_a > 0.5, probs_b > 0.5),
        np.array([1, 1, 1]),
        class_names=CLASSES,
        names=("x", "y", "z"),
    )
    assert [image.name for image in result.gained] == ["y", "z", "x"]


def test_json():
    table = json.loads(pretty_json(comparison([0, 0], [0, 1], [0, 1]).to_dict()))
    assert list(table) == [
        "format_version", "task", "num_images", "a", "b", "difference", "difference_ci95", "p_value", "better",
        "num_both_right", "num_only_a_right", "num_only_b_right", "num_both_wrong", "lost", "gained",
        "mean_average_precision",
    ]  # fmt: skip
    assert table["gained"] == [{"name": "1.jpg", "true_class": "dog", "answer_a": "cat", "answer_b": "dog"}]


TARGETS = np.array([[1, 0], [1, 1], [0, 0], [0, 1]], dtype=bool)


def test_several_labels_by_hand():
    probs_a = np.array([[0.9, 0.2], [0.8, 0.6], [0.1, 0.7], [0.3, 0.4]])
    probs_b = np.array([[0.7, 0.1], [0.3, 0.9], [0.2, 0.4], [0.1, 0.8]])
    result = compare(
        (probs_a, probs_b), (probs_a >= 0.5, probs_b >= 0.5), TARGETS, class_names=CLASSES, names=("w", "x", "y", "z")
    )
    # w right by both; x right by A alone, as B does not say cat; y and z right by B alone: A invents a dog, and misses one
    assert (result.num_both_right, result.num_only_a_right, result.num_only_b_right, result.num_both_wrong) == (
        1,
        1,
        2,
        0,
    )
    assert (result.task, result.p_value) == ("multilabel", 1.0)  # 2 (1 + 3) / 8
    (lost,) = result.lost
    assert (lost.name, lost.true_class, lost.answer_a, lost.answer_b) == ("x", "cat | dog", "cat | dog", "dog")
    # the truth least held: of y by A 0.3 (no dog), by B 0.6; of z by A 0.4, by B 0.8
    assert [(image.name, image.true_class, image.answer_a) for image in result.gained] == [
        ("z", "dog", "(no label)"),
        ("y", "(no label)", "dog"),
    ]
    # cat: both find w and x first: 1. dog: A has y, x, z: (1/2 + 2/3) / 2; B has x, z first: 1
    precision = result.mean_average_precision
    assert (precision.a, precision.b) == (pytest.approx((1 + 7 / 12) / 2), 1.0)
    assert precision.difference == pytest.approx(5 / 24)


def test_the_interval_of_the_map_difference_is_that_of_gathered_resamples():
    rng = np.random.default_rng(0)
    targets = rng.random((60, 3)) < 0.4
    probs = tuple(np.round(0.3 * targets + 0.7 * rng.random((60, 3)), 2) for _ in range(2))
    order = np.lexsort((probs[1][:, 0], probs[0][:, 0]))  # in which the images are resampled
    differences = []
    for counts in resampled_counts(np.zeros(60, dtype=np.int64), num_resamples=40, seed=0):
        for drawn in counts.T.astype(int):
            rows = np.repeat(order, drawn)
            a, b = (average_precision_score(targets[rows], side[rows]) for side in probs)
            differences.append(b - a)
    expected = tuple(np.quantile(differences, (0.025, 0.975)))
    assert mean_precision_difference(*probs, targets, num_resamples=40) == pytest.approx(expected, abs=1e-9)


def test_without_a_label_there_is_no_map_and_the_same_answers_have_no_interval():
    probs = np.array([[0.4, 0.2], [0.3, 0.1]])
    none = np.zeros((2, 2), dtype=bool)
    result = compare((probs, probs), (none, none), none, class_names=CLASSES, names=("x", "y"))
    assert (result.mean_average_precision, result.num_both_right) == (None, 2)
    result = compare((probs, probs), (none, none), np.eye(2) == 1, class_names=CLASSES, names=("x", "y"))
    assert json.loads(pretty_json(result.to_dict()))["mean_average_precision"] == {
        "a": 0.75, "b": 0.75, "difference": 0.0, "difference_ci95": None,
    }  # fmt: skip


def test_other_images_are_refused():
    with pytest.raises(DataError, match="the same images and classes"):
        compare((np.eye(2), np.eye(3)), (np.eye(2) == 1,) * 2, np.array([0, 1]), class_names=CLASSES, names=("x", "y"))
