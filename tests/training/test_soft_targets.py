"""The step on soft targets and weighted classes, against the loss worked out by hand."""

import numpy as np
import pytest
import torch
from torch import nn

from recog.data.augment.policies import AugmentConfig
from recog.data.loader import TrainLoader
from recog.data.store import ImageStore
from recog.models.classifier import Classifier
from recog.training.config import LossConfig
from recog.training.fit import EpochLog, fit, train_step
from recog.training.losses import build_loss
from recog.training.state import TrainState


class Constant(nn.Module):
    """Logits that are its bias, for a loss that can be worked out."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(1, 3)
        nn.init.zeros_(self.head.weight)
        with torch.no_grad():
            self.head.bias.copy_(torch.tensor([0.0, 1.0, 2.0]))

    def forward_features(self, pixels):
        return pixels

    def forward_head(self, maps, pre_logits):
        return maps.mean(dim=(1, 2, 3))[:, None]

    def get_classifier(self):
        return self.head


def make_state(class_weights=None):
    network = Constant()
    optimizer = torch.optim.SGD([{"params": network.parameters(), "lr_factor": 1.0}], lr=0.1)
    classifier = Classifier(network, mean=(0.5,), std=(0.5,))
    loss = build_loss(LossConfig(label_smoothing=0.0), class_weights=class_weights)
    return TrainState(classifier=classifier, optimizer=optimizer, loss=loss)


IMAGES = torch.zeros((2, 4, 4, 1), dtype=torch.uint8)
MINUS_LOG_PROBS = -np.log(np.exp([0, 1, 2]) / np.exp([0, 1, 2]).sum())


def test_soft_targets_weigh_each_class_by_its_share():
    targets = torch.tensor([[0.25, 0.75, 0.0], [0.0, 0.0, 1.0]])
    log = train_step(make_state(), IMAGES, targets, lr=0.1)
    expected = (0.25 * MINUS_LOG_PROBS[0] + 0.75 * MINUS_LOG_PROBS[1] + MINUS_LOG_PROBS[2]) / 2
    assert log.loss == pytest.approx(expected, rel=1e-5)
    assert log.num_images == 2


def test_one_hot_targets_are_the_labels():
    labels = torch.tensor([2, 0])
    soft = train_step(make_state(), IMAGES, nn.functional.one_hot(labels, 3).float(), lr=0.1)
    assert soft.loss == pytest.approx(train_step(make_state(), IMAGES, labels, lr=0.1).loss, rel=1e-6)


def test_class_weights_make_a_weighted_mean():
    weights = torch.tensor([3.0, 1.0, 1.0])
    log = train_step(make_state(class_weights=weights), IMAGES, torch.tensor([0, 2]), lr=0.1)
    assert log.loss == pytest.approx((3 * MINUS_LOG_PROBS[0] + MINUS_LOG_PROBS[2]) / 4, rel=1e-5)


def test_an_epoch_of_mixed_images_trains():
    store = ImageStore(list(np.random.default_rng(0).integers(0, 256, (8, 4, 4, 1), dtype=np.uint8)))
    augment = AugmentConfig(policy="none", mixup=0.5, cutmix=1.0)
    loader = TrainLoader(
        store=store, targets=np.arange(8) % 3, augment=augment, image_size=(4, 4), batch_size=4, seed=0, num_classes=3
    )
    *_, last = fit(make_state(), loader, lambda step: 0.1, epochs=1)
    assert isinstance(last, EpochLog)
    assert last.num_images == 8
