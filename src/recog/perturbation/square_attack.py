"""Square Attack: random search that asks for predictions only, so that a network without useful gradients cannot hide."""

from __future__ import annotations

import math

import torch

from recog.perturbation.gradient_attacks import Target, margin
from recog.training.threat import Threat

_FIRST_SHARE = 0.8  # of the image's area that the first squares cover
_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # queries of 10,000 after which the share is halved


def square(target: Target, threat: Threat, *, queries: int) -> torch.Tensor:
    """Squares of plus or minus eps per channel at random places are kept where they lower the margin. Largest change (linf) only.

    Andriushchenko et al. (2020), arXiv:1912.00049, algorithms 1 and 2, with the schedule of AutoAttack.
    """
    images = target.images
    channels, height, width = images.shape[1:]
    stripes = target.uniforms("square stripes", channels * width).view(-1, channels, 1, width).to(images)
    best = (images + threat.eps * torch.where(stripes < 0.5, -1.0, 1.0)).clamp(0, 1)
    terms = _margins(target, best)
    rows = torch.arange(height, device=images.device).view(1, 1, -1, 1)
    columns = torch.arange(width, device=images.device).view(1, 1, 1, -1)
    for query in range(1, queries):
        remaining = (terms <= 0).nonzero().squeeze(1).cpu()
        if not len(remaining):
            break
        part, current = target.part(remaining), best[remaining]
        share = _FIRST_SHARE / 2 ** sum(query * 10_000 / queries > limit for limit in _HALVINGS)
        side = max(1, min(height, width, round(math.sqrt(share * height * width))))
        draws = part.uniforms("square", 2 + channels, draw=query).to(images)
        top = (draws[:, 0] * (height - side + 1)).floor().view(-1, 1, 1, 1)
        left = (draws[:, 1] * (width - side + 1)).floor().view(-1, 1, 1, 1)
        inside = (rows >= top) & (rows < top + side) & (columns >= left) & (columns < left + side)
        signs = torch.where(draws[:, 2:] < 0.5, -1.0, 1.0).view(-1, channels, 1, 1)
        changed = threat.project(torch.where(inside, current + 2 * threat.eps * signs, current), part.images)
        new_terms = _margins(part, changed)
        is_better = new_terms > terms[remaining]
        best[remaining[is_better]], terms[remaining[is_better]] = changed[is_better], new_terms[is_better]
    return best


def _margins(target: Target, images: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return margin(target.logits_of(images), target.labels)
