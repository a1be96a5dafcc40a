"""Preprocess against timm's own evaluation transform, bit for bit, and its refusals."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from recog.core.preprocess import CROP_MODES, INTERPOLATIONS, Preprocess

# wide, tall, square, odd, smaller than every crop below in one or both sides, one pixel, a line
IMAGE_SIZES = ((61, 97), (97, 61), (64, 64), (33, 90), (20, 24), (1, 1), (1, 70), (70, 2))  # (height, width)


def random_image(height: int, width: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng((height, width)).integers(0, 256, (height, width, channels), dtype=np.uint8)


def timm_transform(size: tuple[int, int], **settings):
    data = pytest.importorskip("timm.data")
    half = (0.5, 0.5, 0.5)
    return data.create_transform((3, *size), is_training=False, mean=half, std=half, normalize=False, **settings)


@pytest.mark.parametrize("crop_mode", CROP_MODES)
@pytest.mark.parametrize("image_size", [(32, 32), (33, 33), (28, 41), (48, 20)])
@pytest.mark.parametrize("crop_pct", [1.0, 0.95, 0.875, 0.9])
def test_equals_timms_evaluation_transform(crop_mode, image_size, crop_pct):
    for interpolation in ("bilinear", "bicubic"):
        settings = {"crop_mode": crop_mode, "crop_pct": crop_pct, "interpolation": interpolation}
        theirs = timm_transform(image_size, **settings)
        ours = Preprocess(image_size=image_size, **settings)
        for height, width in IMAGE_SIZES:
            if crop_mode == "border" and min(height, width) * max(image_size) < max(height, width):
                continue  # a side of the scaled image would round to 0 px: timm raises, we keep 1 px (tested below)
            image = random_image(height, width)
            expected = theirs(Image.fromarray(image)).permute(1, 2, 0).numpy()
            got = ours(image)
            assert got.dtype == np.uint8
            assert np.array_equal(got, expected), (interpolation, height, width)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_every_interpolation_equals_timms(interpolation):
    ours = Preprocess(image_size=(32, 32), crop_pct=0.9, interpolation=interpolation)
    image = random_image(61, 97)
    expected = timm_transform((32, 32), crop_pct=0.9, interpolation=interpolation)(Image.fromarray(image))
    assert np.array_equal(ours(image), expected.permute(1, 2, 0).numpy())
