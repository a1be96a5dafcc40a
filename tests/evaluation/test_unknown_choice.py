import numpy as np
import pytest
from test_unknown import clusters

from recog.evaluation.ranking import auroc_of
from recog.evaluation.unknown import UNKNOWN_METHODS, fit_statistics, unknown_scores
from recog.evaluation.unknown_choice import KnownImages, candidates_for, fit_unknown, leave_classes_out


def known_images(num_classes=4, num_fit=100, refit=None):
    train_features, _, train_labels = clusters(200, 8, num_classes, seed=0)
    features, logits, labels = clusters(num_fit, 8, num_classes, seed=1)
    return KnownImages(
        train_features=train_features, train_labels=train_labels, features=features, logits=logits, labels=labels,
        data="val", refit=refit,
    )  # fmt: skip


def test_each_class_is_left_out_once_and_scored_by_what_never_saw_it():
    known = known_images()
    rows, num_left_out = leave_classes_out(known, ("knn", "max_softmax"))
    assert num_left_out == 4
    assert {row.method for row in rows} == {"knn", "max_softmax"}
    assert rows[0].mean_auroc >= rows[1].mean_auroc
    expected = []
    for k in range(4):
        keep = known.train_labels != k
        statistics = fit_statistics("knn", known.train_features[keep], known.train_labels[keep])
        scores = unknown_scores("knn", known.logits, known.features, statistics, num_neighbours=10)
        expected.append(auroc_of(scores, known.labels == k))
    (knn,) = (row for row in rows if row.method == "knn")
    assert knn.mean_auroc == pytest.approx(np.mean(expected))
    assert knn.min_auroc == pytest.approx(min(expected))


def test_a_model_fitted_without_the_class_is_asked_where_there_is_one():
    asked = []

    def refit(k):
        asked.append(k)
        return np.zeros((100, 3), dtype=np.float32)  # sure of nothing: no better than chance

    rows, _ = leave_classes_out(known_images(refit=refit), ("energy",))
    assert asked == [0, 1, 2, 3]
    assert rows[0].mean_auroc == 0.5


def test_of_many_classes_ten_are_left_out():
    assert leave_classes_out(known_images(num_classes=8), ("max_softmax",))[1] == 8
    features, logits, labels = clusters(100, 30, 25, seed=1)
    many = KnownImages(
        train_features=features, train_labels=labels, features=features, logits=logits, labels=labels, data="val"
    )
    assert leave_classes_out(many, ("max_softmax",))[1] == 10


@pytest.mark.parametrize("method", UNKNOWN_METHODS)
def test_two_classes_leave_one(method):
    rows, num_left_out = leave_classes_out(known_images(num_classes=2), (method,))
    assert num_left_out == 2
    if method in ("max_softmax", "relative_mahalanobis"):
        assert rows[0].mean_auroc == 0.5  # with one class the softmax is always sure, and the class is all classes
    else:
        assert rows[0].mean_auroc > 0.8


def test_the_best_score_is_taken_with_its_reason():
    known = known_images()
    rule, statistics = fit_unknown(known, false_alarm_rate=0.1)
    assert rule.method == rule.left_out[0].method
    assert f"{rule.left_out[0].mean_auroc:.3f} on average over 4 classes left out" in rule.reason
    assert "the features had seen them, which flatters" in rule.reason
    anew = known_images(refit=lambda k: known.logits[:, :3])
    assert "flatters" not in fit_unknown(anew)[0].reason
    assert (rule.num_images, rule.data, rule.false_alarm_rate) == (100, "val", 0.1)
    scores = rule.scores(known.logits, known.features, statistics)
    assert rule.is_unknown(scores).mean() <= 0.1


def test_what_is_asked_for_is_taken():
    rule, statistics = fit_unknown(known_images(), method="energy")
    assert (rule.method, rule.reason, statistics) == ("energy", "as asked for", None)
    rule, statistics = fit_unknown(known_images(), method="knn")
    assert rule.num_neighbours == 10
    assert statistics.bank.shape == (200, 8)


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
