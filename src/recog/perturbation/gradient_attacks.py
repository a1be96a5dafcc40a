"""Attacks that follow the gradient of the loss at the pixels: FGSM, PGD, and Auto-PGD with its losses."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from recog.core.chance import uniforms
from recog.training.threat import Threat

Logits = Callable[[torch.Tensor], torch.Tensor]  # pixels float [B, C, H, W] in [0, 1] -> logits [B, K]
LossTerms = Callable[
    [torch.Tensor, torch.Tensor], torch.Tensor
]  # logits [B, K], labels int64 [B] -> [B], higher is worse


@dataclass(frozen=True, kw_only=True)
class Target:
    """Attacked `images` float [B, C, H, W] in [0, 1] with `labels` int64 [B]; `indices` int64 [B] stand for the images."""

    logits_of: Logits
    images: torch.Tensor
    labels: torch.Tensor
    indices: NDArray[np.int64]
    seed: int

    def uniforms(self, stream: str, count: int, *, draw: int = 0) -> torch.Tensor:
        """Float32 [B, count] in [0, 1), a function of (seed, image, stream, draw)."""
        return torch.from_numpy(uniforms(self.seed, draw, self.indices, stream, count).astype(np.float32)).clamp(
            max=1 - 1e-7
        )

    def start(self, threat: Threat, stream: str, restart: int) -> torch.Tensor:
        draws = self.uniforms(stream, self.images[0].numel(), draw=restart)
        return threat.start(self.images, draws.view(self.images.shape).to(self.images))

    def is_fooled(self, images: torch.Tensor) -> torch.Tensor:
        """Bool [B]: whether another class than the label is predicted."""
        with torch.no_grad():
            return self.logits_of(images).argmax(dim=1) != self.labels

    def part(self, keep: torch.Tensor) -> Target:
        return replace(
            self, images=self.images[keep], labels=self.labels[keep], indices=self.indices[keep.cpu().numpy()]
        )


def cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(logits, labels, reduction="none")


def margin(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The highest other logit less the label's: above 0 where another class is predicted."""
    own = logits.gather(1, labels[:, None]).squeeze(1)
    others = logits.scatter(1, labels[:, None], -math.inf).amax(dim=1)
    return others - own


def dlr(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Difference of logits ratio, which shifts and scales of the logits do not change; needs three classes.

    Croce and Hein (2020), "Reliable evaluation of adversarial robustness", arXiv:2003.01690, equation 6.
    """
    ordered = logits.sort(dim=1, descending=True).values
    return margin(logits, labels) / (ordered[:, 0] - ordered[:, 2] + 1e-12)


def targeted_dlr(wanted: torch.Tensor) -> LossTerms:
    """The same for another class `wanted` int64 [B], equation 7; needs four classes."""

    def terms(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        ordered = logits.sort(dim=1, descending=True).values
        gap = logits.gather(1, wanted[:, None]) - logits.gather(1, labels[:, None])
        return gap.squeeze(1) / (ordered[:, 0] - (ordered[:, 2] + ordered[:, 3]) / 2 + 1e-12)

    return terms


def gradient(target: Target, images: torch.Tensor, loss: LossTerms) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(gradient at `images`, loss [B], whether each is fooled, bool [B])."""
    images = images.detach().requires_grad_()
    with torch.enable_grad():
        logits = target.logits_of(images)
        terms = loss(logits, target.labels)
        (found,) = torch.autograd.grad(terms.sum(), images)
    return found, terms.detach(), logits.detach().argmax(dim=1) != target.labels


def fgsm(target: Target, threat: Threat) -> torch.Tensor:
    """One step of size eps along the gradient of the cross-entropy. Goodfellow et al. (2015), arXiv:1412.6572."""
    found, _, _ = gradient(target, target.images, cross_entropy)
    return threat.project(target.images + threat.eps * threat.direction(found), target.images)


def pgd(target: Target, threat: Threat, *, steps: int, restarts: int) -> torch.Tensor:
    """Projected gradient ascent on the cross-entropy from random starts, steps of 2.5 eps / `steps`.

    Madry et al. (2018), arXiv:1706.06083. Of each image, the first changed form that fools, else the last.
    """
    result = target.images.clone()
    remaining = torch.arange(len(result))
    for restart in range(restarts):
        part = target.part(remaining)
        images = part.start(threat, "pgd", restart)
        found = torch.zeros(len(remaining), dtype=torch.bool)
        for _ in range(steps):
            slope, _, is_fooled = gradient(part, images, cross_entropy)
            result[remaining[is_fooled & ~found]] = images[is_fooled & ~found]
            found |= is_fooled
            images = threat.project(images + 2.5 * threat.eps / steps * threat.direction(slope), part.images)
        result[remaining[~found]] = images[~found]
        remaining = remaining[~found & ~part.is_fooled(images)]
        if not len(remaining):
            break
    return result


def checkpoints(num_steps: int) -> list[int]:
    """The steps at which Auto-PGD looks back: after 22 % of all, then at distances that shrink by 3 points down to 6 %."""
    shares, places = [0.0, 0.22], []
    while shares[-1] <= 1:
        places.append(math.ceil(shares[-1] * num_steps - 1e-9))
        shares.append(shares[-1] + max(shares[-1] - shares[-2] - 0.03, 0.06))
    return sorted(set(places))


def auto_pgd(
    target: Target, threat: Threat, loss: LossTerms, *, steps: int, stream: str, restart: int = 0
) -> torch.Tensor:
    """Gradient ascent with momentum that halves its step, from 2 eps on, where the loss no longer rises as it should.

    Croce and Hein (2020), algorithm 1. Of each image, the first changed form that fools, else the one with the highest loss.
    """
    images = target.start(threat, stream, restart)
    slope, terms, found = gradient(target, images, loss)
    best, best_terms, best_slope = images.clone(), terms.clone(), slope.clone()
    fooling = images.clone()
    before, last_terms = images, terms
    size = torch.full_like(terms, 2 * threat.eps)
    num_rises, last_place = torch.zeros_like(terms), 0
    terms_at_check, size_at_check = best_terms.clone(), size.clone()
    places = {*checkpoints(steps)}
    for step in range(1, steps + 1):
        moved = threat.project(images + size.view(-1, 1, 1, 1) * threat.direction(slope), target.images)
        if step > 1:  # the share of the new step in a mean with the one before
            moved = threat.project(images + 0.75 * (moved - images) + 0.25 * (images - before), target.images)
        before, images = images, moved
        slope, terms, is_fooled = gradient(target, images, loss)
        fooling[is_fooled & ~found] = images[is_fooled & ~found]
        found |= is_fooled
        is_better = terms > best_terms
        best[is_better], best_terms[is_better], best_slope[is_better] = (
            images[is_better],
            terms[is_better],
            slope[is_better],
        )
        num_rises += terms > last_terms
        last_terms = terms
        if step in places:
            seldom = num_rises < 0.75 * (step - last_place)
            stuck = (size == size_at_check) & (best_terms <= terms_at_check)
            size_at_check, terms_at_check = size.clone(), best_terms.clone()
            halve = seldom | stuck
            size[halve] /= 2
            images, slope = images.clone(), slope.clone()
            images[halve], slope[halve], last_terms = (
                best[halve],
                best_slope[halve],
                torch.where(halve, best_terms, terms),
            )
            num_rises, last_place = torch.zeros_like(terms), step
        if bool(found.all()):
            break
    return torch.where(found.view(-1, 1, 1, 1), fooling, best)


def apgd_ce(target: Target, threat: Threat, *, steps: int, restarts: int) -> torch.Tensor:
    """Auto-PGD on the cross-entropy."""
    ascent = partial(auto_pgd, threat=threat, loss=cross_entropy, steps=steps, stream="apgd-ce")
    return _in_turn(target, (partial(ascent, restart=i) for i in range(restarts)))


def apgd_dlr(target: Target, threat: Threat, *, steps: int, restarts: int, num_targets: int) -> torch.Tensor:
    """Auto-PGD on the difference of logits ratio, towards each of the `num_targets` most probable other classes in turn.

    Of three classes, the ratio without a target; of two, the margin of the logits, as the ratio needs three.
    """
    with torch.no_grad():
        logits = target.logits_of(target.images)
    if logits.shape[1] < 4:
        loss = dlr if logits.shape[1] == 3 else margin
        ascent = partial(auto_pgd, threat=threat, loss=loss, steps=steps, stream="apgd-dlr")
        return _in_turn(target, (partial(ascent, restart=i) for i in range(restarts)))
    order = logits.scatter(1, target.labels[:, None], -math.inf).argsort(dim=1, descending=True)
    place_of = {int(index): row for row, index in enumerate(target.indices)}

    def towards(place: int) -> Callable[[Target], torch.Tensor]:
        def run(part: Target) -> torch.Tensor:
            rows = [place_of[int(index)] for index in part.indices]
            loss = targeted_dlr(order[rows, place])
            return auto_pgd(part, threat, loss, steps=steps, stream="apgd-t", restart=place)

        return run

    return _in_turn(target, (towards(place) for place in range(min(num_targets, logits.shape[1] - 1))))


def _in_turn(target: Target, runs: Iterator[Callable[[Target], torch.Tensor]]) -> torch.Tensor:
    """Each of `runs` on the images that those before did not fool."""
    result = target.images.clone()
    remaining = torch.arange(len(result))
    for run in runs:
        part = target.part(remaining)
        changed = run(part)
        result[remaining] = changed
        remaining = remaining[~part.is_fooled(changed)]
        if not len(remaining):
            break
    return result
