"""Each operation on grey levels against Pillow or a calculation by hand."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps

from recog.data.augment import colour

PHOTO = np.random.default_rng(0).integers(30, 200, (24, 20, 3), dtype=np.uint8)
PAIR = torch.from_numpy(np.stack([PHOTO, PHOTO[::-1].copy()]))


def off(ours, pillow):
    return np.abs(ours.numpy().astype(int) - np.asarray(pillow)).max()


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (colour.scale_brightness, ImageEnhance.Brightness),
        (colour.scale_contrast, ImageEnhance.Contrast),
        (colour.scale_saturation, ImageEnhance.Color),
        (colour.scale_sharpness, ImageEnhance.Sharpness),
    ],
)
@pytest.mark.parametrize("factor", [0.0, 0.4, 1.0, 1.7])
def test_enhancements_are_pillows(ours, theirs, factor):
    changed = ours(PAIR, np.array([factor, 1.0]))
    # Pillow rounds the grey it blends with, and cuts where we round
    assert off(changed[0], theirs(Image.fromarray(PHOTO)).enhance(factor)) <= 2
    assert torch.equal(changed[1], PAIR[1])


@pytest.mark.parametrize("bits", [1, 4, 8])
def test_posterize_is_pillows(bits):
    assert off(colour.posterize(PAIR, np.array([bits, 8.0]))[0], ImageOps.posterize(Image.fromarray(PHOTO), bits)) == 0


@pytest.mark.parametrize("threshold", [0, 100, 256])
def test_solarize_is_pillows(threshold):
    changed = colour.solarize(PAIR, np.array([threshold, 256.0]))
    assert off(changed[0], ImageOps.solarize(Image.fromarray(PHOTO), threshold)) == 0
    assert torch.equal(changed[1], PAIR[1])


def test_equalize_and_autocontrast_are_pillows():
    assert off(colour.equalize(PAIR)[0], ImageOps.equalize(Image.fromarray(PHOTO))) == 0
    assert off(colour.autocontrast(PAIR)[0], ImageOps.autocontrast(Image.fromarray(PHOTO))) <= 1


def test_a_flat_image_stays():
    flat = torch.full((1, 4, 4, 1), 77, dtype=torch.uint8)
    for op in (colour.equalize, colour.autocontrast):
        assert torch.equal(op(flat), flat)
    assert torch.equal(colour.scale_contrast(flat, np.array([1.9])), flat)
    assert torch.equal(colour.gaussian_blur(flat, np.array([2.0]), 2.0), flat)
    assert torch.equal(colour.scale_sharpness(flat[:, :2], np.array([0.0])), flat[:, :2])


def test_blur_spreads_a_point_as_the_normal_density():
    point = torch.zeros((1, 21, 21, 1), dtype=torch.uint8)
    point[0, 10, 10] = 255
    blurred = colour.gaussian_blur(point, np.array([1.0]), 1.5)[0, :, :, 0].numpy()
    weights = np.exp(-0.5 * np.arange(-5, 6) ** 2)
    weights /= weights.sum()
    expected = np.rint(255 * np.outer(weights, weights))
    np.testing.assert_array_equal(blurred[5:16, 5:16], expected)


def test_noise_has_the_deviation_asked_for_and_is_the_seeds():
    grey = torch.full((2, 100, 100, 1), 128, dtype=torch.uint8)
    noisy = colour.add_noise(grey, np.array([10.0, 0.0]), np.array([5, 6], dtype=np.uint32))
    assert noisy[0].float().std().item() == pytest.approx(10, abs=0.3)  # 4 standard errors: 10 / sqrt(2 * 10,000)
    assert noisy[0].float().mean().item() == pytest.approx(128, abs=0.4)
    assert torch.equal(noisy[1], grey[1])
    again = colour.add_noise(grey[:1], np.array([10.0]), np.array([5], dtype=np.uint32))
    assert torch.equal(again[0], noisy[0])


def test_erasing_fills_one_box():
    images = torch.zeros((2, 30, 40, 3), dtype=torch.uint8)
    coins = np.array([[0.1, 0.5, 0.5, 0.5, 0.5, 0.5, 0.25, 0.999], [0.9, *[0.5] * 7]])
    erased = colour.erase(images, coins, probability=0.5)
    # area 1200 * (0.02 + 0.3133 / 2) = 212, aspect 1: side 14.56, so 15; top int(0.5 * 16), left int(0.5 * 26)
    expected = np.zeros((30, 40, 3), dtype=np.uint8)
    expected[8:23, 13:28] = (128, 64, 255)
    np.testing.assert_array_equal(erased[0].numpy(), expected)
    assert torch.equal(erased[1], images[1])


def test_grey_images_keep_their_channel():
    grey = PAIR[:, :, :, :1].clone()
    assert torch.equal(colour.scale_saturation(grey, np.array([0.0, 2.0])), grey)
    assert colour.scale_sharpness(grey, np.array([0.0, 2.0])).shape == grey.shape
