"""A training run of 24 steps in a tenth of a second, with all that keeps a state, that can be saved and taken up at any step."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from safetensors.torch import save
from timm.utils.model_ema import ModelEmaV3
from torch import nn

from recog.data.augment.batch import AugmentConfig
from recog.data.loader import TrainLoader
from recog.data.store import ImageStore
from recog.models.classifier import Classifier
from recog.training.checkpoint import Checkpoints
from recog.training.config import CheckpointConfig, LossConfig, OptimConfig
from recog.training.fit import StepLog, fit
from recog.training.losses import build_loss
from recog.training.optim import build_optimizer
from recog.training.schedule import cosine_lr
from recog.training.state import TrainState, restore_snapshot, take_snapshot

EPOCHS, STEPS, BATCH, NUM_CLASSES = 3, 8, 4, 3


class Small(nn.Module):
    """2,987 parameters with all that keeps a state: BatchNorm's statistics, dropout's coins."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.2), nn.Conv2d(8, 38, 3, padding=1)
        )
        self.fc = nn.Linear(38, NUM_CLASSES)

    def forward_features(self, images):
        return self.body(images)

    def forward_head(self, features, pre_logits=False):
        pooled = nn.functional.dropout(features.relu().mean(dim=(2, 3)), 0.1, self.training)
        return pooled if pre_logits else self.fc(pooled)

    def get_classifier(self):
        return self.fc


def made(optimizer="sgd"):
    """A state as a run builds it, its random state included."""
    torch.manual_seed(0)
    classifier = Classifier(Small(), mean=(0.5,), std=(0.25,)).to(memory_format=torch.channels_last)
    return TrainState(
        classifier=classifier,
        optimizer=build_optimizer(
            classifier.network, classifier.classifier, OptimConfig(name=optimizer).filled(epochs=1)
        ),
        loss=build_loss(LossConfig()),
        precision="bfloat16",
        ema=ModelEmaV3(classifier, decay=0.9),
        max_grad_norm=1.0,
    )


def loader():
    size = STEPS * BATCH + 1
    images = np.random.default_rng(0).integers(0, 256, (size, 8, 8, 1), dtype=np.uint8)
    return TrainLoader(
        store=ImageStore(list(images)),
        targets=np.arange(size) % NUM_CLASSES,
        augment=AugmentConfig(policy="standard", geometry="warp", mirror=True, mixup=0.5),
        image_size=(8, 8),
        batch_size=BATCH,
        seed=0,
        num_classes=NUM_CLASSES,
    )


def lr_at(step):
    return cosine_lr(step, num_steps=EPOCHS * STEPS, num_warmup_steps=3, peak_lr=0.1)


def hash_of(state):
    """sha256 over everything that a run could ship: the weights, their average, the optimiser's momentum."""
    tensors = {f"a.{k}": v.contiguous() for k, v in state.classifier.state_dict().items()}
    tensors |= {f"b.{k}": v.contiguous() for k, v in state.ema.module.state_dict().items()}
    momenta = state.optimizer.state_dict()["state"]
    for number, values in momenta.items():
        kept = {name: value for name, value in values.items() if isinstance(value, torch.Tensor)}
        tensors |= {f"c.{number}.{name}": value.contiguous() for name, value in kept.items()}
    return hashlib.sha256(save(tensors)).hexdigest()


def checkpoints_in(folder):
    return Checkpoints(folder, {}, CheckpointConfig())


def train(folder, *, every=3, on_start=None, on_saved=None):
    """Train from the newest checkpoint in `folder` to the end, saving every few steps and after each epoch; the final state."""
    store, state = checkpoints_in(folder), made()
    loaded = store.load_newest()
    if loaded is not None:
        restore_snapshot(state, loaded.state)
    if on_start is not None:
        on_start(state.num_steps_done)
    for log in fit(state, loader(), lr_at, epochs=EPOCHS):
        if not isinstance(log, StepLog) or state.num_steps_done % every == 0:
            store.save(take_snapshot(state), epoch=state.epoch, step=state.step)
            if on_saved is not None:
                on_saved(state.num_steps_done)
    return state
