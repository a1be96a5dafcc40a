import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from small_subjects import corner_subject, noise

from recog.attribution.faithfulness import (
    Gain,
    edge_map,
    measure_curves,
    measure_faithfulness,
    random_map,
    roughness,
)


def quarter(size=32):
    values = np.zeros((size, size), np.float32)
    values[: size // 2, : size // 2] = 1
    return gaussian_filter(values, 2)


def test_roughness_of_a_checkerboard_and_of_noise():
    """Every step of a checkerboard of 0 and 1 is 1, in both directions, and its variance 1/4: 2 / (1/4) = 8. Of white noise a
    step has twice the variance, in two directions: 4."""
    assert roughness(np.indices((10, 10)).sum(axis=0) % 2) == pytest.approx(8)
    assert roughness(np.random.default_rng(0).normal(size=(200, 200))) == pytest.approx(4, rel=0.05)
    assert roughness(np.ones((4, 4))) == 0


def test_controls_are_as_smooth_as_the_map():
    like = gaussian_filter(np.random.default_rng(1).normal(size=(64, 64)), 3)
    image = noise(64, 64, 3)
    for control in (random_map(like, index=0), edge_map(image, like)):
        assert roughness(control) == pytest.approx(roughness(like), rel=0.1)
    assert not np.array_equal(random_map(like, index=0), random_map(like, index=1))


def test_curves_by_hand():
    """The logit is ten times the mean of the top left quarter less 5. All pixels have level 255, hidden ones 0, and a quarter of
    the pixels is the whole of what counts: p falls from sigmoid(5) to sigmoid(-5) within 2.5 of 10 steps."""
    subject = corner_subject(20)
    values = np.zeros((20, 20))
    values[:10, :10] = 1
    image = np.full((20, 20, 1), 255, np.uint8)
    steps = [1 / (1 + np.exp(-(10 * max(0.0, 1 - step / 2.5) - 5))) for step in range(11)]
    deletion = sum((a + b) / 2 for a, b in zip(steps, steps[1:], strict=False)) / 10
    assert measure_curves(subject, image, 0, values).deletion == pytest.approx(deletion, abs=1e-3)


def test_the_true_region_beats_both_controls():
    images = np.random.default_rng(0).integers(120, 256, (10, 32, 32, 1)).astype(np.uint8)
    maps = np.stack([quarter()] * 10)
    found = measure_faithfulness(corner_subject(), images, np.zeros(10, np.int64), maps)
    assert found.is_better
    assert found.margin == min(found.over_random.mean, found.over_edges.mean) > 0
    wrong = measure_faithfulness(corner_subject(), images, np.zeros(10, np.int64), maps[:, ::-1, ::-1])
    assert not wrong.is_better


def test_a_gain_has_its_t_interval():
    """Of -1, 0, 1, 2: mean 0.5, standard deviation sqrt(5/3), t of 3 degrees of freedom 3.1824."""
    gain = Gain.of(np.array([-1.0, 0.0, 1.0, 2.0]))
    half = 3.1824463 * np.sqrt(5 / 3) / 2
    assert (gain.mean, gain.low, gain.high) == pytest.approx((0.5, 0.5 - half, 0.5 + half))
    assert (Gain.of(np.array([0.1])).low, Gain.of(np.array([0.1])).high) == (-2, 2)
