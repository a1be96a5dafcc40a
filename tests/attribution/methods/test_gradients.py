import numpy as np
from small_subjects import linear_network, noise

from recog.attribution.methods.gradients import gradients, smoothgrad


def test_of_a_linear_network_both_are_the_size_of_its_weights():
    weights = np.random.default_rng(0).normal(size=(2, 6, 5))
    images = noise(3, 6, 5, 1)
    labels = np.array([0, 1, 0])
    for method in (gradients, smoothgrad):
        np.testing.assert_allclose(
            method(linear_network(weights), images, labels).maps, np.abs(weights[labels]), rtol=1e-4
        )
