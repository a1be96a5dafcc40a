import numpy as np
import pytest
import torch
from small_subjects import noise, pooled_network, timm_network

from recog.attribution.sanity import Pairs, build_pairs, play_pointing_game, weight_similarity, with_random_weights
from recog.attribution.table import attribute


@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
def test_random_weights_are_the_same_numbers_in_another_order(name):
    subject = timm_network(name)
    before = [parameter.clone() for parameter in subject.classifier.parameters()]
    images = noise(2, 64, 64, 3)
    other = with_random_weights(subject, images)
    for was, now, kept in zip(before, other.classifier.parameters(), subject.classifier.parameters(), strict=True):
        assert torch.equal(was, kept)
        assert torch.equal(was.flatten().sort().values, now.flatten().sort().values)
    assert np.isfinite(other.logits(images)).all()
    assert not np.allclose(other.logits(images), subject.logits(images))
    assert attribute("gradcam", other, images, np.array([0, 1])).maps.shape == (2, 64, 64)


def test_similarity_is_a_rank_correlation():
    a = np.arange(16, dtype=np.float32).reshape(1, 4, 4)
    assert weight_similarity(a, a**3) == pytest.approx(1)
    assert weight_similarity(a, -a) == pytest.approx(-1)
    assert weight_similarity(a, np.zeros_like(a)) == 0


def test_pairs_show_two_different_labels():
    images = np.stack([np.full((8, 8, 1), level, np.uint8) for level in (10, 20, 30)])
    pairs = build_pairs(images, np.array([0, 1, 1]), 30)
    assert len(pairs.pictures) == 4  # of 6 ordered pairs the two of equal labels are left out
    level_of = {0: {10}, 1: {20, 30}}
    for picture, left, right in zip(pairs.pictures, pairs.left, pairs.right, strict=True):
        assert left != right
        assert set(picture[:, :4].flatten()) <= level_of[left]
        assert set(picture[:, 4:].flatten()) <= level_of[right]
    assert not len(build_pairs(images, np.array([0, 0, 0]), 30).pictures)


def test_the_half_that_counts_is_found():
    """The logit of label 0 grows with brightness, that of 1 falls: Grad-CAM of 0 lies on the bright half, of 1 it is empty."""
    bright_left = np.zeros((1, 8, 8, 1), np.uint8)
    bright_left[:, :, :4] = 255
    pairs = Pairs(pictures=bright_left, left=np.array([0]), right=np.array([1]))
    found = play_pointing_game("gradcam", pooled_network([1.0, -1.0]), pairs)
    assert (found.num_right, found.num_cases) == (1, 2)
    # Wilson for 1 of 2: centre 1/2, half width z/(1 + z^2/2) * sqrt(1/8 + z^2/16) with z = 1.96
    z = 1.959964
    half = z / (1 + z**2 / 2) * np.sqrt(0.25 / 2 + z**2 / 16)
    assert found.interval == pytest.approx((0.5 - half, 0.5 + half), abs=1e-6)
