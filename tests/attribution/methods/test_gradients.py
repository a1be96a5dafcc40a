import numpy as np
import pytest
from small_subjects import linear_network, noise, timm_network

from recog.attribution.methods.gradients import gradients, integrated_gradients, smoothgrad


def test_of_a_linear_network_both_are_the_size_of_its_weights():
    weights = np.random.default_rng(0).normal(size=(2, 6, 5))
    images = noise(3, 6, 5, 1)
    labels = np.array([0, 1, 0])
    for method in (gradients, smoothgrad):
        np.testing.assert_allclose(
            method(linear_network(weights), images, labels).maps, np.abs(weights[labels]), rtol=1e-4
        )


def test_integrated_of_a_linear_network_is_weight_times_level_and_complete():
    pytest.importorskip("captum")
    weights = np.random.default_rng(0).normal(size=(2, 6, 5))
    images, labels = noise(3, 6, 5, 1), np.array([0, 1, 0])
    found = integrated_gradients(linear_network(weights), images, labels)
    np.testing.assert_allclose(found.maps, weights[labels] * images[..., 0] / 255, rtol=1e-4)
    assert found.gaps.max() < 1e-4


def test_the_gap_is_that_of_the_sum_to_the_change_of_the_logit():
    pytest.importorskip("captum")
    subject = timm_network("test_resnet")
    images = noise(2, 64, 64, 3)
    grey = np.broadcast_to(np.array(subject.fill, np.uint8), images.shape)
    labels = np.array([0, 2])
    found = integrated_gradients(subject, images, labels)
    change = (subject.logits(images) - subject.logits(grey))[[0, 1], labels]  # grey is the mean up to rounding
    gaps = np.abs(found.maps.sum(axis=(1, 2)) - change) / np.abs(change)
    np.testing.assert_allclose(found.gaps, gaps, atol=0.02)


def test_images_whose_sum_is_off_take_more_steps(monkeypatch):
    """From one step, the images of which the gap is too large get the map that the larger number of steps gives at once."""
    pytest.importorskip("captum")
    subject, images, labels = timm_network("test_resnet"), noise(3, 64, 64, 3), np.array([0, 2, 1])
    module = "recog.attribution.methods.gradients"
    found = {}
    for name, steps, max_gap in (("once", 1, np.inf), ("fine", 24, np.inf), ("both", 1, None)):
        monkeypatch.setattr(f"{module}.NUM_STEPS", steps)
        monkeypatch.setattr(f"{module}.MORE_STEPS", 24)
        monkeypatch.setattr(f"{module}.MAX_GAP", float(np.median(found["once"].gaps)) if max_gap is None else max_gap)
        found[name] = integrated_gradients(subject, images, labels)
    rough = found["once"].gaps > np.median(found["once"].gaps)
    assert rough.sum() == 1  # of three
    np.testing.assert_allclose(found["both"].maps[rough], found["fine"].maps[rough], rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(found["both"].maps[~rough], found["once"].maps[~rough])
