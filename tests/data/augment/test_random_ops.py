"""AugMix by coins that leave one chain or one operation, and its independence of the batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recog.data.augment import colour
from recog.data.augment.random_ops import (
    AUGMIX_CHAINS,
    AUGMIX_COINS,
    AUGMIX_DEPTH,
    AUGMIX_OPS,
    COINS_PER_OP,
    aug_mix,
)

IMAGES = torch.from_numpy(np.random.default_rng(0).integers(40, 200, (5, 12, 12, 3), dtype=np.uint8))
NAMES = list(AUGMIX_OPS)


def coins_of(*ops, share=1.0, chain=0, level=0.5, sign=0.9):
    """Of one image: all weight on `chain`, whose operations are `ops`."""
    parts = np.zeros((AUGMIX_CHAINS, 2 + COINS_PER_OP * AUGMIX_DEPTH))
    parts[chain, 0] = 0.5  # the other chains' exponentials are 0
    parts[chain, 1] = (len(ops) - 0.5) / AUGMIX_DEPTH
    for place, name in enumerate(ops):
        first = 2 + COINS_PER_OP * place
        parts[chain, first : first + COINS_PER_OP] = (NAMES.index(name) + 0.5) / len(NAMES), level, sign
    return np.concatenate([[share], parts.ravel()])


def mixed(*ops, **options):
    return aug_mix(IMAGES, np.tile(coins_of(*ops, **options), (len(IMAGES), 1)))


def test_no_share_leaves_the_images():
    torch.testing.assert_close(mixed("rotate", share=0.0), IMAGES)


def test_one_chain_is_its_operations_one_after_another():
    torch.testing.assert_close(mixed("autocontrast"), colour.autocontrast(IMAGES))
    both = colour.equalize(colour.autocontrast(IMAGES))
    torch.testing.assert_close(mixed("autocontrast", "equalize", chain=2), both)
    half = ((IMAGES.float() + colour.autocontrast(IMAGES)) / 2).round().to(torch.uint8)
    torch.testing.assert_close(mixed("autocontrast", share=0.5), half)


@pytest.mark.parametrize(("level", "bits"), [(0.0, 4), (1 - 1e-9, 3)])
def test_posterize_keeps_4_bits_or_3(level, bits):
    """int(level x 4 / 10) is 0 for the level 0.1 and 1 for 3."""
    expected = IMAGES & (0xFF << (8 - bits) & 0xFF)
    torch.testing.assert_close(mixed("posterize", level=level), expected)


def test_solarize_is_at_256_less_a_tenth_of_the_level():
    threshold = 256 - int(0.1 * 256 / 10 + (3 - 0.1) * 256 / 10 * 0.999)
    expected = torch.where(threshold <= IMAGES, 255 - IMAGES, IMAGES)
    torch.testing.assert_close(mixed("solarize", level=0.999), expected)


def test_an_image_is_changed_alike_in_any_batch():
    coins = np.random.default_rng(1).random((len(IMAGES), AUGMIX_COINS))
    whole = aug_mix(IMAGES, coins)
    parts = torch.cat([aug_mix(IMAGES[i : i + 1], coins[i : i + 1]) for i in range(len(IMAGES))])
    torch.testing.assert_close(whole, parts)
    assert not torch.equal(whole, IMAGES)
