"""Attacks on linear networks, whose worst case has a closed form."""

from __future__ import annotations

import pytest
import torch
from small_perturbations import ATTACKS, L2, LINF, can_be_fooled, linear_target

from recog.perturbation.attack_suite import square
from recog.perturbation.gradient_attacks import checkpoints, dlr, fgsm, margin, targeted_dlr


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
