"""Each loss against the same one in torch, timm or torchvision, or worked out in NumPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import timm.loss
import torch
import torch.nn.functional as F
from torchvision.ops import sigmoid_focal_loss

from recog.core.errors import ConfigError
from recog.training.config import LossConfig, LossPlan
from recog.training.losses import build_loss

GENERATOR = torch.Generator().manual_seed(0)
LOGITS = 3 * torch.randn(7, 4, generator=GENERATOR)
LABELS = torch.tensor([0, 1, 2, 3, 0, 0, 2])
SHARES = torch.rand(7, 4, generator=GENERATOR).softmax(dim=1)
PRESENT = (torch.rand(7, 4, generator=GENERATOR) < 0.4).float()
WEIGHTS = torch.tensor([0.5, 2.0, 1.0, 3.0])
NAMES = ["cross-entropy", "focal", "gce", "bce", "mse"]


def loss_of(name, *, task="multiclass", class_weights=None, smoothing=0.0, gamma=2.0):
    config = LossConfig(name=name, label_smoothing=smoothing, focal_gamma=gamma)
    return build_loss(config, task=task, class_weights=class_weights)


@pytest.mark.parametrize("targets", [LABELS, SHARES], ids=["labels", "shares"])
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_is_torchs_and_focal_at_gamma_0_is_cross_entropy(targets, weights, smoothing):
    expected = F.cross_entropy(LOGITS, targets, weight=weights, label_smoothing=smoothing).item()
    for name in ("cross-entropy", "focal"):
        loss = loss_of(name, class_weights=weights, smoothing=smoothing, gamma=0.0)
        assert loss(LOGITS, targets).item() == pytest.approx(expected, rel=1e-5), name


def test_focal_by_hand():
    # p of the label is 0.9 and 0.2: (0.1**2 * -log 0.9 + 0.8**2 * -log 0.2) / 2
    logits = torch.tensor([[0.9, 0.1], [0.8, 0.2]]).log()
    expected = (0.1**2 * -math.log(0.9) + 0.8**2 * -math.log(0.2)) / 2
    assert loss_of("focal")(logits, torch.tensor([0, 1])).item() == pytest.approx(expected, rel=1e-5)


def test_generalised_cross_entropy_by_hand():
    # p of the label is 0.9 and 0.2
    logits = torch.tensor([[0.9, 0.1], [0.8, 0.2]]).log()
    labels = torch.tensor([0, 1])
    expected = ((1 - 0.9**0.7) + (1 - 0.2**0.7)) / 0.7 / 2
    assert loss_of("gce")(logits, labels).item() == pytest.approx(expected, rel=1e-5)
    mixed = torch.tensor([[0.25, 0.75], [0.0, 1.0]])  # by shares of the classes
    expected = (0.25 * (1 - 0.9**0.7) + 0.75 * (1 - 0.1**0.7) + (1 - 0.2**0.7)) / 0.7 / 2
    assert loss_of("gce")(logits, mixed).item() == pytest.approx(expected, rel=1e-5)


def test_generalised_cross_entropy_lies_between_cross_entropy_and_the_absolute_error():
    near = build_loss(LossConfig(name="gce", gce_q=1e-4))(LOGITS, LABELS)
    assert near.item() == pytest.approx(F.cross_entropy(LOGITS, LABELS).item(), rel=1e-3)
    absolute = 1 - LOGITS.softmax(dim=1)[torch.arange(7), LABELS].mean()
    assert build_loss(LossConfig(name="gce", gce_q=1.0))(LOGITS, LABELS).item() == pytest.approx(absolute.item())
    with pytest.raises(ConfigError, match="above 0 and at most 1"):
        LossConfig(gce_q=0.0)


def test_the_focal_loss_of_sure_answers_has_finite_gradients():
    logits = torch.tensor([[80.0, 0.0], [0.0, 80.0]], requires_grad=True)
    loss = loss_of("focal", gamma=0.5)(logits, torch.tensor([0, 0]))
    loss.backward()
    assert loss.item() == pytest.approx(40, rel=1e-5)  # the second: -log p = 80, doubt 1; over two images
    assert torch.isfinite(logits.grad).all()


def test_multilabel_focal_is_torchvisions():
    expected = sigmoid_focal_loss(LOGITS, PRESENT, alpha=-1, gamma=1.5, reduction="sum").item() / len(LOGITS)
    found = loss_of("focal", task="multilabel", gamma=1.5)(LOGITS, PRESENT)
    assert found.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_bce_on_labels_is_timms(smoothing):
    theirs = timm.loss.BinaryCrossEntropy(smoothing=smoothing, sum_classes=True)
    found = loss_of("bce", smoothing=smoothing)(LOGITS, LABELS)
    assert found.item() == pytest.approx(theirs(LOGITS, LABELS).item(), rel=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_bce_on_many_labels_is_timms(smoothing):
    theirs = timm.loss.BinaryCrossEntropy(smoothing=smoothing, sum_classes=True, pos_weight=WEIGHTS, smooth_dense=True)
    found = loss_of("bce", task="multilabel", class_weights=WEIGHTS, smoothing=smoothing)(LOGITS, PRESENT)
    assert found.item() == pytest.approx(theirs(LOGITS, PRESENT).item(), rel=1e-6)


def test_bce_by_hand():
    # sigmoid(0) = 1/2 for both classes: 2 * log 2
    assert loss_of("bce")(torch.zeros(1, 2), torch.tensor([1])).item() == pytest.approx(2 * math.log(2))


def test_mse_is_the_brier_score():
    found = loss_of("mse")(LOGITS, LABELS).item()
    probs = LOGITS.double().softmax(dim=1).numpy()
    assert found == pytest.approx(((probs - np.eye(4)[LABELS.numpy()]) ** 2).sum(axis=1).mean(), rel=1e-5)


def test_mse_weighs_images_by_their_label():
    # probs 1/2 each: a gap of 1/2 for every image; with weights 3 and 1 the mean stays 1/2
    logits = torch.tensor([[0.0, 0.0], [2.0, 0.0]])
    p = math.exp(2) / (math.exp(2) + 1)
    expected = (3 * 0.5 + 1 * 2 * p**2) / (3 + 1)
    loss = loss_of("mse", class_weights=torch.tensor([3.0, 1.0]))
    assert loss(logits, torch.tensor([0, 1])).item() == pytest.approx(expected, rel=1e-6)
    assert loss.total_weight(torch.tensor([0, 1])) == 4


def test_multilabel_mse_by_hand():
    # sigmoid(0) = 1/2: 1/4 for each of two classes, the present one counts threefold
    loss = loss_of("mse", task="multilabel", class_weights=torch.tensor([3.0, 5.0]))
    assert loss(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]])).item() == pytest.approx((3 + 1) / 4)


CASES = [
    *((name, "multiclass", targets) for name in NAMES for targets in (LABELS, SHARES)),
    *((name, "multilabel", PRESENT) for name in NAMES if name not in ("cross-entropy", "gce")),
]


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])
@pytest.mark.parametrize(("name", "task", "targets"), CASES)
def test_the_parts_of_a_batch_add_up_to_it(name, weights, task, targets):
    loss = loss_of(name, task=task, class_weights=weights, smoothing=0.1)
    parts = [(LOGITS[:3], targets[:3]), (LOGITS[3:5], targets[3:5]), (LOGITS[5:], targets[5:])]
    together = sum(loss(logits, part) * loss.total_weight(part) for logits, part in parts) / loss.total_weight(targets)
    assert together.item() == pytest.approx(loss(LOGITS, targets).item(), rel=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_the_gradient_is_the_losses_slope(name):
    """By central differences, in float64."""
    loss = loss_of(name, class_weights=WEIGHTS.double(), smoothing=0.1)
    assert torch.autograd.gradcheck(lambda logits: loss(logits, LABELS), LOGITS.double().requires_grad_())


@pytest.mark.parametrize("name", NAMES)
def test_a_better_answer_has_a_lower_loss(name):
    better, worse = (LOGITS + sign * F.one_hot(LABELS, 4) for sign in (1, -1))
    assert loss_of(name)(better, LABELS) < loss_of(name)(worse, LABELS)


def test_what_is_planned():
    assert LossConfig().filled("multiclass") == LossPlan(name="cross-entropy", label_smoothing=0.1)
    assert LossConfig().filled("multilabel") == LossPlan(name="bce", label_smoothing=0.0)
    assert LossConfig(name="focal").filled("multiclass").label_smoothing == 0
    asked = LossConfig(name="bce", label_smoothing=0.3, focal_gamma=1.0)
    assert vars(asked.filled("multiclass")) == vars(asked)


def test_cross_entropy_of_many_labels_is_refused():
    with pytest.raises(ConfigError, match="loss.name is cross-entropy.*--set loss.name=bce"):
        loss_of("cross-entropy", task="multilabel")


@pytest.mark.parametrize(
    ("name", "values"), [("label_smoothing", [-0.1, 1.0, math.nan]), ("focal_gamma", [-1.0, math.nan, math.inf])]
)
def test_impossible_settings_are_refused(name, values):
    for value in values:
        with pytest.raises(ConfigError, match=rf"loss\.{name} is {value}; it must be"):
            LossConfig(**{name: value})


def test_weights_and_logits_may_be_of_any_float():
    loss = loss_of("focal", class_weights=WEIGHTS)
    found = loss(LOGITS.double(), LABELS)
    assert found.dtype == torch.float64
    assert np.isfinite(found.item())
