"""Adversarial training: the loss of a step on images that were changed to raise it.

Attacks are made in evaluation mode, so that BatchNorm's running statistics see each batch once; the loss in training mode.
Random starts come from torch's generator, which checkpoints hold, so that a resumed run takes the same steps.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from recog.models.classifier import Classifier
from recog.training.config import AdversarialConfig
from recog.training.device import eval_mode
from recog.training.threat import Threat

Terms = Callable[[torch.Tensor], torch.Tensor]  # logits [B, K] -> a scalar to raise


def as_pixels(images: torch.Tensor) -> torch.Tensor:
    """uint8 [B, H, W, C] -> float32 [B, C, H, W] in [0, 1]."""
    return images.permute(0, 3, 1, 2).float() / 255


def adversarial_loss(
    network: nn.Module,
    classifier: Classifier,
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    images: torch.Tensor,
    targets: torch.Tensor,
    config: AdversarialConfig,
) -> torch.Tensor:
    """The loss to minimise on `images` uint8 [B, H, W, C]. `network` is `classifier`, or its form for several processes.

    pgd: the loss on the changed images alone (Madry et al., 2018, arXiv:1706.06083). fgsm-rs: the same after one step from a
    random start (Wong et al., 2020, arXiv:2001.03994). trades: the loss on the images and `beta` times the divergence of the
    answers on the changed ones (Zhang et al., 2019, arXiv:1901.08573).
    """
    pixels = as_pixels(images)
    if config.method != "trades":
        changed = attack(classifier, pixels, lambda logits: loss(logits, targets), config)
        return loss(network(changed)[0].float(), targets)
    with eval_mode(classifier), torch.no_grad():
        answers = classifier.forward_pixels(pixels)[0].float().softmax(dim=1)
    changed = attack(classifier, pixels, lambda logits: divergence(logits, answers), config)
    # one pass over both, as the gradients of several processes are joined once per backward pass
    logits = network(torch.cat([pixels, changed]))[0].float()
    clean, moved = logits.chunk(2)
    return loss(clean, targets) + config.beta * divergence(moved, clean.softmax(dim=1))


def divergence(logits: torch.Tensor, probs: torch.Tensor) -> torch.Tensor:
    """Kullback-Leibler divergence of the answers `logits` from `probs`, float [B, K] each, mean over the images."""
    return F.kl_div(logits.log_softmax(dim=1), probs, reduction="batchmean")


def attack(classifier: Classifier, pixels: torch.Tensor, terms: Terms, config: AdversarialConfig) -> torch.Tensor:
    """`pixels` float [B, C, H, W] changed by up to eps, each value, so that `terms` of the logits rises."""
    threat = Threat(norm="linf", eps=config.eps)
    if config.method == "trades":  # its divergence is flat at the images themselves
        start = (pixels + 1e-3 * torch.randn_like(pixels)).clamp(0, 1)
    else:
        start = threat.start(pixels, torch.rand_like(pixels))
    with eval_mode(classifier):
        return ascend(classifier, pixels, start, terms, threat, num_steps=config.num_steps, size=config.size)


def ascend(  # noqa: PLR0913  an attack
    classifier: Classifier,
    pixels: torch.Tensor,
    start: torch.Tensor,
    terms: Terms,
    threat: Threat,
    *,
    num_steps: int,
    size: float,
) -> torch.Tensor:
    """From `start`, steps of `size` that raise `terms` of the logits, within `threat` of `pixels`."""
    changed = start
    for _ in range(num_steps):
        changed = changed.detach().requires_grad_()
        with torch.enable_grad():
            value = terms(classifier.forward_pixels(changed)[0].float())
            (slope,) = torch.autograd.grad(value, changed)
        changed = threat.project(changed + size * threat.direction(slope), pixels)
    return changed.detach()
