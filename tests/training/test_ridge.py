"""Ridge heads beside scikit-learn's, and the closed form of leaving a fold out beside fitting without it."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from recog.training.config import HeadConfig
from recog.training.head import HeadData, HeadSpec, fit_heads
from recog.training.ridge import SCALE, answer_out_of_fold, fit_as, fit_ridge, floored, ridge_out_of_fold


def data(num_images, num_features, num_classes=3):
    rng = np.random.default_rng(0)
    labels = np.arange(num_images) % num_classes
    features = rng.normal(size=(num_images, num_features)) * rng.uniform(0.5, 3, num_features) + 2
    features[:, :num_classes] += np.eye(num_classes)[labels]
    return features.astype(np.float32), labels


def images(features, labels, weights=None):
    return HeadData(features=features, targets=labels, groups=np.arange(len(labels)), weights=weights)


def standardised(features):
    std = features.std(axis=0, dtype=np.float64)
    return (features - features.mean(axis=0, dtype=np.float64)) / (np.maximum(std, 0.3 * std.mean()) + 1e-6)


def test_a_feature_that_hardly_varies_is_not_enlarged():
    assert floored(np.array([1.0, 0.0, 2.0])).tolist() == [1.0, pytest.approx(0.3), 2.0]


@pytest.mark.parametrize("shape", [(60, 8), (30, 50)], ids=["more images", "more features"])
@pytest.mark.parametrize("weights", [None, np.array([0.5, 1.0, 2.0])])
def test_equal_to_scikit_learns_ridge(shape, weights):
    features, labels = data(*shape)
    head = fit_ridge(images(features, labels, weights), HeadSpec(l2=0.3, method="ridge"), num_classes=3)
    per_image = np.ones(len(labels)) if weights is None else weights[labels]
    theirs = Ridge(alpha=0.3 * per_image.sum()).fit(standardised(features), np.eye(3)[labels], sample_weight=per_image)
    np.testing.assert_allclose(head(features), SCALE * theirs.predict(standardised(features)), atol=1e-4)


@pytest.mark.parametrize("shape", [(60, 8), (30, 50)], ids=["more images", "more features"])
@pytest.mark.parametrize("weights", [None, np.array([0.5, 1.0, 2.0])])
def test_answers_out_of_fold_are_those_of_fits_without_the_fold(shape, weights):
    features, labels = data(*shape)
    rng = np.random.default_rng(1)
    folds = [rng.integers(0, 4, len(labels)), np.arange(len(labels))]  # the second leaves one out
    per_image = np.ones(len(labels)) if weights is None else weights[labels]
    strengths = (0.03, 1.0)
    found = ridge_out_of_fold(images(features, labels, weights), strengths, folds, num_classes=3)
    standard, is_class = standardised(features), np.eye(3)[labels]
    for l2, answers in zip(strengths, found, strict=True):
        for fold_of, repeat in zip(folds, answers, strict=True):
            for fold in np.unique(fold_of):
                rest, out = fold_of != fold, fold_of == fold
                without = Ridge(alpha=l2 * per_image.sum())
                without.fit(standard[rest], is_class[rest], sample_weight=per_image[rest])
                np.testing.assert_allclose(repeat[out], SCALE * without.predict(standard[out]), atol=1e-7)


def test_a_constant_feature_has_no_part():
    features, labels = data(30, 5)
    features[:, 4] = 7.0
    head = fit_ridge(images(features, labels), HeadSpec(l2=0.1, method="ridge"), num_classes=3)
    np.testing.assert_allclose(head.weight[:, 4], 0, atol=1e-6)


def test_a_head_is_fitted_again_as_another_one_was():
    features, labels = data(60, 8)
    pool = images(features, labels)
    ridge = fit_ridge(pool, HeadSpec(l2=0.3, method="ridge"), num_classes=3)
    again = fit_as(ridge, pool, HeadConfig(), num_classes=3)
    assert (again.weight == ridge.weight).all()
    assert (again.method, again.l2) == ("ridge", 0.3)
    (logistic,) = fit_heads(features, labels, HeadConfig(l2=(0.03,)), num_classes=3)
    np.testing.assert_allclose(fit_as(logistic, pool, HeadConfig(), num_classes=3).weight, logistic.weight, atol=1e-6)


@pytest.mark.parametrize("method", ["logistic", "ridge"])
def test_out_of_fold_a_head_has_not_seen_the_image(method):
    """Labels by coin: what a head remembers cannot help, so out of fold it is no better than chance."""
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 200)
    pool = images(rng.normal(size=(200, 100)).astype(np.float32), labels)
    spec = HeadSpec(l2=1e-4, method=method)
    seen = fit_as(spec, pool, HeadConfig(), num_classes=2)(pool.features)
    assert (seen.argmax(axis=1) == labels).mean() > 0.8
    answers = answer_out_of_fold(spec, pool, HeadConfig(), num_classes=2, seed=0)
    assert 0.35 < (answers.argmax(axis=1) == labels).mean() < 0.65
