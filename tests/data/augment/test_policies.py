"""The table of policies, swept: shapes, sense, and the same picture for the same draw however batches are split."""

import itertools

import numpy as np
import pytest
import torch

from recog.core.chance import uniforms
from recog.core.config import build_config, config_to_dict
from recog.core.errors import ConfigError
from recog.data.augment.batch import augment_batch
from recog.data.augment.policies import POLICIES, AugmentConfig
from recog.data.augment.random_ops import RANDOM_OPS, rand_augment, trivial_augment
from recog.data.loader import TrainLoader
from recog.data.store import ImageStore

EVERYTHING = {
    "max_rotation_degrees": 20.0,
    "translate_px": 2,
    "random_ops": "rand",
    "brightness": 0.3,
    "contrast": 0.3,
    "saturation": 0.3,
    "blur": 1.0,
    "noise": 10.0,
    "erasing": 0.5,
    "mixup": 0.4,
    "cutmix": 1.0,
}
SWEEP = [
    *(
        AugmentConfig(policy=p, geometry=g, mirror=True)
        for p, g in itertools.product(POLICIES, ("warp", "crop", "translate"))
    ),
    *(
        AugmentConfig(policy="light", geometry="crop", mirror=False, **{name: value})
        for name, value in EVERYTHING.items()
    ),
    AugmentConfig(policy="standard", geometry="crop", mirror=True, **EVERYTHING),
]


def make_loader(config, *, batch_size=8, channels=3, side=20, num_workers=0, **more):
    images = np.random.default_rng(1).integers(0, 256, (24, 20, 20, channels), dtype=np.uint8)
    return TrainLoader(
        store=ImageStore(list(images)),
        targets=np.arange(24) % 3,
        augment=config,
        image_size=(side, side),
        batch_size=batch_size,
        seed=7,
        num_workers=num_workers,
        **more,
    )


def epoch_of(loader, epoch=0):
    batches = list(loader.batches(epoch))
    return torch.cat([images for images, _ in batches]), torch.cat([targets for _, targets in batches])


@pytest.mark.parametrize("config", SWEEP, ids=str)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_policy_gives_the_same_pictures_whatever_the_batches(config, channels):
    images, targets = epoch_of(make_loader(config, channels=channels))
    assert images.shape == (24, 20, 20, channels)
    assert images.dtype == torch.uint8
    assert images.is_contiguous()
    for batch_size in (1, 12):
        other, other_targets = epoch_of(make_loader(config, channels=channels, batch_size=batch_size))
        assert torch.equal(images, other)
        assert torch.equal(targets, other_targets)
    if config.strengths.mixup or config.strengths.cutmix:
        assert targets.shape == (24, 3)
        torch.testing.assert_close(targets.sum(dim=1), torch.ones(24))
    else:
        assert targets.dtype == torch.int64
    later = epoch_of(make_loader(config, channels=channels), epoch=1)[0]
    assert not torch.equal(images, later)


def test_workers_do_not_change_the_pictures():
    config = SWEEP[-1]
    for one, two in zip(epoch_of(make_loader(config)), epoch_of(make_loader(config, num_workers=2)), strict=True):
        assert torch.equal(one, two)


def test_none_changes_nothing():
    loader = make_loader(AugmentConfig(policy="none", geometry="crop"))
    images, _ = epoch_of(loader)
    np.testing.assert_array_equal(images.numpy(), loader.store.stack(loader.draws(0)))


def test_one_in_two_is_mirrored_and_the_other_half_in_the_next_epoch():
    images = np.random.default_rng(0).integers(0, 256, (400, 6, 6, 3), dtype=np.uint8)
    store, config = ImageStore(list(images)), AugmentConfig(policy="none", mirror=True)
    is_mirrored = []
    for epoch in range(4):
        drawn = augment_batch(store, np.arange(400), config, image_size=(6, 6), seed=0, epoch=epoch).numpy()
        plain = (drawn == images).all(axis=(1, 2, 3))
        mirrored = (drawn == images[:, :, ::-1]).all(axis=(1, 2, 3))
        assert (plain ^ mirrored).all()
        is_mirrored.append(mirrored)
    assert abs(is_mirrored[0].sum() - 200) < 40  # four standard deviations of 10
    assert (is_mirrored[1] == ~is_mirrored[0]).all()
    assert (is_mirrored[2] == is_mirrored[0]).all()
    assert (is_mirrored[3] == is_mirrored[1]).all()


def test_strengths_that_are_set_stand_in_place_of_the_policys():
    config = AugmentConfig(policy="strong", geometry="crop", mixup=0.0, noise=3.0)
    assert config.strengths.mixup == 0
    assert config.strengths.noise == 3
    assert config.strengths.cutmix == POLICIES["strong"]["crop"].cutmix
    filled = config.filled()
    assert filled.strengths == config.strengths
    assert build_config(AugmentConfig, config_to_dict(filled)) == filled
    assert AugmentConfig().strengths == POLICIES["none"]["warp"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"min_area": 0.0},
        {"max_aspect": 0.5},
        {"max_zoom": 1.0},
        {"brightness": -0.1},
        {"erasing": 1.1},
        {"mixup": -1.0},
        {"max_rotation_degrees": 181.0},
    ],
)
def test_impossible_strengths_are_refused(wrong):
    with pytest.raises(ConfigError, match=f"augment.{next(iter(wrong))}"):
        AugmentConfig(**wrong)


def test_an_unknown_policy_is_named_with_the_nearest():
    with pytest.raises(ConfigError, match="Did you mean 'strong'"):
        build_config(AugmentConfig, {"policy": "strng"}, "augment.")


def test_trivial_augment_draws_every_operation_alike():
    coins = uniforms(0, 0, np.arange(14_000), "trivial", 3)
    counts = np.bincount((coins[:, 0] * len(RANDOM_OPS)).astype(int), minlength=len(RANDOM_OPS))
    assert len(RANDOM_OPS) == 14
    assert np.abs(counts - 1000).max() < 125  # four standard deviations of 30.5


@pytest.mark.parametrize(("number", "name"), list(enumerate(RANDOM_OPS)))
def test_each_operation_does_nothing_at_strength_zero_and_something_at_thirty(number, name):
    images = torch.from_numpy(np.random.default_rng(0).integers(20, 200, (2, 24, 24, 3), dtype=np.uint8))
    chosen = (number + 0.5) / len(RANDOM_OPS)
    coins = np.array([[chosen, 0.0, 0.9], [chosen, 0.999, 0.9]])
    changed = trivial_augment(images, coins, upright=False)
    assert torch.equal(changed[0], images[0]) == (name not in ("autocontrast", "equalize"))
    assert torch.equal(changed[1], images[1]) == (name == "identity")
    both = rand_augment(images, np.concatenate([coins, coins], axis=1), upright=False)
    assert both.shape == images.shape


def test_upright_images_are_turned_by_30_degrees_at_most():
    image = torch.zeros((1, 64, 64, 1), dtype=torch.uint8)
    image[0, :20, 28:36] = 255  # a bar at the top
    number = list(RANDOM_OPS).index("rotate")
    coins = np.array([[(number + 0.5) / len(RANDOM_OPS), 0.999, 0.9]])
    upright = trivial_augment(image, coins, upright=True)
    assert upright[0, :32].float().sum() > 0.95 * upright.float().sum()  # by 30 degrees the bar stays in the upper half
    turned = trivial_augment(image, coins, upright=False)
    assert turned[0, :32].float().sum() < 0.2 * turned.float().sum()  # by 135 degrees it lies in the lower
