"""The attacks in turn on the images of a bundle, and signs that a robust accuracy is not to be trusted."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from recog.core.errors import ConfigError
from recog.evaluation.measures.counts import Hits
from recog.models.network_files import load_classifier
from recog.perturbation.attack_config import AttackConfig
from recog.perturbation.gradient_attacks import (
    Logits,
    Target,
    apgd_ce,
    apgd_dlr,
    cross_entropy,
    fgsm,
    gradient,
    margin,
    pgd,
)
from recog.perturbation.measure import pack_bits
from recog.runtime.engine import images_at_once
from recog.training.fit import eval_mode
from recog.training.threat import Threat

ON_ALL = ("fgsm", "pgd")  # also run on images that others fooled, to compare the two
NUM_CHECKED = 32  # images of the checks at eps 1 and for equal answers
SQUARE_SHARE = 0.01  # of the images that only Square fools, from which on gradients are suspected
_FIRST_SHARE = 0.8  # of the image's area that the first squares cover
_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # queries of 10,000 after which the share is halved
_Attack = Callable[[Target, Threat, AttackConfig], torch.Tensor]

_ATTACKS: Mapping[str, _Attack] = MappingProxyType(
    {
        "fgsm": lambda target, threat, config: fgsm(target, threat),
        "pgd": lambda target, threat, config: pgd(target, threat, steps=config.pgd_steps, restarts=config.restarts),
        "apgd-ce": lambda target, threat, config: apgd_ce(target, threat, steps=config.steps, restarts=config.restarts),
        "apgd-dlr": lambda target, threat, config: apgd_dlr(
            target, threat, steps=config.steps, restarts=config.restarts, num_targets=config.num_targets
        ),
        "square": lambda target, threat, config: square(target, threat, queries=config.queries),
    }
)


@dataclass(frozen=True, kw_only=True)
class AttackRow:
    """One attack. `robust` counts the images that are right and that neither this attack nor those before it fooled."""

    name: str
    loss: str
    num_attacked: int
    num_fooled: int
    robust: Hits


@dataclass(frozen=True, kw_only=True)
class AttackReport:
    """`flags` are signs that the robust accuracy is too high: gradients that lead nowhere, random answers."""

    norm: str
    eps: float
    steps: int
    restarts: int
    queries: int
    num_targets: int
    seed: int
    clean: Hits
    rows: tuple[AttackRow, ...]
    flags: tuple[str, ...]
    torch_version: str
    correct: str  # which images are right as they are, see `pack_bits`
    correct_robust: str  # and under all attacks together

    @property
    def robust(self) -> Hits:
        """Under all attacks together."""
        return self.rows[-1].robust

    def to_dict(self) -> dict[str, Any]:
        table = {name: value for name, value in asdict(self).items() if name not in ("clean", "rows")}
        return {
            **table,
            "clean": _rate(self.clean),
            "robust": _rate(self.robust),
            "rows": [
                {
                    **{name: value for name, value in asdict(row).items() if name != "robust"},
                    "robust": _rate(row.robust),
                }
                for row in self.rows
            ],
        }


def _rate(hits: Hits) -> dict[str, Any]:
    return {"num_images": hits.num_images, "accuracy": hits.accuracy, "accuracy_ci95": list(hits.accuracy_ci95)}


@dataclass(frozen=True, kw_only=True)
class AttackProgress:
    """`num_done` of the images of one attack."""

    name: str
    num_done: int
    num_all: int


@dataclass(frozen=True, kw_only=True)
class Attacked:
    """Images uint8 [N, H, W, C] with labels int64 [N] and content hashes; `seed` decides what is random."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    hashes: Sequence[str]
    seed: int


def attack_bundle(bundle: Path, attacked: Attacked, config: AttackConfig) -> Iterator[AttackProgress | AttackReport]:
    """Attack the network of the bundle in the folder `bundle`; the last event is the report.

    BundleError where its weights cannot be loaded into a network, as of a custom module. ConfigError for one class.
    """
    classifier = load_classifier(bundle)
    with eval_mode(classifier):
        yield from attack_images(lambda pixels: classifier.forward_pixels(pixels)[0], attacked, config)


def attack_images(
    logits_of: Logits, attacked: Attacked, config: AttackConfig
) -> Iterator[AttackProgress | AttackReport]:
    """As `attack_bundle`, of any function from pixels to logits; it must be in evaluation mode."""
    threat = Threat(norm=config.norm, eps=config.eps)
    target = Target(
        logits_of=logits_of,
        images=torch.from_numpy(attacked.images).permute(0, 3, 1, 2).float() / 255,
        labels=torch.from_numpy(attacked.labels),
        indices=np.array([int(content[:8], 16) for content in attacked.hashes]),
        seed=attacked.seed,
    )
    batch_size = images_at_once(attacked.images.shape[1:3])
    with torch.no_grad():
        logits = torch.cat([logits_of(part.images) for part in _parts(target, batch_size)])
    if logits.shape[1] < 2:
        raise ConfigError("attacks need two classes or more, and this bundle has one.")
    is_right = logits.argmax(dim=1) == target.labels
    clean = Hits(num_images=len(is_right), num_correct=int(is_right.sum()))
    robust, rows, fooled_by = is_right.clone(), list[AttackRow](), dict[str, torch.Tensor]()
    for name in config.names:
        chosen = (is_right if name in ON_ALL else robust).nonzero().squeeze(1)
        fooled = torch.zeros_like(is_right)
        num_done = 0
        for numbers in torch.split(chosen, batch_size) if len(chosen) else ():
            part = target.part(numbers)
            fooled[numbers] = part.is_fooled(_ATTACKS[name](part, threat, config))
            num_done += len(numbers)
            yield AttackProgress(name=name, num_done=num_done, num_all=len(chosen))
        robust &= ~fooled
        fooled_by[name] = fooled
        rows.append(
            AttackRow(
                name=name,
                loss=_loss_of(name, logits.shape[1]),
                num_attacked=len(chosen),
                num_fooled=int(fooled.sum()),
                robust=Hits(num_images=len(is_right), num_correct=int(robust.sum())),
            )
        )
    yield AttackReport(
        norm=config.norm,
        eps=config.eps,
        steps=config.steps,
        restarts=config.restarts,
        queries=config.queries,
        num_targets=config.num_targets,
        seed=attacked.seed,
        clean=clean,
        rows=tuple(rows),
        flags=tuple(_flags(target, is_right, fooled_by, batch_size)),
        torch_version=torch.__version__,
        correct=pack_bits(is_right.numpy()),
        correct_robust=pack_bits(robust.numpy()),
    )


def _loss_of(name: str, num_classes: int) -> str:
    """What the attack raises, for the table."""
    if name == "apgd-dlr":
        return {2: "margin", 3: "DLR"}.get(num_classes, "targeted DLR")
    return "margin" if name == "square" else "cross-entropy"


def _parts(target: Target, batch_size: int) -> Iterator[Target]:
    for rows in torch.split(torch.arange(len(target.images)), batch_size):
        yield target.part(rows)


def _flags(
    target: Target, is_right: torch.Tensor, fooled_by: Mapping[str, torch.Tensor], batch_size: int
) -> Iterator[str]:
    """After Carlini et al. (2019), "On Evaluating Adversarial Robustness", and the checks of AutoAttack."""
    first = target.part(torch.arange(min(NUM_CHECKED, len(target.images))))
    with torch.no_grad():
        twice = ((part.logits_of(part.images), part.logits_of(part.images)) for part in _parts(first, batch_size))
        gap = max(float((once - again).abs().max()) for once, again in twice)
    if gap > 1e-5:
        yield f"answers are random: two passes over the same images differ by up to {gap:.2g} in a logit"
    num_zero = sum(
        int((gradient(part, part.images, cross_entropy)[0].flatten(1).abs().amax(dim=1) == 0).sum())
        for part in _parts(target, batch_size)
    )
    if num_zero:
        count = f"{num_zero:,} of {len(target.images):,} images"
        yield f"the gradient is zero on {count}, so attacks that follow it start blind there"
    right = first.part(is_right[: len(first.images)].nonzero().squeeze(1))
    if len(right.images):
        attack = partial(pgd, threat=Threat(norm="linf", eps=1.0), steps=20, restarts=1)
        num_left = sum(int((~part.is_fooled(attack(part))).sum()) for part in _parts(right, batch_size))
        if num_left:
            yield (
                f"at eps 1, where any image is allowed, PGD leaves {num_left} of {len(right.images)} images right; expected 0: "
                "its gradients are masked"
            )
    if {"fgsm", "pgd"} <= fooled_by.keys() and int(fooled_by["fgsm"].sum()) > int(fooled_by["pgd"].sum()):
        yield "one step (fgsm) fools more images than many (pgd): gradients are masked"
    num_by_square = int(fooled_by["square"].sum()) if "square" in fooled_by and len(fooled_by) > 1 else 0
    if num_by_square > SQUARE_SHARE * len(target.images):
        yield (
            f"square, which uses no gradient, fools {num_by_square} images that the attacks before it did not: their gradients "
            "may be masked"
        )


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
