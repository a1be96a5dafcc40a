"""What is particular about a GPU, in one place: which one, in which precision, and how images get there."""

from __future__ import annotations

import contextlib
from typing import Literal

import torch

from recog.core.errors import ConfigError

Device = Literal["auto", "cpu", "cuda"]  # auto: a GPU where there is one
Precision = Literal["float32", "bfloat16", "float16"]  # of the forward pass; float16 is for GPUs that lack bfloat16


def choose_device(choice: Device, *, local_rank: int = 0) -> torch.device:
    """The device of process `local_rank` of this machine; each has a GPU of its own."""
    available = torch.cuda.is_available()
    if choice == "cpu" or (choice == "auto" and not available):
        return torch.device("cpu")
    if not available:
        raise ConfigError(
            "compute.device is cuda, and torch finds no GPU that it can use here (torch.cuda.is_available() is false). "
            "Mend the driver, install a build of torch with CUDA, or use --set compute.device=auto."
        )
    if local_rank >= torch.cuda.device_count():
        raise ConfigError(
            f"this machine has {torch.cuda.device_count()} GPUs, and process {local_rank + 1} would need one of its own. "
            "Start as many processes as there are GPUs (torchrun --nproc-per-node gpu), or use --set compute.device=cpu."
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
            "compute.precision is float16, which is for GPUs; on a CPU use bfloat16 or float32: "
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
