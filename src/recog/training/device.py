"""Devices: choosing one, its precision, moving tensors there, and running out of memory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import nn

from recog.core.errors import ConfigError, TrainingError
from recog.training.config import Device, Precision


def choose_device(choice: Device, *, local_rank: int = 0) -> torch.device:
    """The device of process `local_rank` of this machine; each has a GPU of its own."""
    available = torch.cuda.is_available()
    if choice == "cpu" or (choice == "auto" and not available):
        return torch.device("cpu")
    if not available:
        raise ConfigError(
            "compute.device is cuda, but torch finds no usable GPU (torch.cuda.is_available() is false). "
            "Fix the driver, install a build of torch with CUDA, or use --device auto."
        )
    if local_rank >= torch.cuda.device_count():
        raise ConfigError(
            f"this machine has {torch.cuda.device_count()} GPUs, and process {local_rank + 1} needs its own. "
            "Start one process per GPU (torchrun --nproc-per-node gpu), or use --device cpu."
        )
    return torch.device("cuda", local_rank)


def has_bfloat16(device: torch.device) -> bool:
    """Whether `device` multiplies bfloat16 in hardware; elsewhere it is slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported())


def check_precision(device: torch.device, precision: Precision) -> None:
    if precision == "float16" and device.type != "cuda":
        raise ConfigError(
            "compute.precision is float16, which needs a GPU; on a CPU use bfloat16 or float32: "
            "--set compute.precision=float32."
        )


def autocast(device: torch.device, precision: Precision) -> contextlib.AbstractContextManager[None]:
    dtype = torch.float16 if precision == "float16" else torch.bfloat16
    return torch.autocast(device.type, dtype, enabled=precision != "float32")


def build_scaler(precision: Precision = "float32") -> torch.amp.GradScaler:
    """Scales the loss where float16 would round small gradients to 0 (Micikevicius et al., 2018); else does nothing."""
    return torch.amp.GradScaler("cuda", enabled=precision == "float16")


def move(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """`tensor` on `device`; out of pinned memory, without waiting for what the GPU is still doing."""
    return tensor.to(device, non_blocking=tensor.is_pinned()) if device.type == "cuda" else tensor.to(device)


MAX_HALVINGS = 4  # a batch of 64 is processed in parts of 4 at least; below that another setting is needed
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
    """Twice as many parts of a batch of `num_images`. TrainingError after four doublings, or if there are too few images."""
    doubled = min(2 * num_parts, num_images)
    if doubled == num_parts or doubled > planned << MAX_HALVINGS:
        raise TrainingError(
            f"out of memory, even with the {num_images} images of a step processed in {num_parts} parts. Use a smaller network "
            "or image size, a lower --batch-size, fewer --workers, or a machine with more memory."
        )
    return doubled


def describe_parts(num_parts: int, network: nn.Module) -> str:
    """A warning that names what changes."""
    has_batch_norm = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules())
    exact = (
        "BatchNorm uses the statistics of a part, so results differ slightly"
        if has_batch_norm
        else "loss and gradients are those of the whole batch"
    )
    return f"warning: out of memory; each batch is now processed in {num_parts} parts ({exact})"


@contextlib.contextmanager
def eval_mode(module: nn.Module) -> Iterator[None]:
    """Evaluation mode for the block; the mode of every sub-module is restored, even if the block raises."""
    modes = [(child, child.training) for child in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for child, was_training in modes:
            child.training = was_training
