import numpy as np
import pytest

from recog.doctor.features import nearest_neighbours, standardised
from recog.doctor.label_errors import (
    MANY_SUSPECTS,
    STRENGTHS,
    LabelEvidence,
    Ridge,
    confusable_classes,
    judge_features,
    judge_label_sets,
    judge_labels,
    log_probs,
    out_of_fold,
    prunable,
)
from recog.evaluation.measures.probability import auroc_of


def clouds(per_class=40, num_classes=3, distance=4.0, seed=0):
    """Normal clouds about points on the axes."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(num_classes), per_class)
    features = rng.normal(size=(len(labels), 12)).astype(np.float32)
    features[np.arange(len(labels)), labels] += distance
    return standardised(features), labels


def judge(features, labels, groups=None, num_classes=3):
    *_, neighbours = nearest_neighbours(features, 10)
    groups = np.arange(len(labels)) if groups is None else groups
    return judge_labels(features, labels, groups, neighbours, num_classes=num_classes)


def test_flipped_labels_are_the_most_suspicious_and_get_their_class_back():
    features, true = clouds(distance=6.0)
    labels = true.copy()
    wrong = np.array([3, 30, 50, 70, 90, 110])
    labels[wrong] = (labels[wrong] + 1) % 3
    found = judge(features, labels)
    assert auroc_of(found.suspicion, labels != true) > 0.99
    assert set(np.flatnonzero(found.is_suspect)) == set(wrong)
    assert found.suggested[wrong].tolist() == true[wrong].tolist()


def test_a_third_of_a_class_under_one_wrong_label_is_found():
    """They are neighbours and support each other; without the suspects the views are fitted again."""
    features, true = clouds(per_class=60, distance=5.0)
    labels = true.copy()
    labels[:20], labels[60:80] = 1, 2
    found = judge(features, labels)
    assert found.is_suspect.mean() > MANY_SUSPECTS
    assert auroc_of(found.suspicion, labels != true) > 0.99
    assert found.is_suspect[labels != true].mean() > 0.75
    assert found.is_suspect[labels == true].mean() < 0.02


def test_features_in_any_units_are_judged_alike():
    features, labels = clouds(distance=6.0)
    labels = labels.copy()
    labels[3] = 2
    found = judge_features(1000 * features + 7, labels, np.arange(len(labels)), num_classes=3)
    assert np.flatnonzero(found.is_suspect).tolist() == [3]
    assert judge_features(features[:2], labels[:2], np.arange(2), num_classes=3) is None


def test_no_class_is_pruned_away():
    labels, groups = np.array([0, 0, 0, 1, 1, 1]), np.array([0, 1, 2, 3, 3, 4])
    suspects = np.array([True, False, False, False, False, True])  # of class 1 one group would be left: 3
    evidence = LabelEvidence(
        suspicion=suspects.astype(float), is_suspect=suspects, suggested=1 - labels, preds=1 - labels
    )
    assert prunable(evidence, labels, groups).tolist() == [True, False, False, False, False, False]


def test_right_labels_are_not_suspected():
    assert not judge(*clouds(distance=6.0)).is_suspect.any()


def test_copies_of_one_image_do_not_vouch_for_each_other():
    """Four copies with one wrong label: without groups their neighbours, each other, agree with it."""
    features, labels = clouds(distance=6.0)
    features[:4], labels[:4] = features[0], 1
    groups = np.arange(len(labels))
    groups[:4] = 0
    assert not judge(features, labels).is_suspect[:4].any()
    assert judge(features, labels, groups).is_suspect[:4].all()


def test_a_class_with_one_image_is_not_judged():
    features, labels = clouds()
    labels[0] = 3
    found = judge(features, labels, num_classes=5)
    assert np.isnan(found.suspicion[0])
    assert not found.is_suspect[0]
    assert (found.suggested[0], found.preds[0]) == (3, -1)
    assert not np.isnan(found.suspicion[1:]).any()
    assert judge(features, np.zeros_like(labels), num_classes=1) is None


def test_two_names_for_one_class_are_confusable():
    features, labels = clouds(num_classes=2, per_class=60)
    labels[60:90] = 2  # the second cloud under two labels
    labels[60:] = np.where(np.arange(60) % 2, 1, 2)
    ((a, b, share),) = confusable_classes(judge(features, labels), labels)
    assert (a, b) == (1, 2)
    assert share > 0.35


def label_sets(num_images=120, num_labels=3, seed=0):
    """Each label, on two fifths of the images, moves them along an axis of its own; the last one does not."""
    rng = np.random.default_rng(seed)
    is_label = rng.random((num_images, num_labels)) < 0.4
    features = rng.normal(size=(num_images, 12)).astype(np.float32)
    features[:, : num_labels - 1] += 6.0 * is_label[:, :-1]
    return standardised(features), is_label


def judge_sets(features, is_label):
    *_, neighbours = nearest_neighbours(features, 10)
    return judge_label_sets(features, is_label, np.arange(len(is_label)), neighbours)


def test_missing_and_wrong_labels_among_several_are_found():
    features, true = label_sets()
    given = true.copy()
    flipped = [(3, 0), (40, 0), (77, 1), (100, 1)]
    for i, label in flipped:
        given[i, label] ^= True
    found = judge_sets(features, given)
    assert {tuple(cell) for cell in np.argwhere(found.is_suspect)} == set(flipped)
    assert auroc_of(found.suspicion[:, :2].ravel(), (given != true)[:, :2].ravel()) > 0.99


def test_right_sets_are_not_suspected_and_a_label_that_the_features_do_not_tell_is_not_judged():
    found = judge_sets(*label_sets())
    assert not found.is_suspect.any()
    assert np.isnan(found.suspicion).all(axis=0).tolist() == [False, False, True]


def test_labels_that_all_images_have_are_not_judged():
    features, is_label = label_sets()
    found = judge_sets(features, np.ones_like(is_label))
    assert np.isnan(found.suspicion).all()
    assert not found.is_suspect.any()


@pytest.mark.parametrize("shape", [(60, 90), (90, 30)])
def test_a_ridge_on_part_of_the_images_is_that_of_the_normal_equations(shape):
    """Fewer images than features, and more: the products of all images are corrected for those that are left out."""
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=shape).astype(np.float32), rng.integers(0, 3, shape[0])
    is_class, train = labels[:, None] == np.arange(3), rng.random(shape[0]) < 0.7
    found = Ridge.of(features).scores(is_class, train, ~train, (1 / 200, 1 / 10))
    part, targets = features[train].astype(np.float64), is_class[train].astype(np.float64)
    mean, shares = part.mean(axis=0), targets.mean(axis=0)
    for scores, strength in zip(found, (1 / 200, 1 / 10), strict=True):
        penalty = strength * shape[1] * train.sum() * np.eye(shape[1])
        weights = np.linalg.solve((part - mean).T @ (part - mean) + penalty, (part - mean).T @ (targets - shares))
        np.testing.assert_allclose(scores, (features[~train] - mean) @ weights + shares, atol=1e-5)


def test_the_strength_is_that_of_the_least_error_out_of_fold():
    """A label that is one of the features calls for the weakest penalty, labels by chance for the strongest."""
    rng = np.random.default_rng(0)
    features, is_told = rng.normal(size=(400, 40)).astype(np.float32), rng.random(400) < 0.5
    features[:, 0] = 2 * is_told - 1
    folds, trusted = np.arange(400) % 5, np.ones(400, dtype=bool)
    for labels, strength in ((is_told, STRENGTHS[-1]), (rng.random(400) < 0.5, STRENGTHS[0])):
        is_class = np.stack([labels, ~labels], axis=1)
        _, chosen = out_of_fold(Ridge.of(features), is_class, folds, trusted)
        assert chosen == strength


def test_log_probs_are_those_of_a_softmax():
    scores = np.array([[0.5, 0.5], [1.0, 0.0]])
    expected = np.log([0.5, 1 / (1 + np.exp(6.0))])  # six times the difference of the scores
    np.testing.assert_allclose(log_probs(scores, np.array([0, 1])), expected)
