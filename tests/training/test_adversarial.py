"""Adversarial losses on a linear network, where the worst change has a closed form."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from recog.core.config import build_config, nest
from recog.core.errors import ConfigError
from recog.models.classifier import Classifier
from recog.models.networks.resnet import resnet8
from recog.recipes.config import TrainConfig, unused_settings
from recog.training.adversarial import adversarial_loss, as_pixels, attack, divergence
from recog.training.config import AdversarialConfig, LossConfig, OptimConfig
from recog.training.fit import attacked_logits, train_step
from recog.training.losses import build_loss
from recog.training.state import build_state, restore_snapshot, take_snapshot


class Flat(nn.Module):
    """One linear layer on the pixels, with timm's method names."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.fc = nn.Linear(16, 2)

    def forward_features(self, images):
        return images

    def forward_head(self, features, pre_logits=False):
        flat = features.flatten(1)
        return flat if pre_logits else self.fc(flat)

    def get_classifier(self):
        return self.fc


IMAGES = torch.from_numpy(np.random.default_rng(0).integers(90, 160, (8, 4, 4, 1), dtype=np.uint8))
LABELS = torch.tensor([0, 1] * 4)
EPS = 0.1


def flat():
    return Classifier(Flat(), mean=(0.0,), std=(1.0,))


def worst(classifier):
    """For two classes the loss rises along one direction: the signs of the difference of weights."""
    weights = classifier.network.fc.weight
    away = (weights[1] - weights[0]).sign().view(1, 1, 4, 4) * torch.where(LABELS == 0, 1.0, -1.0).view(-1, 1, 1, 1)
    return as_pixels(IMAGES) + EPS * away


@pytest.mark.parametrize("config", [{"method": "pgd", "steps": 10}, {"method": "fgsm-rs", "step_size": 2 * EPS}])
def test_the_loss_is_that_of_the_worst_images(config):
    classifier, loss = flat(), build_loss(LossConfig(label_smoothing=0.0))
    found = adversarial_loss(classifier, classifier, loss, IMAGES, LABELS, AdversarialConfig(eps=EPS, **config))
    expected = F.cross_entropy(classifier.forward_pixels(worst(classifier))[0], LABELS)
    torch.testing.assert_close(found, expected)
    assert found > F.cross_entropy(classifier(IMAGES)[0], LABELS)


def test_trades_adds_the_divergence_of_the_worst_answers():
    classifier, loss = flat(), build_loss(LossConfig(label_smoothing=0.0))
    config = AdversarialConfig(eps=EPS, method="trades", steps=20, beta=2.0)
    found = adversarial_loss(classifier, classifier, loss, IMAGES, LABELS, config)
    probs = classifier(IMAGES)[0].softmax(dim=1)
    away = (classifier.network.fc.weight[1] - classifier.network.fc.weight[0]).sign().view(1, 1, 4, 4)
    sides = [classifier.forward_pixels(as_pixels(IMAGES) + sign * EPS * away)[0] for sign in (-1, 1)]
    # of the two ends of the line, the one whose answers are further away, for each image
    gaps = torch.stack([(probs * (probs.log() - side.log_softmax(dim=1))).sum(dim=1) for side in sides]).amax(dim=0)
    expected = F.cross_entropy(classifier(IMAGES)[0], LABELS) + 2.0 * gaps.mean()
    assert 0.95 * expected < found <= expected + 1e-6  # the start decides to which end an image goes


def test_divergence_by_hand():
    probs = torch.tensor([[0.5, 0.5]])
    logits = torch.tensor([[0.2, 0.8]]).log()
    expected = 0.5 * np.log(0.5 / 0.2) + 0.5 * np.log(0.5 / 0.8)
    assert float(divergence(logits, probs)) == pytest.approx(expected)


def test_attacks_leave_the_network_as_it_was():
    """BatchNorm's statistics, gradients and the mode; changes stay within eps."""
    torch.manual_seed(0)
    classifier = Classifier(resnet8(num_classes=2, in_chans=1), mean=(0.5,), std=(0.25,)).train()
    before = {name: value.clone() for name, value in classifier.state_dict().items()}
    pixels = as_pixels(IMAGES.repeat(1, 4, 4, 1))
    changed = attack(classifier, pixels, lambda logits: F.cross_entropy(logits, LABELS), AdversarialConfig(eps=0.05))
    assert float((changed - pixels).abs().max()) <= 0.05 + 1e-6
    assert classifier.training
    assert all(parameter.grad is None for parameter in classifier.parameters())
    for name, value in classifier.state_dict().items():
        assert torch.equal(value, before[name])


def test_a_step_and_the_validation_are_on_the_worst_images():
    config = AdversarialConfig(eps=EPS, steps=10)
    optim = OptimConfig(name="sgd", lr=0.5).filled(epochs=1)
    loss = build_loss(LossConfig(label_smoothing=0.0))
    state = build_state(flat(), optim=optim, loss=loss, precision="float32", adversarial=config)
    expected, _ = state.classifier.forward_pixels(worst(state.classifier))
    logits = attacked_logits(state.classifier, IMAGES.numpy(), LABELS.numpy(), state)
    np.testing.assert_allclose(logits, expected.detach().numpy(), atol=1e-5)
    log = train_step(state, IMAGES, LABELS, lr=0.5)
    assert log.loss == pytest.approx(float(F.cross_entropy(expected, LABELS).detach()), rel=1e-5)


def test_eps_grows_over_the_first_steps():
    """Of 20 steps the first 5: a fifth of eps and of a step's size after another, then the whole of both."""
    config = AdversarialConfig(eps=0.3, steps=5, warmup_fraction=0.25)
    assert config.size == pytest.approx(0.15)
    optim = OptimConfig(name="sgd", lr=0.5).filled(epochs=1)
    state = build_state(
        flat(), optim=optim, loss=build_loss(LossConfig()), precision="float32", adversarial=config, num_steps=20
    )
    grown = [config.at(step, state.num_adversarial_warmup_steps) for step in range(7)]
    assert [each.eps for each in grown] == pytest.approx([0.06, 0.12, 0.18, 0.24, 0.3, 0.3, 0.3])
    assert [each.size for each in grown] == pytest.approx([0.03, 0.06, 0.09, 0.12, 0.15, 0.15, 0.15])
    state.num_steps_done = 1
    worst_loss = adversarial_loss(state.classifier, state.classifier, state.loss, IMAGES, LABELS, grown[1])
    torch.manual_seed(0)
    log = train_step(state, IMAGES, LABELS, lr=0.5)
    assert log.loss == pytest.approx(float(worst_loss.detach()), abs=0.01)
    assert (
        build_state(
            flat(), optim=optim, loss=build_loss(LossConfig()), precision="float32", num_steps=20
        ).num_adversarial_warmup_steps
        == 0
    )


def test_a_resumed_run_takes_the_same_steps():
    """Random starts come from the generator that a snapshot holds."""
    optim = OptimConfig(name="sgd", lr=0.1).filled(epochs=1)
    states = [
        build_state(
            flat(),
            optim=optim,
            loss=build_loss(LossConfig()),
            precision="float32",
            adversarial=AdversarialConfig(eps=EPS),
        )
        for _ in range(2)
    ]
    whole, resumed = states
    torch.manual_seed(7)
    train_step(whole, IMAGES, LABELS, lr=0.1)
    saved = copy.deepcopy(take_snapshot(whole))
    expected = [train_step(whole, IMAGES, LABELS, lr=0.1).loss for _ in range(2)]
    torch.manual_seed(8)
    restore_snapshot(resumed, saved)
    assert [train_step(resumed, IMAGES, LABELS, lr=0.1).loss for _ in range(2)] == expected


def test_settings():
    def built(settings):
        return build_config(TrainConfig, nest(settings)).adversarial

    assert built({"adversarial.eps": "8/255"}).eps == pytest.approx(8 / 255)
    assert AdversarialConfig(eps=0.1, steps=10).size == pytest.approx(0.025)
    assert AdversarialConfig(eps=0.1, method="fgsm-rs").size == pytest.approx(0.125)
    assert AdversarialConfig(eps=0.1, method="fgsm-rs").num_steps == 1
    for settings, message in (
        ({"adversarial.eps": 8.0}, "from 0 to 1"),
        ({"adversarial.eps": "8/0"}, "must be a number"),
        ({"adversarial.eps": 0.1, "adversarial.steps": 0}, "steps is 0"),
        ({"adversarial.method": "trades"}, "need adversarial.eps above 0"),
        ({"adversarial.eps": 0.1, "adversarial.method": "madry"}, "must be one of pgd, trades, fgsm-rs"),
    ):
        with pytest.raises(ConfigError, match=message):
            built(settings)
    with pytest.raises(ConfigError, match="trades, which needs one class per image"):
        AdversarialConfig(eps=0.1, method="trades").reasons("multilabel")
    assert AdversarialConfig().reasons("multilabel") == []
    config = build_config(TrainConfig, nest({"adversarial.eps": 0.1}))
    assert unused_settings(config, "head") == {"adversarial.eps": ("finetune", "scratch")}
