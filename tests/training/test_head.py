import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from recog.core.errors import ConfigError, TrainingError
from recog.training.config import HeadConfig
from recog.training.head import LinearHead, fit_heads

LONG = 3000  # iterations: enough to reach the optimum


def blobs(num_classes, num_images=120, num_features=5, seed=0):
    """Overlapping classes on features of very different scale and offset."""
    rng = np.random.default_rng(seed)
    labels = np.arange(num_images) % num_classes
    centres = rng.normal(size=(num_classes, num_features))
    features = centres[labels] + rng.normal(size=(num_images, num_features))
    features = features * np.array([1, 100, 0.01, 3, 10])[:num_features] + np.array([0, 1000, 5, -3, 7])[:num_features]
    return features.astype(np.float32), labels.astype(np.int64)


def fit_one(features, labels, l2, num_classes, max_iterations=LONG):
    (head,) = fit_heads(features, labels, HeadConfig(l2=(l2,), max_iterations=max_iterations), num_classes=num_classes)
    return head


def softmax(logits):
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def standardised(features):
    features = features.astype(np.float64)
    return (features - features.mean(axis=0)) / features.std(axis=0)


def unfolded(head, features):
    """The head's weight and bias on standardised features: w' = w std, b' = b + w mean."""
    features = features.astype(np.float64)
    weight = head.weight.astype(np.float64)
    return weight * features.std(axis=0), head.bias + weight @ features.mean(axis=0)


@pytest.mark.parametrize("num_classes", [2, 3, 4])
@pytest.mark.parametrize("l2", [0.01, 1.0])
def test_probabilities_are_scikit_learns_on_standardised_features(num_classes, l2):
    features, labels = blobs(num_classes)
    head = fit_one(features, labels, l2, num_classes)
    standard = standardised(features)
    # scikit-learn's C weighs the sum of the losses against half the squared weights
    model = LogisticRegression(C=1 / (l2 * len(labels)), max_iter=LONG, tol=1e-8).fit(standard, labels)
    np.testing.assert_allclose(softmax(head(features)), model.predict_proba(standard), atol=1e-3)


@pytest.mark.parametrize("l2", [0.003, 0.1])
def test_the_gradient_vanishes_at_the_optimum(l2):
    """Mean cross-entropy plus l2 / 2 |W|^2 on standardised features is convex: its minimum is where the gradient is 0."""
    features, labels = blobs(3)
    weight, bias = unfolded(fit_one(features, labels, l2, 3), features)
    standard = standardised(features)
    residual = (softmax(standard @ weight.T + bias) - np.eye(3)[labels]) / len(labels)
    np.testing.assert_allclose(residual.T @ standard + l2 * weight, 0, atol=1e-3)
    np.testing.assert_allclose(residual.sum(axis=0), 0, atol=1e-3)
    start = (1 / 3 - np.eye(3)[labels]).T @ standard / len(labels)  # the gradient at W = 0, for scale
    assert np.abs(start).max() > 0.1


def test_two_classes_gradient_of_the_log_odds_vanishes():
    l2 = 0.05
    features, labels = blobs(2)
    head = fit_one(features, labels, l2, 2)
    assert head.weight.shape == (2, 5)
    np.testing.assert_array_equal(head.weight[0], -head.weight[1])
    weight, bias = unfolded(head, features)
    z, z0 = weight[1] - weight[0], bias[1] - bias[0]  # one row of log-odds, the one that is penalised
    standard = standardised(features)
    residual = 1 / (1 + np.exp(-(standard @ z + z0))) - labels
    np.testing.assert_allclose(residual @ standard / len(labels) + l2 * z, 0, atol=1e-3)


def test_folding_undoes_the_standardisation():
    """The head on raw features answers as the fitted model on standardised ones; checked in float64, by hand."""
    features, labels = blobs(3)
    head = fit_one(features, labels, 0.1, 3)
    weight, bias = unfolded(head, features)
    np.testing.assert_allclose(head(features), standardised(features) @ weight.T + bias, atol=2e-3)


def test_scale_and_offset_of_the_features_do_not_matter():
    features, labels = blobs(3)
    moved = (features * np.float32(4) + np.float32(16)).astype(np.float32)
    first, second = (fit_one(f, labels, 0.1, 3)(f) for f in (features, moved))
    np.testing.assert_allclose(softmax(first), softmax(second), atol=1e-3)


def test_l2_means_the_same_for_any_number_of_images():
    features, labels = blobs(3)
    once = fit_one(features, labels, 0.1, 3)
    thrice = fit_one(np.tile(features, (3, 1)), np.tile(labels, 3), 0.1, 3)
    np.testing.assert_allclose(softmax(once(features)), softmax(thrice(features)), atol=1e-3)


def test_strengths_go_from_strong_to_weak_and_weights_grow():
    features, labels = blobs(4)
    heads = list(fit_heads(features, labels, HeadConfig(l2=(0.01, 1.0, 0.1), max_iterations=LONG), num_classes=4))
    assert [head.l2 for head in heads] == [1.0, 0.1, 0.01]
    sizes = [np.square(unfolded(head, features)[0]).sum() for head in heads]
    assert sizes == sorted(sizes)


def test_a_warm_start_does_not_change_the_answer():
    features, labels = blobs(3)
    *_, warm = fit_heads(features, labels, HeadConfig(l2=(1.0, 0.1, 0.01), max_iterations=LONG), num_classes=3)
    cold = fit_one(features, labels, 0.01, 3)
    np.testing.assert_allclose(softmax(warm(features)), softmax(cold(features)), atol=2e-3)


@pytest.mark.parametrize("constant", [0.0, 3.7])
def test_a_feature_that_is_constant_in_training_stays_harmless(constant):
    """A dead feature says nothing about the classes; when it moves by a hundredth later, the answers hardly do."""
    features, labels = blobs(3)
    features = np.concatenate([features, np.full((len(features), 1), constant, dtype=np.float32)], axis=1)
    head = fit_one(features, labels, 0.1, 3)
    moved = features.copy()
    moved[:, -1] += 0.01
    np.testing.assert_allclose(softmax(head(moved)), softmax(head(features)), atol=1e-3)


def test_a_head_is_one_matrix_product():
    head = LinearHead(l2=1.0, weight=np.float32([[1, 2], [3, 4]]), bias=np.float32([10, 20]))
    assert head(np.float32([[1, 0], [0, 1]])).tolist() == [[11, 23], [12, 24]]
    assert fit_one(*blobs(3), 0.1, 3).weight.dtype == np.float32


def test_early_stopping_is_not_an_error(recwarn):
    fit_one(*blobs(4), 1e-4, 4, max_iterations=2)
    assert not recwarn.list


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_features_that_are_not_finite_are_refused(bad):
    features, labels = blobs(3)
    features[7, 2] = bad
    with pytest.raises(TrainingError, match="features are not finite"):
        list(fit_heads(features, labels, HeadConfig(), num_classes=3))


@pytest.mark.parametrize(
    "settings",
    [{"l2": ()}, {"l2": (0.1, 0.0)}, {"l2": (-1.0,)}, {"l2": (0.1, float("nan"))}, {"l2": (float("inf"),)}],
)
def test_impossible_strengths_are_refused(settings):
    with pytest.raises(ConfigError, match=r"head\.l2 is .* above 0"):
        HeadConfig(**settings)


def test_no_iteration_at_all_is_refused():
    with pytest.raises(ConfigError, match=r"head\.max_iterations is 0; it must be 1 or more"):
        HeadConfig(max_iterations=0)
