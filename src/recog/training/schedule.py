"""Learning rates as arithmetic: a function of the step, tested without an optimiser."""

from __future__ import annotations

import math


def cosine_lr(step: int, *, num_steps: int, num_warmup_steps: int, peak_lr: float) -> float:
    """Linear warm-up to `peak_lr`, then half a cosine down to 0 at `num_steps`. Loshchilov and Hutter (2017), SGDR."""
    if step < num_warmup_steps:
        return peak_lr * (step + 1) / num_warmup_steps
    progress = (step - num_warmup_steps) / max(1, num_steps - num_warmup_steps)
    return 0.5 * peak_lr * (1 + math.cos(math.pi * progress))
