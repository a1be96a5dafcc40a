"""Devices: choosing one, its precision, moving tensors there, and running out of memory.

The precision on a CPU is chosen by timing a step of the very network in each and by comparing their gradients.
"""

from __future__ import annotations

import contextlib
import copy
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from recog.core.errors import ConfigError, TrainingError
from recog.core.preprocess import Preprocess
from recog.models.classifier import Classifier
from recog.training.config import Device, Precision
from recog.training.distributed import World, broadcast


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


MIN_TIMED_PIXELS = 10_000_000  # of all images of all epochs: 1,000 images of 32 px 10 times
ROUNDS = 4
PROBED_PIXELS = 1 << 16  # of all images together: 64 images of 32 px
MIN_SPEEDUP = 1.1  # less is not worth a coarser arithmetic
MIN_GRADIENT_COSINE = 0.8  # rounding leaves 0.95 and more; a wrong result has about 0


@dataclass(frozen=True, kw_only=True)
class PrecisionTrial:
    """A step, forward and backward, in float32 and in bfloat16."""

    float32_ms: float  # the shortest of several, as other work on the machine can only lengthen it
    bfloat16_ms: float
    gradient_cosine: float  # of the two gradients of all weights; 1 is the same direction

    @property
    def precision(self) -> Precision:
        is_right = math.isfinite(self.gradient_cosine) and self.gradient_cosine >= MIN_GRADIENT_COSINE
        return "bfloat16" if is_right and self.float32_ms >= MIN_SPEEDUP * self.bfloat16_ms else "float32"

    def __str__(self) -> str:
        return (
            f"precision {self.precision}: a step takes {self.bfloat16_ms:.0f} ms in bfloat16 and {self.float32_ms:.0f} ms in "
            f"float32, cosine of the gradients {self.gradient_cosine:.3f}"
        )


def choose_precision(
    classifier: Classifier,
    preprocess: Preprocess,
    *,
    candidate: Precision,
    batch_size: int,
    num_images: int,
    world: World,
) -> tuple[Precision, list[str]]:
    """The `candidate` if it is float32 or faster than that on this CPU, and the figures; the first process measures for all.

    `num_images` is over all epochs. Short trainings use float32: the trial would take longer than it gains, and equal runs are to
    be equal on a busy machine too.
    """
    size, channels = preprocess.image_size, preprocess.channels
    if candidate == "float32" or num_images * math.prod(size) < MIN_TIMED_PIXELS:
        return "float32", []
    found = ["", ""]
    if world.is_writer:
        trial = try_bfloat16(classifier, image_size=size, channels=channels, batch_size=batch_size)
        found = [trial.precision, str(trial)]
    precision, note = broadcast(world, found)
    return precision, [note]


def try_bfloat16(
    classifier: Classifier, *, image_size: tuple[int, int], channels: int, batch_size: int
) -> PrecisionTrial:
    """Time steps of a copy of `classifier` on random images; torch's random state is left as it was."""
    height, width = image_size
    num_images = max(2, min(batch_size, PROBED_PIXELS // (height * width)))
    chance = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (num_images, height, width, channels), dtype=torch.uint8, generator=chance)
    network = copy.deepcopy(classifier).to(memory_format=torch.channels_last).train()
    seconds: dict[Precision, list[float]] = {"float32": [], "bfloat16": []}
    gradients: dict[Precision, torch.Tensor] = {}
    with torch.random.fork_rng(devices=[]):
        for _ in range(1 + ROUNDS):
            for precision, taken in seconds.items():
                torch.manual_seed(0)  # the same dropout in both
                started = time.perf_counter()
                gradients[precision] = _gradient(network, images, precision)
                taken.append(time.perf_counter() - started)
    cosine = F.cosine_similarity(gradients["float32"], gradients["bfloat16"], dim=0)
    return PrecisionTrial(  # without the first round, which allocates memory and compiles kernels
        float32_ms=1000 * min(seconds["float32"][1:]),
        bfloat16_ms=1000 * min(seconds["bfloat16"][1:]),
        gradient_cosine=float(cosine),
    )


def _gradient(network: Classifier, images: torch.Tensor, precision: Precision) -> torch.Tensor:
    """float32 [P], of cross-entropy with the classes in turn."""
    network.zero_grad(set_to_none=True)
    with autocast(network.device, precision):
        logits, _ = network(images)
    F.cross_entropy(logits.float(), torch.arange(len(images)) % logits.shape[1]).backward()  # type: ignore[no-untyped-call]
    return torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])
