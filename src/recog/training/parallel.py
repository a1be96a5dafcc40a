"""One network trained by several processes: its gradients, its BatchNorm, its chance."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator

import numpy as np
import torch
from timm.layers.norm_act import convert_sync_batchnorm
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from recog.core.chance import random_words
from recog.models.classifier import Classifier
from recog.training.distributed import World


def parallel(world: World, classifier: Classifier, *, will_freeze: bool = False) -> DistributedDataParallel | None:
    """`classifier` as several processes train it: the gradient is the mean of theirs. None where there is one process.

    It begins with the weights of process 0. Its buffers are each process's own; see `broadcast_tensors`. With `will_freeze`,
    parameters that require a gradient now may cease to for some steps.
    """
    if world.size == 1:
        return None
    devices = [classifier.device] if classifier.device.type == "cuda" else None
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", FutureWarning
        )  # its new name for broadcast_buffers is unknown to older releases
        return DistributedDataParallel(
            classifier, device_ids=devices, broadcast_buffers=False, find_unused_parameters=will_freeze
        )


@contextlib.contextmanager
def synchronised_batch_norm(world: World, classifier: Classifier) -> Iterator[None]:
    """BatchNorm sees the whole batch in the block, where the processes train on GPUs; SyncBatchNorm refuses a CPU's tensors.

    The layers in its place hold the same parameters and buffers, and make way for the old ones when the block ends.
    """
    if world.size == 1 or classifier.device.type != "cuda":
        yield
        return
    old = {name: module for name, module in classifier.named_modules() if isinstance(module, _BatchNorm)}
    convert_sync_batchnorm(classifier)  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        for name, module in old.items():
            module.train(classifier.training)
            classifier.set_submodule(name, module)


def synchronised(
    network: DistributedDataParallel | None, *, is_last_part: bool
) -> contextlib.AbstractContextManager[None]:
    """Around forward and backward of a part of a batch: gradients are exchanged with the last one only."""
    if network is None or is_last_part:
        return contextlib.nullcontext()
    no_sync: contextlib.AbstractContextManager[None] = network.no_sync()
    return no_sync


def seed_own_chance(world: World, *, seed: int, step: int) -> None:
    """Where several train, give torch's generator (dropout) a state of this process and step, whatever was drawn before.

    So their masks differ, and a resumed step has those that it had. One process alone keeps its stream of numbers.
    """
    if world.size > 1:
        low, high = random_words(seed, step, np.array([world.rank]), "dropout", 2)[0].tolist()
        torch.manual_seed(high << 32 | low)
