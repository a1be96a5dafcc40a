"""Augmented batches: the same picture for the same (seed, epoch, draw), however the batches are split."""

import math

import numpy as np
import pytest
import torch

from recog.core.chance import uniforms
from recog.core.errors import ConfigError
from recog.data.augment.batch import MIX_COINS, augment_batch, cut_box, mix, soft_targets
from recog.data.augment.geometry import affine_matrices, warp
from recog.data.augment.policies import AugmentConfig
from recog.data.store import ImageStore

RNG = np.random.default_rng(0)


def noise(*shape):
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def test_a_turn_of_a_wide_image_is_a_turn():
    """By 90 degrees, about the middle of 3 x 5 px: the middle 3 x 3 turns, and what lies outside repeats the edge."""
    image = np.zeros((1, 3, 5, 1), np.uint8)
    image[0, :, 1:4, 0] = [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    one = np.ones(1)
    matrices = affine_matrices(degrees=90 * one, zoom=one, shift=np.zeros((1, 2)))
    middle = warp(torch.from_numpy(image), matrices)[0, :, 1:4, 0].numpy()
    turned = [np.rot90(image[0, :, 1:4, 0], k).tolist() for k in (1, 3)]
    assert middle.tolist() in turned


CONFIGS = {  # one source of chance in each, so that none hides behind another
    "crop": AugmentConfig(policy="standard", geometry="crop", mirror=False),
    "warp": AugmentConfig(policy="standard", geometry="warp", mirror=False),
    "translate": AugmentConfig(policy="standard", geometry="translate", mirror=False),
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


BLACK = torch.zeros((1, 8, 8, 1), dtype=torch.uint8)
WHITE = torch.full((1, 8, 8, 1), 200, dtype=torch.uint8)


def test_mixup_by_hand():
    # Beta(1, 1) is uniform, so a coin of 0.25 is a weight of 0.25 on the image itself
    mixed, weights = mix(BLACK, WHITE, np.array([[0.0, 0.25, 0.0, 0.0]]), mixup=1.0, cutmix=0.0)
    assert weights.tolist() == [0.25]
    assert mixed.unique().tolist() == [150]


def test_cutmix_by_hand():
    # kept 3/4: a box of half the side, 4 x 4, centred at (4, 4): rows and columns 2 to 5
    mixed, weights = mix(BLACK, WHITE, np.array([[0.0, 0.75, 0.5, 0.5]]), mixup=0.0, cutmix=1.0)
    expected = np.zeros((8, 8))
    expected[2:6, 2:6] = 200
    np.testing.assert_array_equal(mixed[0, :, :, 0].numpy(), expected)
    assert weights.tolist() == [0.75]


def test_a_box_at_the_corner_is_cut_off():
    assert cut_box(8, 8, 0.75, 0.0, 0.0) == (0, 0, 2, 2)
    assert cut_box(8, 8, 0.0, 0.5, 0.5) == (0, 0, 8, 8)


def test_weights_follow_beta_and_both_kinds_are_drawn():
    count = 4000
    coins = uniforms(0, 0, np.arange(count), "mix", MIX_COINS)
    images = BLACK.expand(count, -1, -1, -1)
    mixed, weights = mix(images, WHITE.expand(count, -1, -1, -1), coins, mixup=0.4, cutmix=1.0)
    cut = coins[:, 0] < 0.5
    assert abs(cut.mean() - 0.5) < 0.03
    # Beta(a, a): mean 1/2, variance 1 / (4 (2a + 1)) = 0.1389 at a = 0.4
    assert abs(weights[~cut].mean() - 0.5) < 0.03
    assert abs(weights[~cut].var() - 0.1389) < 0.01
    levels = mixed.float().mean(dim=(1, 2, 3)).numpy() / 200
    np.testing.assert_allclose(levels[cut], 1 - weights[cut], atol=1e-6)  # CutMix's weight is the area, exactly
    np.testing.assert_allclose(levels[~cut], 1 - weights[~cut], atol=0.5 / 200)


def test_soft_targets_sum_to_one():
    targets = soft_targets(np.array([0, 2]), np.array([1, 2]), np.array([0.7, 0.4]), 3)
    torch.testing.assert_close(targets, torch.tensor([[0.7, 0.3, 0.0], [0.0, 0.0, 1.0]]))


def test_several_labels_mix_by_hand():
    own, partner = np.array([[1, 0, 1]], np.float32), np.array([[0, 0, 1]], np.float32)
    mixed = soft_targets(own, partner, np.array([0.75]), 3)
    assert mixed.tolist() == [[0.75, 0.0, 1.0]]
    assert mixed.dtype == torch.float32
