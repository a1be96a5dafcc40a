"""All attacks in turn, and the warning signs."""

from __future__ import annotations

import numpy as np
import torch
from small_perturbations import LINF, can_be_fooled, linear_target
from torch import nn

from recog.perturbation.attack_config import AttackConfig
from recog.perturbation.attack_suite import Attacked, AttackReport, attack_images, square


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


def test_nothing_is_left_to_attack():
    report = report_of(convolutional(), eps=1.0)
    assert [row.num_attacked for row in report.rows] == [24, 24, 0, 0, 0]
    assert report.robust.num_correct == 0


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


def test_square_fools_without_gradients():
    target, weights = linear_target(3)
    possible = can_be_fooled(target, weights, LINF)
    found = target.is_fooled(changed := square(target, LINF, queries=800))
    assert not (found & ~possible).any()
    assert int(found.sum()) >= 0.8 * int(possible.sum())
    assert float((changed - target.images).abs().max()) <= LINF.eps + 1e-6
