"""Some steps of training in each of several settings, by however many processes there are; each saves what it came to.

usage: parallel_steps.py PREFIX, alone or under torchrun
"""

import sys

import numpy as np
import torch
from torch import nn

from recog.data.loader import share
from recog.models.classifier import Classifier
from recog.training.config import LossConfig, OptimConfig
from recog.training.distributed import joined, parallel
from recog.training.fit import collect_logits, train_step
from recog.training.losses import build_loss
from recog.training.optim import build_optimizer
from recog.training.state import TrainState

BATCH, SIDE, CLASSES, STEPS = 11, 8, 3, 4  # 11 images: two processes have 5 and 6, three 3, 4 and 4


class Small(nn.Module):
    """A convolution and a linear layer, with timm's method names; no BatchNorm."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 6, 3)
        self.fc = nn.Linear(6, CLASSES)

    def forward_features(self, images):
        return self.conv(images).relu()

    def forward_head(self, features, pre_logits=False):
        pooled = features.mean(dim=(2, 3))
        return pooled if pre_logits else self.fc(pooled)

    def get_classifier(self):
        return self.fc


def steps(world, *, weights=None, soft=False, thawed_from=0, **settings):
    torch.manual_seed(world.rank)  # the first process's weights must win
    classifier = Classifier(Small(), mean=(0.5,), std=(0.25,))
    network = parallel(world, classifier, will_freeze=thawed_from > 0)
    state = TrainState(
        classifier=classifier,
        optimizer=build_optimizer(classifier.network, classifier.classifier, OptimConfig(lr=0.1).filled(epochs=1)),
        loss=build_loss(LossConfig(label_smoothing=0.1), class_weights=weights),
        world=world,
        parallel=network,
        **settings,
    )
    rng = np.random.default_rng(0)
    losses, norms = [], []
    for number in range(STEPS):
        classifier.network.conv.requires_grad_(number >= thawed_from)
        images = torch.from_numpy(rng.integers(0, 256, (BATCH, SIDE, SIDE, 1), dtype=np.uint8))
        targets = torch.from_numpy(rng.integers(0, CLASSES, BATCH))
        if soft:
            targets = torch.from_numpy(rng.dirichlet(np.ones(CLASSES), BATCH)).float()
        mine = share(BATCH, world.rank, world.size)
        log = train_step(state, images[mine], targets[mine], lr=0.1)
        assert log.num_images == BATCH
        losses.append(log.loss)
        norms.append(log.grad_norm or 0.0)
    held_out = rng.integers(0, 256, (23, SIDE, SIDE, 1), dtype=np.uint8)
    evaluation = collect_logits(classifier, held_out, precision="float32", batch_size=4, world=world)
    few = collect_logits(classifier, held_out[:1], precision="float32", world=world)
    return {
        "losses": np.array(losses),
        "norms": np.array(norms),
        "logits": evaluation.logits,
        "features": evaluation.features,
        "few": few.logits,
        "weights": torch.cat([parameter.detach().flatten() for parameter in classifier.parameters()]).numpy(),
    }


def main(prefix):
    torch.set_num_threads(1)
    with joined() as world:
        found = {
            "plain": steps(world),
            "weighted": steps(world, weights=torch.tensor([0.2, 1.0, 3.0])),
            "parts": steps(world, weights=torch.tensor([0.2, 1.0, 3.0]), accumulation=3),
            "many parts": steps(world, accumulation=8),
            "clipped": steps(world, max_grad_norm=0.01),
            "soft": steps(world, soft=True),
            "thawed": steps(world, thawed_from=2),
        }
        arrays = {f"{setting}/{name}": array for setting, names in found.items() for name, array in names.items()}
        np.savez(f"{prefix}-{world.rank}.npz", **arrays)


if __name__ == "__main__":
    main(sys.argv[1])
