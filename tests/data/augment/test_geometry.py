"""Crops, mirrors and warps against other ways to the same pixels: Pillow, torch, NumPy, and torchvision's law of boxes."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torchvision.transforms import RandomResizedCrop

from recog.core.chance import uniforms
from recog.data.augment.geometry import (
    CROP_COINS,
    affine_matrices,
    as_tensor,
    crop_batch,
    crop_one,
    crop_small,
    is_small,
    mirror,
    random_boxes,
    translate,
    warp,
)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def sizes_of(height, width, count):
    return np.broadcast_to(np.array([height, width]), (count, 2))


def test_boxes_lie_in_the_image_and_keep_to_the_law():
    coins = uniforms(1, 0, np.arange(4000), "crop", CROP_COINS)
    top, left, height, width = random_boxes(sizes_of(300, 400, 4000), coins, min_area=0.35, max_aspect=4 / 3).T
    assert top.min() >= 0
    assert left.min() >= 0
    assert (top + height).max() <= 300
    assert (left + width).max() <= 400
    assert 0.345 < (height * width).min() / 120_000 < 0.36  # sides are rounded to whole pixels
    assert 0.74 < (width / height).min() < 0.76
    assert 1.32 < (width / height).max() < 1.35
    assert top.min() == 0
    assert (top + height).max() == 300


@pytest.mark.parametrize(("height", "width"), [(375, 500), (32, 32)])
def test_area_and_aspect_are_distributed_as_torchvisions(height, width):
    count = 4000
    coins = uniforms(2, 0, np.arange(count), "crop", CROP_COINS)
    ours = random_boxes(sizes_of(height, width, count), coins, min_area=0.35, max_aspect=4 / 3)[:, 2:]
    torch.manual_seed(0)
    blank = torch.empty(3, height, width)
    theirs = np.array([RandomResizedCrop.get_params(blank, [0.35, 1.0], [3 / 4, 4 / 3])[2:] for _ in range(count)])
    at = (0.05, 0.25, 0.5, 0.75, 0.95)
    for law in (lambda b: b.prod(axis=1) / (height * width), lambda b: np.log(b[:, 1] / b[:, 0])):
        # the standard error of the steepest of these quantiles is below 0.006 at n = 4,000
        np.testing.assert_allclose(np.quantile(law(ours), at), np.quantile(law(theirs), at), atol=0.03)


def test_a_strip_gets_the_largest_centred_box():
    coins = np.full((1, CROP_COINS), 0.999)
    box = random_boxes(np.array([[10, 1000]]), coins, min_area=0.9, max_aspect=2.0)
    assert box.tolist() == [
        [0, 490, 10, 20]
    ]  # no box of 90 % of the area is at most 2 : 1; 20 x 10 is the largest that is


def test_a_box_of_the_wanted_size_is_the_pixels_themselves():
    image = noise(50, 60, 3)
    crop = crop_one(image, np.array([7, 9, 20, 30]), False, (20, 30))
    np.testing.assert_array_equal(crop.numpy(), image[7:27, 9:39])
    mirrored = crop_one(image, np.array([7, 9, 20, 30]), True, (20, 30))
    np.testing.assert_array_equal(mirrored.numpy(), image[7:27, 9:39][:, ::-1])


@pytest.mark.parametrize("channels", [1, 3])
def test_a_crop_is_what_pillow_resizes_within_a_level(channels):
    image = noise(200, 250, channels)
    box = np.array([11, 23, 150, 170])
    crop = crop_one(image, box, False, (64, 80)).numpy()
    part = image[11:161, 23:193]
    pillow = Image.fromarray(part[:, :, 0] if channels == 1 else part).resize((80, 64), Image.Resampling.BILINEAR)
    difference = np.abs(crop.astype(int) - np.asarray(pillow).reshape(64, 80, channels))
    assert difference.max() <= 1


@pytest.mark.parametrize("out", [(32, 32), (20, 28), (40, 36)])
def test_small_crops_are_those_of_the_other_way_within_two_levels(out):
    images = noise(64, 32, 32, 3)
    coins = uniforms(0, 0, np.arange(64), "crop", CROP_COINS)
    boxes = random_boxes(sizes_of(32, 32, 64), coins, min_area=0.2, max_aspect=4 / 3)
    mirrored = np.arange(64) % 2 == 0
    small = crop_small(images, boxes, mirrored, out).numpy().astype(int)
    # weights are rounded to 256ths in both; so two roundings of up to half a 256th of 255 each, and the final one
    other = crop_batch(list(images), boxes, mirrored, out).numpy()
    assert np.abs(small - other).max() <= 2
    assert np.abs(small - other).mean() < 0.3


def test_small_crops_by_hand():
    image = np.array([[[0], [100]], [[200], [60]]], dtype=np.uint8)[None]
    whole = np.array([[0, 0, 2, 2]])
    same = crop_small(image, whole, np.array([False]), (2, 2))
    np.testing.assert_array_equal(same.numpy(), image)
    mirrored = crop_small(image, whole, np.array([True]), (2, 2))
    np.testing.assert_array_equal(mirrored.numpy()[0, :, :, 0], [[100, 0], [60, 200]])
    one = crop_small(image, whole, np.array([False]), (1, 1))
    assert one.item() == 90  # the mean of all four
    column = crop_small(image, np.array([[0, 1, 2, 1]]), np.array([False]), (4, 1))
    # the column 100, 60 at -1/4, 1/4, 3/4, 5/4 of its steps: edges repeat
    assert column.numpy().ravel().tolist() == [100, 90, 70, 60]


@pytest.mark.parametrize("threads", [1, 2])
def test_crops_do_not_depend_on_the_batch_or_the_threads(threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        images = noise(40, 32, 32, 3)
        coins = uniforms(0, 3, np.arange(40), "crop", CROP_COINS)
        boxes = random_boxes(sizes_of(32, 32, 40), coins, min_area=0.35, max_aspect=4 / 3)
        mirrored = coins[:, 0] < 0.5
        together = crop_small(images, boxes, mirrored, (32, 32))
        single = [crop_small(images[b : b + 1], boxes[b : b + 1], mirrored[b : b + 1], (32, 32)) for b in range(40)]
        assert torch.equal(together, torch.cat(single))
        photos = list(noise(10, 90, 70, 3))
        boxes = random_boxes(sizes_of(90, 70, 10), coins[:10], min_area=0.35, max_aspect=4 / 3)
        together = crop_batch(photos, boxes, mirrored[:10], (64, 64))
        single = [crop_one(photos[b], boxes[b], bool(mirrored[b]), (64, 64)) for b in range(10)]
        assert torch.equal(together, torch.stack(single))
    finally:
        torch.set_num_threads(before)


def test_which_way_is_taken():
    assert is_small((32, 32, 3), (32, 32))
    assert not is_small((258, 258, 3), (224, 224))
    assert not is_small(None, (32, 32))


def test_translation_moves_whole_pixels_and_reflects_the_edges():
    image = torch.tensor([[1, 2, 3], [4, 5, 6], [7, 8, 9]], dtype=torch.uint8).view(1, 3, 3, 1)
    moved = translate(image.expand(3, -1, -1, -1), np.array([[0, 0], [1, 0], [-1, 2]]), 2)[..., 0]
    assert moved[0].tolist() == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    assert moved[1].tolist() == [[4, 5, 6], [1, 2, 3], [4, 5, 6]]  # down by 1: row 1 comes in again from above
    assert moved[2].tolist() == [[6, 5, 4], [9, 8, 7], [6, 5, 4]]  # up by 1, right by 2


def test_translation_is_torchs_reflection_padding_and_a_crop():
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (20, 9, 7, 3), dtype=np.uint8))
    shifts = np.random.default_rng(1).integers(-3, 4, (20, 2))
    padded = F.pad(images.permute(0, 3, 1, 2).float(), (3, 3, 3, 3), mode="reflect").permute(0, 2, 3, 1).to(torch.uint8)
    for image, whole, (down, right) in zip(translate(images, shifts, 3), padded, shifts, strict=True):
        assert torch.equal(image, whole[3 - down : 12 - down, 3 - right : 10 - right])


def test_mirror_turns_the_named_rows_only():
    images = torch.from_numpy(noise(3, 4, 5, 3))
    turned = mirror(images, np.array([True, False, True]))
    np.testing.assert_array_equal(turned[0].numpy(), images[0].numpy()[:, ::-1])
    np.testing.assert_array_equal(turned[1].numpy(), images[1].numpy())


def matrices(count=1, *, degrees=0.0, zoom=1.0, shift=(0.0, 0.0), shear=None):
    return affine_matrices(
        degrees=np.full(count, degrees),
        zoom=np.full(count, zoom),
        shift=np.tile(shift, (count, 1)),
        shear=None if shear is None else np.tile(shear, (count, 1)),
    )


def test_quarter_turns_and_whole_shifts_are_exact():
    images = torch.from_numpy(noise(1, 16, 16, 3))
    assert torch.equal(warp(images, matrices()), images)
    for degrees, times in ((90, 1), (180, 2), (-90, -1)):
        np.testing.assert_array_equal(
            warp(images, matrices(degrees=degrees))[0].numpy(), np.rot90(images[0].numpy(), times)
        )
    moved = warp(images, matrices(shift=(4 / 16, 0.0)))
    np.testing.assert_array_equal(moved[0, :, :12].numpy(), images[0, :, 4:].numpy())
    np.testing.assert_array_equal(moved[0, :, 12:].numpy(), np.repeat(images[0, :, -1:].numpy(), 4, axis=1))


def test_shear_by_hand():
    # x_in = x + y in half sides: the row whose centre is at y = 1/2 of 4 rows (y = 1/4 of 8 px) moves by a quarter of a side
    images = torch.from_numpy(noise(1, 8, 8, 1))
    sheared = warp(images, matrices(shear=(2 / 7, 0.0)))  # the last row, at y = 7/8, moves by 1/4 = one pixel
    np.testing.assert_array_equal(sheared[0, 7, :7, 0].numpy(), images[0, 7, 1:, 0].numpy())
    assert math.isclose(7 / 8 * 2 / 7, 1 / 4)


def test_warps_do_not_depend_on_the_batch():
    images = torch.from_numpy(noise(9, 33, 31, 3))
    coins = uniforms(0, 0, np.arange(9), "affine", 4)
    law = affine_matrices(degrees=40 * coins[:, 0], zoom=0.5 + coins[:, 1], shift=coins[:, 2:] - 0.5)
    single = [warp(images[b : b + 1], law[b : b + 1]) for b in range(9)]
    assert torch.equal(warp(images, law), torch.cat(single))


def test_as_tensor_takes_arrays_that_may_not_be_written_to():
    pixels = noise(2, 2, 3)
    assert as_tensor(pixels).data_ptr() == pixels.ctypes.data
    pixels.flags.writeable = False
    assert as_tensor(pixels).data_ptr() != pixels.ctypes.data
