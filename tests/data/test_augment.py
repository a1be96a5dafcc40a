import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from recog.core.chance import uniforms
from recog.core.errors import ConfigError
from recog.data import augment
from recog.data.augment import AugmentConfig, augment_batch, random_affine, random_crop, random_mirror
from recog.data.store import ImageStore

RNG = np.random.default_rng(0)
STILL = {"max_rotation_degrees": 0.0, "max_zoom": 0.0, "max_shift": 0.0}
MIDDLE = 0.5  # the coin that turns, zooms and shifts by nothing


def noise(*shape):
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def affine(images, coins, **config):
    coins = np.broadcast_to(np.array(coins, dtype=np.float64), (len(images), 4))
    moved = random_affine(torch.from_numpy(images), coins, AugmentConfig(**{**STILL, **config}))
    assert moved.dtype == torch.uint8
    assert moved.shape == images.shape
    return moved.numpy()


class TestMirror:
    def test_by_coin_left_to_right(self):
        images = torch.from_numpy(noise(4, 3, 5, 3))
        mirrored = random_mirror(images, np.array([0.0, 0.49, 0.5, 0.99]))
        assert (mirrored[:2].numpy() == images[:2].numpy()[:, :, ::-1]).all()
        assert (mirrored[2:] == images[2:]).all()

    def test_half_of_all(self):
        """10,000 coins: 5,000 expected, standard deviation 50, five of them allowed."""
        image = np.array([[[0], [255]]], np.uint8)
        store = ImageStore([image] * 10_000)
        config = AugmentConfig(policy="none", mirror=True)
        images = augment_batch(store, np.arange(10_000), config, image_size=(1, 2), seed=0, epoch=0)
        assert abs(int((images[:, 0, 0, 0] == 255).sum()) - 5000) < 250


class TestAffine:
    @pytest.mark.parametrize("shape", [(8, 8, 1), (32, 32, 3), (5, 9, 3), (1, 1, 1)])
    def test_no_movement_is_the_image_itself(self, shape):
        images = noise(16, *shape)
        assert (affine(images, RNG.random((16, 4))) == images).all()

    def test_middle_coins_move_nothing(self):
        images = noise(3, 12, 12, 3)
        assert (affine(images, [MIDDLE] * 4, max_rotation_degrees=30, max_zoom=0.5, max_shift=0.3) == images).all()

    @pytest.mark.parametrize(("coin", "step"), [(1.0, 2), (0.0, -2), (0.75, 1)])
    def test_shift_by_whole_pixels_repeats_the_edge(self, coin, step):
        """max_shift 1/4 of 8 px is 2 px at the outermost coins: every output pixel is the one `step` away, or the edge."""
        images = noise(2, 8, 8, 3)
        columns = np.clip(np.arange(8) + step, 0, 7)
        assert (affine(images, [MIDDLE, MIDDLE, coin, MIDDLE], max_shift=0.25) == images[:, :, columns]).all()
        assert (affine(images, [MIDDLE, MIDDLE, MIDDLE, coin], max_shift=0.25) == images[:, columns]).all()

    @pytest.mark.parametrize(("coin", "quarters"), [(1.0, 1), (0.0, -1)])
    def test_a_quarter_turn(self, coin, quarters):
        images = noise(2, 9, 9, 3)
        turned = affine(images, [coin, MIDDLE, MIDDLE, MIDDLE], max_rotation_degrees=90)
        assert (turned == np.rot90(images, quarters, axes=(1, 2))).all()

    @pytest.mark.parametrize(("height", "width"), [(4, 8), (8, 4)])
    def test_a_turn_keeps_shapes_where_the_image_is_not_square(self, height, width):
        """The middle square turns as it would alone: nothing is stretched."""
        images = noise(2, height, width, 3)
        turned = affine(images, [1.0, MIDDLE, MIDDLE, MIDDLE], max_rotation_degrees=90)
        top, left = (height - 4) // 2, (width - 4) // 2
        middle = (slice(None), slice(top, top + 4), slice(left, left + 4))
        assert (turned[middle] == np.rot90(images[middle], 1, axes=(1, 2))).all()

    def test_zooming_out_samples_between_the_pixels(self):
        """Scale 3/2 about the middle of 8 px: output pixel i shows position 3.5 + 1.5 (i - 3.5) of a ramp of 30 a pixel."""
        ramp = np.tile(np.arange(0, 240, 30, dtype=np.uint8)[None, :, None], (8, 1, 1))
        zoomed = affine(ramp[None], [MIDDLE, 1.0, MIDDLE, MIDDLE], max_zoom=0.5)
        by_hand = [0, 0, 37.5, 82.5, 127.5, 172.5, 210, 210]  # positions below 0 and above 7 repeat the edge
        assert np.abs(zoomed[0, :, :, 0] - by_hand).max() <= 0.5

    def test_the_batch_does_not_matter(self):
        images, coins = noise(6, 10, 10, 3), RNG.random((6, 4))
        settings = {"max_rotation_degrees": 20, "max_zoom": 0.2, "max_shift": 0.2}
        together = affine(images, coins, **settings)
        alone = [affine(images[b : b + 1], coins[b : b + 1], **settings) for b in range(6)]
        assert (together == np.concatenate(alone)).all()
        assert (together != images).any()


class TestCrop:
    def test_the_whole_of_a_square_is_a_plain_resize(self):
        image = noise(40, 40, 3)
        config = AugmentConfig(min_area=1.0, max_aspect=1.0)
        for coins in RNG.random((5, 4)):
            crop = random_crop(image, coins, config, image_size=(16, 24))
            planes = torch.from_numpy(image).permute(2, 0, 1)[None]
            plain = F.interpolate(planes, size=(16, 24), mode="bilinear", antialias=True, align_corners=False)
            assert (crop == plain[0].permute(1, 2, 0)).all()

    @pytest.mark.parametrize("channels", [1, 3])
    def test_the_resize_is_pillows_bilinear_to_a_level(self, channels):
        image = noise(40, 40, channels)
        crop = random_crop(image, RNG.random(4), AugmentConfig(min_area=1.0, max_aspect=1.0), image_size=(16, 24))
        planes = [Image.fromarray(image[:, :, c]).resize((24, 16), Image.Resampling.BILINEAR) for c in range(channels)]
        expected = np.stack([np.asarray(plane) for plane in planes], axis=2)
        assert np.abs(crop.numpy().astype(int) - expected).max() <= 1

    @pytest.mark.parametrize(
        ("coins", "box"),
        [
            ((0, 0.5, 0, 0), (0, 0, 8, 8)),  # a quarter of 16 x 16 px, square, top left
            ((0, 0.5, 0.999, 0), (8, 0, 8, 8)),
            ((0, 0.5, 0, 0.999), (0, 8, 8, 8)),
            ((0, 0.5, 0.5, 0.5), (4, 4, 8, 8)),  # the fifth of nine places
            ((0, 1.0, 0, 0), (0, 0, 4, 16)),  # 64 px at 4 : 1
            ((0, 0.0, 0, 0), (0, 0, 16, 4)),
            ((1.0, 0.5, 0.7, 0.7), (0, 0, 16, 16)),  # everything
            ((1.0, 1.0, 0.7, 0), (6, 0, 8, 16)),  # 256 px at 4 : 1 is 8 x 32, clipped to 16 wide; int(0.7 x 9) = 6
        ],
    )
    def test_the_box_by_hand(self, coins, box):
        """A box shown at its own size is its very pixels."""
        image = noise(16, 16, 3)
        top, left, height, width = box
        config = AugmentConfig(min_area=0.25, max_aspect=4.0)
        crop = random_crop(image, np.array(coins, dtype=np.float64), config, image_size=(height, width))
        assert (crop.numpy() == image[top : top + height, left : left + width]).all()

    def test_a_box_that_does_not_fit_is_clipped(self):
        """All of 60 x 40 px as a square would be 49 x 49: clipped to 49 x 40."""
        image = noise(60, 40, 3)
        config = AugmentConfig(min_area=1.0, max_aspect=1.0)
        crop = random_crop(image, np.array([0.5, 0.5, 0.0, 0.0]), config, image_size=(49, 40))
        assert (crop.numpy() == image[:49]).all()

    @pytest.mark.parametrize("shape", [(1, 1, 3), (1, 50, 3), (50, 1, 1), (2, 3, 3)])
    def test_tiny_and_thin_images_have_a_crop(self, shape):
        image = np.full(shape, 77, np.uint8)
        config = AugmentConfig(min_area=0.01, max_aspect=50.0)
        for coins in RNG.random((50, 4)):
            crop = random_crop(image, coins, config, image_size=(8, 8))
            assert crop.shape == (8, 8, shape[2])
            assert (crop == 77).all()

    def test_mean_area_and_place_are_those_of_the_law(self, monkeypatch):
        """10,000 boxes of a 1000 x 1000 image against the expectation, worked out by hand.

        With area A uniform in [m, 1] and log aspect u uniform in [-L, L], t = exp(-|u|) >= m, a box fits where A <= t and is
        clipped to area sqrt(A t) beyond. The integral over A is (2/3) t^(1/2) - t^2 / 6 - m^2 / 2; over u in [0, L] then
        (4/3)(1 - e^(-L/2)) - (1 - e^(-2L)) / 12 - m^2 L / 2, divided by L (1 - m). An area's deviation is below that of the
        uniform law, 0.65 / sqrt(12) = 0.188, so that the mean's is below 0.0019; five of them are allowed.
        """
        boxes = []
        monkeypatch.setattr(augment.F, "interpolate", lambda box, **_: boxes.append(box) or box[:, :, :1, :1])
        places = np.stack(np.meshgrid(np.arange(1000), np.arange(1000)), axis=2).astype(np.uint16)
        for coins in uniforms(0, 0, np.arange(10_000), "crop", 4):
            random_crop(places, coins, AugmentConfig(), image_size=(8, 8))
        m, log_aspect = 0.35, math.log(4 / 3)
        expected = (
            (4 / 3) * (1 - math.exp(-log_aspect / 2)) - (1 - math.exp(-2 * log_aspect)) / 12 - m**2 * log_aspect / 2
        ) / (log_aspect * (1 - m))
        areas = np.array([box.shape[2] * box.shape[3] / 1e6 for box in boxes])
        assert abs(areas.mean() - expected) < 5 * 0.0019
        assert areas.min() >= m - 0.001
        middles = np.array([(box[0, :, 0, 0].int() + box[0, :, -1, -1].int()).tolist() for box in boxes]) / 2
        assert np.abs(middles.mean(axis=0) - 499.5).max() < 5 * 289 / 100  # a middle spreads less than the uniform law


CONFIGS = {  # one source of chance in each, so that none hides behind another
    "crop": AugmentConfig(policy="crop", mirror=False),
    "affine": AugmentConfig(policy="affine", mirror=False),
    "mirror": AugmentConfig(policy="none", mirror=True),
}


@pytest.mark.parametrize("policy", CONFIGS)
class TestBatch:
    def draw(self, store, policy, indices, *, seed=3, epoch=2):
        indices = np.array(indices)
        return augment_batch(store, indices, CONFIGS[policy], image_size=(16, 16), seed=seed, epoch=epoch)

    def test_a_batch_split_in_two_or_reordered_gives_the_same_images(self, policy):
        store = ImageStore(list(noise(12, 16, 16, 3)))
        whole = self.draw(store, policy, range(12))
        assert whole.shape == (12, 16, 16, 3)
        assert whole.dtype == torch.uint8
        parts = [self.draw(store, policy, part) for part in ([0, 1, 2, 3, 4], [5], list(range(6, 12)))]
        assert (torch.cat(parts) == whole).all()
        order = RNG.permutation(12)
        assert (self.draw(store, policy, order) == whole[order]).all()

    def test_seed_and_epoch_change_the_images_and_drawing_does_not_change_the_store(self, policy):
        pixels = noise(12, 16, 16, 3)
        store = ImageStore(list(pixels))
        first = self.draw(store, policy, range(12))
        for other in ({"epoch": 3}, {"seed": 4}, {"seed": 3 + 2**32}):
            assert (self.draw(store, policy, range(12), **other) != first).any()
        assert (self.draw(store, policy, range(12)) == first).all()
        first.zero_()
        assert (store.stack() == pixels).all()


def test_no_policy_and_no_mirror_leave_the_images_as_they_are():
    pixels = noise(5, 8, 8, 1)
    for config in (AugmentConfig(policy="none", mirror=False), AugmentConfig(policy="none")):
        images = augment_batch(ImageStore(list(pixels)), np.arange(5), config, image_size=(8, 8), seed=0, epoch=0)
        assert (images.numpy() == pixels).all()


def test_crops_are_taken_from_images_of_several_sizes():
    store = ImageStore([noise(20, 30, 3), noise(50, 10, 3), noise(16, 16, 3)])
    images = augment_batch(store, np.array([2, 0, 1]), CONFIGS["crop"], image_size=(12, 14), seed=0, epoch=0)
    assert images.shape == (3, 12, 14, 3)


@pytest.mark.parametrize(
    "field_and_value",
    [
        ("min_area", 0.0),
        ("min_area", 1.1),
        ("min_area", math.nan),
        ("max_aspect", 0.9),
        ("max_aspect", math.nan),
        ("max_aspect", math.inf),
        ("max_zoom", 1.0),
        ("max_zoom", -0.1),
        ("max_shift", math.nan),
        ("max_shift", -0.1),
        ("max_rotation_degrees", math.inf),
        ("max_rotation_degrees", -1.0),
    ],
)
def test_impossible_settings_are_refused_by_name(field_and_value):
    field, value = field_and_value
    with pytest.raises(ConfigError, match=rf"augment\.{field} is {value}; it must be "):
        AugmentConfig(**{field: value})
