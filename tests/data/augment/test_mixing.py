import numpy as np
import torch

from recog.core.chance import uniforms
from recog.data.augment.batch import MIX_COINS, cut_box, mix, soft_targets

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
