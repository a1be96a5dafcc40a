"""Attacks on linear networks, whose worst case has a closed form, and on small ones; the warning signs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from recog.core.errors import ConfigError
from recog.perturbation.attack_config import AttackConfig, build_attack_config
from recog.perturbation.attack_suite import Attacked, AttackReport, attack_images
from recog.perturbation.gradient_attacks import (
    Target,
    apgd_ce,
    apgd_dlr,
    checkpoints,
    dlr,
    fgsm,
    margin,
    pgd,
    targeted_dlr,
)
from recog.perturbation.square_attack import square
from recog.training.threat import Threat

SHAPE = (3, 6, 6)
LINF, L2 = Threat(norm="linf", eps=0.008), Threat(norm="l2", eps=0.06)


def linear_target(num_classes, *, num_images=60, seed=0):
    """A linear network and images in [0.3, 0.7], which no change of these threats brings to the end of the range."""
    torch.manual_seed(seed)
    weights = torch.randn(num_classes, 108) * 0.3
    images = 0.3 + 0.4 * torch.rand(num_images, *SHAPE)
    logits_of = lambda pixels: (pixels.flatten(1) - 0.5) @ weights.T  # noqa: E731
    labels = logits_of(images).argmax(dim=1)
    target = Target(logits_of=logits_of, images=images, labels=labels, indices=np.arange(num_images), seed=0)
    return target, weights


def can_be_fooled(target, weights, threat):
    """The margin to class j falls by eps times the dual norm of the difference of weights, and by no more."""
    logits = target.logits_of(target.images)
    gaps = logits.gather(1, target.labels[:, None]) - logits
    differences = weights[target.labels][:, None] - weights[None]
    dual = differences.abs().sum(dim=2) if threat.norm == "linf" else differences.norm(dim=2)
    reachable = gaps < threat.eps * dual
    reachable[torch.arange(len(reachable)), target.labels] = False
    return reachable.any(dim=1)


ATTACKS = {
    "pgd": lambda target, threat: pgd(target, threat, steps=40, restarts=1),
    "apgd-ce": lambda target, threat: apgd_ce(target, threat, steps=50, restarts=1),
    "apgd-dlr": lambda target, threat: apgd_dlr(target, threat, steps=50, restarts=1, num_targets=9),
}


@pytest.mark.parametrize("num_classes", [2, 3, 6])
@pytest.mark.parametrize("threat", [LINF, L2], ids=["linf", "l2"])
@pytest.mark.parametrize("name", ATTACKS)
def test_attacks_fool_what_can_be_fooled(name, threat, num_classes):
    target, weights = linear_target(num_classes)
    possible = can_be_fooled(target, weights, threat)
    assert 5 < int(possible.sum()) < 55
    changed = ATTACKS[name](target, threat)
    change = changed - target.images
    size = change.abs().flatten(1).amax(dim=1) if threat.norm == "linf" else change.flatten(1).norm(dim=1)
    assert float(size.max()) <= threat.eps + 1e-5
    assert changed.min() >= 0
    assert changed.max() <= 1
    found = target.is_fooled(changed)
    assert not (found & ~possible).any()
    # the gradient of the cross-entropy mixes several classes, and so may miss the nearest border
    is_exact = num_classes == 2 or name == "apgd-dlr"
    assert int((possible & ~found).sum()) <= (0 if is_exact else 0.25 * int(possible.sum()))


def test_fgsm_is_exact_for_two_classes():
    for threat in (LINF, L2):
        target, weights = linear_target(2)
        assert torch.equal(target.is_fooled(fgsm(target, threat)), can_be_fooled(target, weights, threat))


def test_square_fools_without_gradients():
    target, weights = linear_target(3)
    possible = can_be_fooled(target, weights, LINF)
    found = target.is_fooled(changed := square(target, LINF, queries=800))
    assert not (found & ~possible).any()
    assert int(found.sum()) >= 0.8 * int(possible.sum())
    assert float((changed - target.images).abs().max()) <= LINF.eps + 1e-6


def test_chance_belongs_to_the_image():
    """An image is attacked alike alone and among others."""
    target, _ = linear_target(4)
    alone = target.part(torch.tensor([17]))
    for attack in (*ATTACKS.values(), lambda t, threat: square(t, threat, queries=50)):
        torch.testing.assert_close(attack(alone, LINF)[0], attack(target, LINF)[17], atol=1e-6, rtol=0)


def test_losses_by_hand():
    logits, labels = torch.tensor([[3.0, 1.0, 2.0, -1.0]]), torch.tensor([0])
    assert margin(logits, labels).tolist() == [-1.0]  # 2 - 3
    assert dlr(logits, labels).tolist() == pytest.approx([-1 / 2])  # over 3 - 1, first less third
    assert targeted_dlr(torch.tensor([1]))(logits, labels).tolist() == pytest.approx([-2 / 3])  # 3 - (1 - 1) / 2
    torch.testing.assert_close(dlr(5 * logits + 7, labels), dlr(logits, labels))


def test_checkpoints_are_those_of_the_paper():
    # p: 0, 0.22, then + 0.19, 0.16, 0.13, 0.10, 0.07, 0.06, 0.06
    assert checkpoints(100) == [22, 41, 57, 70, 80, 87, 93, 99]


def test_projection_by_hand():
    image = torch.full((1, 1, 1, 2), 0.5)
    far = torch.tensor([[[[0.8, 0.1]]]])
    torch.testing.assert_close(Threat(norm="linf", eps=0.1).project(far, image), torch.tensor([[[[0.6, 0.4]]]]))
    # (0.3, -0.4) has length 0.5
    torch.testing.assert_close(Threat(norm="l2", eps=0.1).project(far, image), torch.tensor([[[[0.56, 0.42]]]]))
    assert Threat(norm="linf", eps=1.0).project(far + 2, image).max() == 1


def report_of(logits_of, *, num_images=24, **options):
    rng = np.random.default_rng(0)
    images = rng.integers(60, 200, (num_images, 6, 6, 3)).astype(np.uint8)
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    labels = logits_of(pixels).argmax(dim=1).numpy()
    attacked = Attacked(images=images, labels=labels, hashes=[f"{i:08x}" for i in range(num_images)], seed=0)
    config = AttackConfig(**{"steps": 20, "queries": 100, "eps": 0.01, "num_targets": 3, **options})
    *_, report = attack_images(logits_of, attacked, config)
    assert isinstance(report, AttackReport)
    return report


def convolutional(num_classes=4):
    torch.manual_seed(3)
    layers = [nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(128, num_classes)]
    network = nn.Sequential(*layers).eval()
    return lambda pixels: 20 * network(pixels)


def test_a_sound_network_has_no_flags_and_counts_add_up():
    report = report_of(convolutional())
    assert report.flags == ()
    assert report.clean.num_correct == 24
    assert [row.name for row in report.rows] == ["fgsm", "pgd", "apgd-ce", "apgd-dlr", "square"]
    assert [row.loss for row in report.rows][3:] == ["targeted DLR", "margin"]
    rates = [row.robust.num_correct for row in report.rows]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == report.robust.num_correct < 24
    assert report.to_dict()["robust"]["accuracy"] == report.robust.accuracy


def test_flags():
    network = convolutional()
    noise = torch.Generator().manual_seed(0)
    random = report_of(lambda x: network(x) + torch.randn(len(x), 4, generator=noise), names=("fgsm",))
    assert "answers are random" in random.flags[0]
    # rounded to a few levels of input: no gradient, though the answers change
    steps = report_of(
        lambda x: network(x) + 0 * x.sum() if x.requires_grad is False else network(x.detach()) + 0 * x.sum()
    )
    flags = " ".join(steps.flags)
    assert "the gradient is zero on 24 of 24 images" in flags
    assert "at eps 1" in flags


def test_config():
    assert build_attack_config([], norm="linf", eps=None, restarts=1, quick=False) is None
    config = build_attack_config(["all"], norm="l2", eps="1/4", restarts=2, quick=True)
    assert (config.names, config.eps, config.steps) == (("fgsm", "pgd", "apgd-ce", "apgd-dlr"), 0.25, 20)
    for names, options, message in (
        (["fgms"], {}, "no attack 'fgms'.*Did you mean 'fgsm'"),
        (["square"], {"norm": "l2"}, "square changes pixels by up to eps"),
        (["pgd"], {"eps": "8"}, "--eps is 8; it must be above 0 and at most 1"),
        (["pgd"], {"eps": "eight"}, "expected a number or a fraction"),
        (["pgd"], {"restarts": 0}, "--restarts is 0"),
    ):
        with pytest.raises(ConfigError, match=message):
            build_attack_config(names, **{"norm": "linf", "eps": None, "restarts": 1, "quick": False, **options})
