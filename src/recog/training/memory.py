"""Out of memory in a step: how it is recognised, and what is given up for going on."""

from __future__ import annotations

import torch
from torch import nn

from recog.core.errors import TrainingError

MAX_HALVINGS = 4  # a batch of 64 goes through in parts of 4 at the least; what does not fit then needs another setting
_MESSAGES = (
    "not enough memory",
    "can't allocate memory",
    "cannot allocate memory",
    "out of memory",
)  # of torch's on a CPU


def is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(message in str(error).lower() for message in _MESSAGES)


def release_memory(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.empty_cache()


def more_parts(num_parts: int, num_images: int, *, planned: int) -> int:
    """Twice as many parts of a batch of `num_images`. TrainingError where that has been tried four times, or cannot be done."""
    doubled = min(2 * num_parts, num_images)
    if doubled == num_parts or doubled > planned << MAX_HALVINGS:
        raise TrainingError(
            f"out of memory, even with {num_images} images of a step put through the network in {num_parts} parts. Use a "
            "smaller network or image size, a lower --batch-size or fewer --workers, or a machine with more memory."
        )
    return doubled


def describe_parts(num_parts: int, network: nn.Module) -> str:
    """What was given up, in a line for a person."""
    has_batch_norm = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules())
    exact = (
        "BatchNorm sees the parts and not the whole, so the result differs a little"
        if has_batch_norm
        else "loss and gradients are those of the whole batch"
    )
    return (
        f"warning: out of memory; from here on a step's batch goes through the network in {num_parts} parts ({exact})"
    )
