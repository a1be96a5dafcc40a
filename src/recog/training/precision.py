"""Precision of training on a CPU, chosen by timing a step of the very network in each and by comparing their gradients.

Whether a CPU has bfloat16 arithmetic does not tell how fast a network is in it: for some shapes of layers torch takes a slow
path. So the steps are timed.
"""

from __future__ import annotations

import copy
import math
import time
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from recog.core.preprocess import Preprocess
from recog.models.classifier import Classifier
from recog.training.config import Precision
from recog.training.device import autocast
from recog.training.distributed import World, broadcast

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
