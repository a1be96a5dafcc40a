import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small_models import build, num_parameters
from torch import nn

from recog.models.classifier import Classifier
from recog.models.networks.fastnet import Stage, fastnet32, fastnet32_wide, whiten
from recog.training.config import LossConfig, OptimConfig
from recog.training.fit import train_step
from recog.training.losses import build_loss
from recog.training.state import build_state


def correlated_images(num_images=20, channels=3, size=16, seed=0):
    """uint8 [N, H, W, C] whose neighbours and channels are alike, as in photos."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(size=(num_images, size // 4, size // 4, 1)).repeat(4, axis=1).repeat(4, axis=2)
    fine = rng.normal(size=(num_images, size, size, channels))
    return np.clip(128 + 40 * coarse + 8 * fine, 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("build_network", "widths", "expected"),
    [(fastnet32, (64, 128, 128), 569_378), (fastnet32_wide, (64, 256, 256), 1_972_514)],
)
def test_parameters_by_hand(build_network, widths, expected):
    # 24 whitening biases (its filters are computed, not trained); per stage two 3 x 3 convolutions, each with a scale and a shift
    pairs = zip((24, *widths), widths, strict=False)
    stages = [9 * a * b + 2 * b + 9 * b * b + 2 * b for a, b in pairs]
    assert 24 + sum(stages) + widths[-1] * 10 + 10 == expected
    assert num_parameters(build_network(num_classes=10, in_chans=3)) == expected


def test_a_stage_begins_as_a_maximum_that_keeps_its_maps():
    """Identity filters, then BatchNorm with scale 1: the first maps are the normalised maxima of 2 x 2 pixels."""
    torch.manual_seed(0)
    images = torch.randn(4, 6, 8, 8)
    stage = Stage(6, 8)
    maxima = images.unfold(2, 2, 2).unfold(3, 2, 2).amax(dim=(-1, -2))
    expected = F.silu(normalised(F.silu(normalised(maxima))))
    with torch.no_grad():
        torch.testing.assert_close(stage(images)[:, :6], expected)


def normalised(maps):
    """Mean 0 and variance 1 of each channel, with BatchNorm's epsilon."""
    variance, mean = torch.var_mean(maps, dim=(0, 2, 3), keepdim=True, correction=0)
    return (maps - mean) / (variance + 1e-5).sqrt()


def test_scales_of_batch_norm_are_not_trained_and_their_statistics_are():
    network = fastnet32(num_classes=2, in_chans=1)
    before = copy.deepcopy(network.state_dict())
    state = build_state(
        Classifier(network, mean=(0.5,), std=(0.5,)),
        optim=OptimConfig(lr=0.1).filled(epochs=1),
        loss=build_loss(LossConfig()),
        precision="float32",
    )
    images = torch.from_numpy(correlated_images(num_images=8, channels=1))
    train_step(state, images, torch.arange(8) % 2, lr=0.1)
    changed = {name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])}
    assert not {name for name in changed if name.endswith(("bn1.weight", "bn2.weight"))}
    for stage in range(3):
        assert {f"stages.{stage}.bn{n}.{what}" for n in (1, 2) for what in ("bias", "running_mean")} <= changed


@pytest.mark.parametrize("channels", [1, 3])
def test_whitened_patches_have_variance_1_in_every_direction(channels):
    model = build("fastnet32", channels=channels, image_size=(16, 16))
    images = correlated_images(channels=channels)
    whiten(model.classifier, list(images))
    whitening = model.classifier.network.whitening
    with torch.no_grad():
        maps = whitening(model.classifier.normalise(torch.from_numpy(images)))
    outputs = maps.permute(0, 2, 3, 1).reshape(-1, 8 * channels).double().numpy()
    half = 4 * channels
    assert np.allclose(outputs[:, :half], -outputs[:, half:])
    moment = outputs[:, :half].T @ outputs[:, :half] / len(outputs)
    # the second moment without its epsilon would be the identity; the weakest direction here is about 0.004 against 0.0005
    assert np.abs(moment - np.diag(np.diag(moment))).max() < 1e-4
    assert np.diag(moment).min() > 0.8
    assert np.diag(moment).max() <= 1.0001


def test_filters_by_a_second_method():
    """Singular vectors of the patches themselves, taken one by one, instead of eigenvectors of their second moment."""
    model = build("fastnet32", channels=1, image_size=(16, 16))
    images = correlated_images(channels=1)
    whiten(model.classifier, list(images))
    ours = model.classifier.network.whitening.weight[:4].reshape(4, 4).double().numpy()
    pixels = model.classifier.normalise(torch.from_numpy(images))[:, 0].double().numpy()
    patches = np.stack([pixels[:, i : i + 15, j : j + 15].ravel() for i in (0, 1) for j in (0, 1)], axis=1)
    _, singular, directions = np.linalg.svd(patches, full_matrices=False)
    theirs = (directions / np.sqrt(singular**2 / len(patches) + 5e-4)[:, None])[::-1]  # weakest first
    signs = np.sign((ours * theirs).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(ours * signs, theirs, rtol=1e-3, atol=1e-3)


def test_the_same_images_give_the_same_filters_and_others_do_not():
    filters = []
    for seed in (0, 0, 1):
        model = build("fastnet32", image_size=(16, 16))
        before = model.classifier.network.whitening.weight.clone()
        whiten(model.classifier, list(correlated_images(seed=seed)))
        filters.append(model.classifier.network.whitening.weight.clone())
        assert not torch.equal(before, filters[-1])
    assert torch.equal(filters[0], filters[1])
    assert not torch.equal(filters[0], filters[2])


def test_filters_are_saved_but_not_trained():
    network = fastnet32(num_classes=2, in_chans=3)
    assert "whitening.weight" in network.state_dict()
    assert "whitening.weight" not in dict(network.named_parameters())
    assert "whitening.bias" in dict(network.named_parameters())


def test_images_of_one_colour_give_finite_filters():
    model = build("fastnet32", image_size=(16, 16))
    whiten(model.classifier, [np.full((16, 16, 3), 128, dtype=np.uint8)] * 3)
    assert model.classifier.network.whitening.weight.isfinite().all()


def test_images_of_several_sizes_count_by_their_patches():
    model = build("fastnet32", channels=1, image_size=(16, 16))
    image = correlated_images(1, channels=1)[0]
    whiten(model.classifier, [image, image[:9, :12]])
    whitened = model.classifier.network.whitening.weight
    assert whitened.shape == (8, 1, 2, 2)
    assert whitened.isfinite().all()


def test_another_network_has_nothing_to_whiten():
    with pytest.raises(TypeError, match="SmallResNet has no whitening layer"):
        whiten(build("resnet8").classifier, [])


def test_convolutions_begin_as_copies_where_they_can():
    network = fastnet32(num_classes=2, in_chans=3)
    conv = network.stages[0].conv2
    x = torch.randn(1, 64, 5, 5)
    assert torch.equal(conv(x), x)
    widening = network.stages[1].conv1
    assert torch.equal(widening(x)[:, :64], x)
    assert isinstance(network.get_classifier(), nn.Linear)
