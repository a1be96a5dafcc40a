import warnings

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from recog.training.config import HeadConfig
from recog.training.head import fit_heads, fit_label_weights


def case(num_images=200, num_features=6, seed=0):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(num_images, num_features)).astype(np.float32)
    logits = features[:, :3] * [2.0, -1.0, 0.5] + [0.0, -1.5, 1.0]
    return features, (rng.random(logits.shape) < 1 / (1 + np.exp(-logits))).astype(np.float32)


@pytest.mark.parametrize("l2", [1.0, 0.01, 1e-4])
def test_each_label_is_scikit_learns_logistic_regression(l2):
    features, targets = case()
    weights = fit_label_weights(features.astype(np.float64), targets, l2, start=None, max_iterations=500)
    for k in range(3):
        theirs = LogisticRegression(C=1 / (l2 * 200), tol=1e-8, max_iter=5000).fit(features, targets[:, k])
        np.testing.assert_allclose(weights[k, :-1], theirs.coef_[0], atol=2e-3)
        np.testing.assert_allclose(weights[k, -1], theirs.intercept_[0], atol=2e-3)


def test_positive_weights_are_scikit_learns_class_weights():
    features, targets = case()
    weights = fit_label_weights(
        features.astype(np.float64),
        targets,
        0.01,
        start=None,
        max_iterations=500,
        positive_weights=np.array([1.0, 3.0, 0.5]),
    )
    theirs = LogisticRegression(C=1 / (0.01 * 200), tol=1e-8, max_iter=5000, class_weight={0: 1.0, 1: 3.0})
    theirs.fit(features, targets[:, 1])
    np.testing.assert_allclose(weights[1, :-1], theirs.coef_[0], atol=2e-3)


def test_labels_that_never_change_have_a_bias_only_and_leave_the_others_alone():
    """0 of 200: log(0.5 / 200.5). All of 200: the negative."""
    features, targets = case()
    constant = np.column_stack([np.zeros(200), targets[:, 0], np.ones(200)]).astype(np.float32)
    weights = fit_label_weights(features.astype(np.float64), constant, 0.01, start=None, max_iterations=500)
    assert not weights[[0, 2], :-1].any()
    assert weights[[0, 2], -1] == pytest.approx([np.log(0.5 / 200.5), np.log(200.5 / 0.5)])
    alone = fit_label_weights(features.astype(np.float64), targets[:, :1], 0.01, start=None, max_iterations=500)
    np.testing.assert_allclose(weights[1], alone[0], atol=1e-6)
    none = fit_label_weights(features.astype(np.float64), constant[:, [0]], 0.01, start=None, max_iterations=5)
    assert np.isfinite(none).all()


def test_the_head_folds_the_standardisation_in():
    features, targets = case()
    moved = features * 7 + 100
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        heads = list(fit_heads(moved, targets, HeadConfig(l2=(0.01, 1.0)), num_classes=3))
    assert [head.l2 for head in heads] == [1.0, 0.01]
    standard = (features - features.mean(axis=0)) / features.std(axis=0)
    theirs = LogisticRegression(C=1 / (0.01 * 200), tol=1e-8, max_iter=5000).fit(standard, targets[:, 0])
    np.testing.assert_allclose(heads[1](moved)[:, 0], theirs.decision_function(standard), atol=0.02)
