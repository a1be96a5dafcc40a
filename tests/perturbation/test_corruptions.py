"""The table of corruptions: any size, counted chance, constants by size."""

from __future__ import annotations

import numpy as np
import pytest
from small_perturbations import picture

from recog.core.errors import ConfigError
from recog.perturbation.corruptions import CORRUPTIONS, SEVERITIES, choose_corruptions, corrupt

RANDOM = {
    *("gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise", "glass_blur", "motion_blur", "snow", "frost"),
    *("fog", "elastic_transform", "spatter", "rotation", "crop_shift"),
}


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_every_corruption_takes_any_size_and_is_counted(name):
    for shape in ((32, 32, 3), (5, 9, 1), (70, 81, 3), (1, 1, 3)):
        image = picture(*shape)
        for severity in SEVERITIES:
            changed = corrupt(image, name, severity, seed=3, index=11)
            assert (changed.dtype, changed.shape) == (np.uint8, shape)
    again = corrupt(image := picture(32, 32), name, 4, seed=3, index=11)
    np.testing.assert_array_equal(again, corrupt(image, name, 4, seed=3, index=11))
    others = [corrupt(image, name, 4, seed=3, index=12), corrupt(image, name, 4, seed=4, index=11)]
    assert any(not np.array_equal(again, other) for other in others) == (name in RANDOM)
    assert not np.array_equal(again, image)


@pytest.mark.parametrize("name", ["gaussian_noise", "gaussian_blur", "contrast", "pixelate", "jpeg_quality", "grey"])
def test_higher_severities_change_more(name):
    image = picture(96, 96)
    gaps = [np.abs(corrupt(image, name, s, seed=0, index=0).astype(int) - image).mean() for s in SEVERITIES]
    assert gaps == sorted(gaps)


def test_constants_depend_on_the_shorter_side():
    noise = CORRUPTIONS["gaussian_noise"]
    assert (noise.constant(1, 64, 300), noise.constant(1, 65, 300)) == (0.04, 0.08)


def test_choosing():
    assert len(choose_corruptions(["common"], channels=3)) == 15
    assert len(choose_corruptions(["extra"], channels=3)) == 4
    assert choose_corruptions(["fog", "camera"], channels=1) == (
        "fog",
        "rotation",
        "jpeg_quality",
        "resize_chain",
        "crop_shift",
    )
    assert len(choose_corruptions(["all"], channels=3)) == len(CORRUPTIONS)
    with pytest.raises(ConfigError, match="no corruption 'fogg'.*Did you mean 'fog'"):
        choose_corruptions(["fogg"], channels=3)
