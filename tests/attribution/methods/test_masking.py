import numpy as np
import pytest
import torch
from small_subjects import corner_subject, noise, timm_network

from recog.attribution.methods import masking as module
from recog.attribution.methods.masking import log_odds, occlusion, rise, windows


def test_the_log_odds_are_those_of_the_probability():
    logits = np.array([[2.0, 1.0, -1.0], [900.0, 0.0, 0.0]], dtype=np.float32)
    probs = np.exp([2.0, 1.0, -1.0]) / np.exp([2.0, 1.0, -1.0]).sum()
    np.testing.assert_allclose(log_odds("multiclass", logits)[0], np.log(probs / (1 - probs)), rtol=1e-6)
    assert np.isfinite(log_odds("multiclass", logits)).all()
    np.testing.assert_array_equal(log_odds("multilabel", logits), logits)


@pytest.mark.parametrize("size", [(32, 32), (17, 40), (4, 4), (1, 9)])
def test_every_pixel_is_covered(size):
    covered = np.zeros(size)
    for place in windows(size):
        covered[place] += 1
    assert covered.min() >= 1


def test_only_what_the_label_depends_on_matters():
    images = np.full((1, 32, 32, 1), 200, np.uint8)
    maps = occlusion(corner_subject(), images, np.array([0])).maps[0]
    assert maps[:14, :14].min() > 0
    assert not maps[18:].any()
    # a square of 4 x 4 in a quarter of 16 x 16: the mean falls by 1/16 of 200/255, and the logit by ten times that
    assert maps[6, 6] == pytest.approx(10 * 200 / 255 / 16, rel=1e-4)


def test_it_is_captums_occlusion():
    captum = pytest.importorskip("captum.attr")
    subject = timm_network("test_resnet")
    image = noise(1, 64, 64, 3)
    grey = torch.tensor(subject.fill, dtype=torch.float32)[None, None, None]

    def answer(x):
        return torch.as_tensor(log_odds("multiclass", subject.logits(x.numpy().astype(np.uint8))))

    theirs = captum.Occlusion(answer).attribute(
        torch.as_tensor(image).float(), (8, 8, 3), strides=(4, 4, 3), baselines=grey.expand(1, 64, 64, 3), target=1
    )
    np.testing.assert_allclose(occlusion(subject, image, np.array([1])).maps[0], theirs[0, :, :, 0], atol=1e-4)


def test_the_region_that_counts_stands_out():
    images = np.full((2, 32, 32, 1), 220, np.uint8)
    maps = rise(corner_subject(), images, np.array([0, 0])).maps
    assert maps[0, :16, :16].mean() > 4 * np.abs(maps[0, 16:, 16:]).mean()
    np.testing.assert_array_equal(maps[0], maps[1])  # the same masks for every image


def test_an_answer_that_never_changes_gives_nothing():
    """An image of the hidden level looks the same behind every mask."""
    maps = rise(corner_subject(), np.zeros((1, 32, 32, 1), np.uint8), np.array([0])).maps
    np.testing.assert_allclose(maps, 0, atol=1e-6)


def test_half_of_the_image_is_shown_on_average():
    masks = np.stack([module._mask(number, (40, 24)) for number in range(300)])
    assert masks.shape == (300, 40, 24)
    assert masks.min() >= 0
    assert masks.max() <= 1
    # 300 masks of independent cells: standard error of a pixel's mean at most 0.5 / sqrt(300) = 0.03
    assert abs(masks.mean() - 0.5) < 0.03
