import numpy as np
import pytest
from small_subjects import corner_subject, noise, pooled_network

from recog.attribution.subject import check_pairs, nearest_rows, subject_of, why_no_layers
from recog.core.errors import ConfigError
from recog.runtime.predictor import load


def test_a_bundle_as_a_subject_answers_as_its_predictor(digits_run):
    predictor = load(digits_run.bundle)
    subject = subject_of(predictor, digits_run.bundle)
    images = noise(40, *subject.image_size, predictor.preprocess.channels)
    np.testing.assert_allclose(subject.logits(images), predictor.engine(images).logits, atol=1e-5)
    torch_logits = pooled_network([1.0, 2.0]).logits(noise(1, 8, 8, 1))
    assert torch_logits.shape == (1, 2)
    assert why_no_layers(subject) == ""
    assert all(0 <= level <= 255 for level in subject.fill)


def test_probabilities_are_those_of_the_task():
    subject = corner_subject()
    images = noise(3, 32, 32, 1)
    np.testing.assert_allclose(subject.probs_of(images, 1), 1 / (1 + np.exp(-subject.logits(images)[:, 1])), rtol=1e-5)


def test_one_label_for_each_image():
    with pytest.raises(ConfigError, match="2 images were given with labels of shape"):
        check_pairs(noise(2, 8, 8, 1), np.array([0]))


def test_without_layers_the_reason_is_given():
    assert "custom module" in why_no_layers(corner_subject())


def test_by_cosine_around_the_mean_of_the_bank():
    """The bank's mean is (1, 1); seen from there the query points right, as row 0 does; row 1 points up, row 2 left."""
    bank = np.array([[2, 1], [1, 2], [0, 1], [1, 0]], np.float32)
    rows, cosines = nearest_rows(bank, np.array([[5, 1]], np.float32), 3)
    assert rows.tolist() == [[0, 1, 3]]
    np.testing.assert_allclose(cosines, [[1, 0, 0]], atol=1e-12)
