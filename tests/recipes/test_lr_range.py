import numpy as np
import pytest
import torch
from torch import nn

from recog.core.errors import TrainingError
from recog.data.augment.policies import AugmentConfig
from recog.data.loader import TrainLoader
from recog.data.store import ImageStore
from recog.models.classifier import Classifier
from recog.models.networks.resnet import resnet8
from recog.recipes.find_lr import LrTrial, range_test, rate_at, suggest_lr, valley
from recog.training.config import LossConfig, OptimConfig
from recog.training.losses import build_loss
from recog.training.state import build_state


def loader_of(num_images=48):
    labels = np.arange(num_images) % 3
    noise = np.random.default_rng(0).integers(0, 60, (num_images, 8, 8, 1))
    images = (labels[:, None, None, None] * 90 + noise).astype(np.uint8)
    return TrainLoader(
        store=ImageStore(list(images)),
        targets=labels,
        augment=AugmentConfig(policy="none"),
        image_size=(8, 8),
        batch_size=16,
        seed=0,
    )


def state_of(network=None):
    torch.manual_seed(0)
    network = network or resnet8(num_classes=3, in_chans=1)
    classifier = Classifier(network, mean=(0.5,), std=(0.25,))
    return build_state(
        classifier, optim=OptimConfig().filled(epochs=1), loss=build_loss(LossConfig()), precision="float32"
    )


# where the valley is


def test_the_valley_of_a_straight_fall():
    # 30 falling losses: from place -1, as fastai counts, 10 and 5 on
    assert valley([30.0 - i for i in range(30)]) == 14


def test_a_flat_start_and_an_explosion_are_not_part_of_the_valley():
    flat, fall, explosion = [5.0] * 10, [5.0 - 0.1 * i for i in range(1, 31)], [9.0, 20.0, 50.0]
    # the fall with one flat loss before it: 31 long, ending at place 39; 39 - 31 + 10 + 5
    assert valley(flat + fall + explosion) == 23


def test_bumps_do_not_end_a_valley():
    straight = [30.0 - i for i in range(30)]
    bumpy = [value for i, loss in enumerate(straight) for value in ([loss, loss + 5] if i % 10 == 9 else [loss])]
    assert valley(bumpy) is not None
    assert bumpy[valley(bumpy)] == pytest.approx(straight[14], abs=3)


@pytest.mark.parametrize("losses", [[], [1.0], [1.0] * 50, [float(i) for i in range(50)], [9.0 - i for i in range(9)]])
def test_where_the_loss_hardly_falls_there_is_no_valley(losses):
    assert valley(losses) is None


def test_the_suggestion_is_a_rate_of_the_fall_in_two_digits():
    rates = [rate_at(step, 1e-5, 10, 100) for step in range(100)]
    losses = [2.0] * 40 + [2.0 - 0.02 * i for i in range(1, 41)] + [2.0 * 2**i for i in range(20)]
    trials = [LrTrial(lr=lr, loss=loss, smoothed=loss) for lr, loss in zip(rates, losses, strict=True)]
    # the first 10 are left out; 41 long, ending at place 79 - 10: 69 - 41 + 13 + 6 = 47, step 57 of all
    # 1e-5 * 10^(6 * 57 / 99) = 0.0285
    assert suggest_lr(trials) == float(f"{rates[57]:.2g}") == 0.028


def test_a_fall_within_the_noise_of_batches_suggests_nothing():
    """As after a head that fits already: 100 steps down, by 4 % in all."""
    trials = [LrTrial(lr=10.0**-i, loss=1 - i / 2500, smoothed=1 - i / 2500) for i in range(100)]
    assert suggest_lr(trials) is None
    deeper = [LrTrial(lr=10.0**-i, loss=1 - i / 1000, smoothed=1 - i / 1000) for i in range(100)]
    assert suggest_lr(deeper) is not None


# the test itself


def test_the_rates_grow_by_one_factor():
    rates = [rate_at(step, 1e-3, 1e2, 6) for step in range(6)]
    assert rates == pytest.approx([1e-3, 1e-2, 1e-1, 1, 10, 100])


def test_the_loss_is_measured_at_rising_rates_until_it_diverges():
    found = range_test(state_of(), loader_of(), usual_lr=0.1)
    rates = [trial.lr for trial in found.trials]
    assert rates == pytest.approx([rate_at(step, 1e-5, 10, 100) for step in range(len(rates))])
    average = 0.0
    for step, trial in enumerate(found.trials, start=1):
        average = 0.98 * average + 0.02 * trial.loss
        assert trial.smoothed == pytest.approx(average / (1 - 0.98**step))
    assert 1e-3 < found.suggestion < 3
    assert found.diverged == (len(found.trials) < 100)


class Exploding(nn.Module):
    """Its answers grow with its weight without bound."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(64, 3)

    def forward_features(self, images):
        return images

    def forward_head(self, features, pre_logits=False):
        flat = 1e6 * features.flatten(1)
        return flat if pre_logits else self.fc(flat)

    def get_classifier(self):
        return self.fc


def test_a_loss_that_explodes_ends_the_test():
    found = range_test(state_of(Exploding()), loader_of(), usual_lr=1e6)
    assert found.diverged
    assert len(found.trials) < 100
    assert found.suggestion is None


def test_a_loss_that_is_not_finite_from_the_start_is_an_error():
    network = Exploding()
    with torch.no_grad():
        network.fc.weight.fill_(float("nan"))
    with pytest.raises(TrainingError, match="the loss is nan"):
        range_test(state_of(network), loader_of(), usual_lr=0.1)
