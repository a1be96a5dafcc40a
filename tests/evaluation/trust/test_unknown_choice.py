import dataclasses

import numpy as np
import pytest
from batches import clusters

from recog.evaluation.measures.probability import auroc_of
from recog.evaluation.trust.unknown import (
    FEATURE_METHODS,
    UNKNOWN_METHODS,
    FeatureStatistics,
    fit_statistics,
    fit_weight,
    unknown_scores,
)
from recog.evaluation.trust.unknown_choice import (
    KnownImages,
    candidates_for,
    choose_score,
    fit_unknown,
    leave_classes_out,
)


def known_images(num_classes=4, num_fit=100, refit=None):
    train_features, _, train_labels = clusters(200, 8, num_classes, seed=0)
    features, logits, labels = clusters(num_fit, 8, num_classes, seed=1)
    return KnownImages(
        train_features=train_features, train_labels=train_labels, features=features, logits=logits, labels=labels,
        data="val", refit=refit,
    )  # fmt: skip


def test_each_class_is_left_out_once_and_scored_by_what_never_saw_it():
    known = known_images()
    for method in FEATURE_METHODS:
        aurocs = leave_classes_out(known, (method,))[method]
        expected = []
        for k in range(4):
            keep, others = known.train_labels != k, known.labels != k
            statistics = fit_statistics(method, known.train_features[keep], known.train_labels[keep])
            logits, weight = np.delete(known.logits, k, axis=1), 0.0
            if method == "energy_mahalanobis":
                weight = fit_weight(logits[others], known.features[others], statistics)
            scores = unknown_scores(method, logits, known.features, statistics, num_neighbours=10, weight=weight)
            expected.append(auroc_of(scores, known.labels == k))
        np.testing.assert_allclose(aurocs, expected, atol=0.005)


def test_a_model_fitted_without_the_class_is_asked_where_there_is_one():
    asked = []

    def refit(k):
        asked.append(k)
        return np.zeros((100, 3), dtype=np.float32)  # sure of nothing: no better than chance

    aurocs = leave_classes_out(known_images(refit=refit), ("energy",))
    assert asked == [0, 1, 2, 3]
    assert aurocs["energy"].tolist() == [0.5] * 4


def test_of_many_classes_ten_are_left_out():
    assert len(leave_classes_out(known_images(num_classes=8), ("max_softmax",))["max_softmax"]) == 8
    features, logits, labels = clusters(100, 30, 25, seed=1)
    many = KnownImages(
        train_features=features, train_labels=labels, features=features, logits=logits, labels=labels, data="val"
    )
    assert len(leave_classes_out(many, ("max_softmax",))["max_softmax"]) == 10


def test_a_score_on_features_is_taken_unless_another_is_better_beyond_chance():
    # behind by 0.02, 0.00, 0.04: mean 0.02, standard error 0.02 / sqrt(3) = 0.0115; by 0.01, -0.03, 0.05: 0.01 and 0.0231
    best = np.array([0.8, 0.7, 0.9])
    clear = {"energy": best, "knn": best - np.array([0.02, 0.0, 0.04])}
    assert choose_score(clear)[0] == "energy"
    assert choose_score(clear)[1] == "the highest AUROC, 0.800 on average over 3 classes left out in turn"
    close = {"energy": best, "knn": best - np.array([0.01, -0.03, 0.05])}
    assert choose_score(close)[0] == "knn"
    assert "0.790 on average over 3 classes left out in turn, is within one standard error" in choose_score(close)[1]
    assert choose_score({"energy": best - 0.1, "mahalanobis": best})[1].startswith("the highest AUROC, 0.800")
    assert choose_score({"energy": np.zeros(0)}) == ("energy", "no class could be left out to compare the scores")


@pytest.mark.parametrize("method", UNKNOWN_METHODS)
def test_two_classes_leave_one(method):
    aurocs = leave_classes_out(known_images(num_classes=2), (method,))[method]
    assert len(aurocs) == 2
    if method == "max_softmax":
        assert aurocs.mean() == pytest.approx(0.5, abs=0.05)  # of one class it is always sure
    else:
        assert aurocs.mean() > 0.8


def test_the_best_score_is_taken_with_its_reason():
    known = known_images()
    rule, statistics = fit_unknown(known, false_alarm_rate=0.1)
    assert rule.method in FEATURE_METHODS  # all are near 1 here
    assert [row.mean_auroc for row in rule.left_out] == sorted((row.mean_auroc for row in rule.left_out), reverse=True)
    (taken,) = (row for row in rule.left_out if row.method == rule.method)
    assert f"{taken.mean_auroc:.3f} on average over 4 classes left out" in rule.reason
    assert "these classes were part of training, so this AUROC is optimistic" in rule.reason
    anew = known_images(refit=lambda k: known.logits[:, :3])
    assert "optimistic" not in fit_unknown(anew)[0].reason
    assert (rule.num_images, rule.data, rule.false_alarm_rate) == (100, "val", 0.1)
    scores = rule.scores(known.logits, known.features, statistics)
    assert rule.is_unknown(scores).mean() <= 0.1


def test_what_is_asked_for_is_taken():
    rule, statistics = fit_unknown(known_images(), method="energy")
    assert (rule.method, rule.reason, statistics) == ("energy", "as requested", None)
    rule, statistics = fit_unknown(known_images(), method="knn")
    assert rule.num_neighbours == 10
    assert statistics.bank.shape == (200, 8)
    assert rule.weight is None
    assert fit_unknown(known_images(), method="mahalanobis")[0].weight == 1.0
    known = known_images()
    rule, statistics = fit_unknown(known, method="energy_mahalanobis")
    assert rule.weight == fit_weight(known.logits, known.features, statistics) > 0
    assert (rule.num_neighbours, statistics.unit_whitening.shape) == (0, (8, 8))


def test_without_a_threshold_nothing_of_the_images_is_kept():
    rule, statistics = fit_unknown(known_images(num_fit=10), method="knn")
    assert (rule.threshold, statistics) == (None, None)


def test_private_data_leave_no_bank_and_long_features_no_matrix():
    assert "knn" not in candidates_for(64, may_keep_images=False)
    assert candidates_for(64, may_keep_images=True) == UNKNOWN_METHODS
    assert candidates_for(4096, may_keep_images=True) == ("max_softmax", "energy", "knn")


def test_one_class_cannot_be_left_out():
    features, logits, labels = clusters(30)
    one = KnownImages(
        train_features=features, train_labels=labels, features=features, logits=logits, labels=labels * 0, data="val"
    )
    rule, _ = fit_unknown(one)
    assert (rule.method, rule.num_left_out) == ("energy", 0)
    assert "no class could be left out" in rule.reason


def test_scores_are_compared_in_the_view_and_the_file_states_it():
    known = known_images()
    rng = np.random.default_rng(0)
    noisy = {
        name: np.concatenate([50 * rng.normal(size=(len(rows), 4)), rows / 3], axis=1).astype(np.float32)
        for name, rows in (("train_features", known.train_features), ("features", known.features))
    }
    view = FeatureStatistics(
        view_scale=np.full((1, 8), 3, dtype=np.float32), view_shift=np.zeros((1, 8), dtype=np.float32)
    )
    seen = dataclasses.replace(known, view=view, **noisy)
    (plain, _), (rule, statistics) = (fit_unknown(images, method="mahalanobis") for images in (known, seen))
    assert rule.threshold == pytest.approx(plain.threshold, rel=1e-3)
    assert [row.mean_auroc for row in rule.left_out] == pytest.approx(
        [row.mean_auroc for row in plain.left_out], abs=1e-3
    )
    scores = rule.scores(seen.logits, seen.features, FeatureStatistics.from_tensors(statistics.to_tensors()))
    assert (scores > rule.threshold).mean() <= 0.05
