"""Input gradients: plain, averaged over noisy copies, and integrated on the way from a grey image (by captum).

Simonyan, Vedaldi, Zisserman (2014), "Deep inside convolutional networks"; Smilkov et al. (2017), "SmoothGrad: removing noise by
adding noise"; Sundararajan, Taly, Yan (2017), "Axiomatic attribution for deep networks".
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtri

from recog.attribution.layers import frozen
from recog.attribution.subject import Attribution, Images, Labels, Subject
from recog.core.chance import uniforms
from recog.runtime.engine import images_at_once

NUM_NOISY = 16
NUM_STEPS, MORE_STEPS = 32, 128  # of the integral; more for an image whose gap is above MAX_GAP after the first
MAX_GAP = 0.05
NOISE = 0.15  # standard deviation as a share of the image's range, as the paper recommends 10 to 20 %


def gradients(subject: Subject, images: Images, labels: Labels) -> Attribution:
    """The largest absolute slope of the label's logit among the channels of each pixel."""
    return Attribution(maps=_mean_slopes(subject, images, labels, num_noisy=0))


def smoothgrad(subject: Subject, images: Images, labels: Labels) -> Attribution:
    """As `gradients`, with slopes averaged over 16 copies with Gaussian noise."""
    return Attribution(maps=_mean_slopes(subject, images, labels, num_noisy=NUM_NOISY))


def _mean_slopes(subject: Subject, images: Images, labels: Labels, *, num_noisy: int) -> NDArray[np.float32]:
    classifier = subject.classifier
    size = images_at_once(subject.image_size)
    maps = []
    with frozen(classifier), torch.enable_grad():
        for start in range(0, len(images), size):
            batch = classifier.normalise(torch.as_tensor(images[start : start + size], device=classifier.device))
            targets = torch.as_tensor(labels[start : start + size], device=classifier.device)
            spread = NOISE * (batch.amax(dim=(1, 2, 3)) - batch.amin(dim=(1, 2, 3)))
            total = torch.zeros_like(batch)
            for number in range(max(1, num_noisy)):
                noisy = batch
                if num_noisy:
                    noise = torch.as_tensor(_noise(number, tuple(batch.shape[1:])), device=batch.device)
                    noisy = batch + spread[:, None, None, None] * noise
                noisy = noisy.detach().requires_grad_()
                logits = classifier.forward_normalised(noisy)[0]
                total += torch.autograd.grad(logits.gather(1, targets[:, None]).sum(), noisy)[0]
            maps.append((total / max(1, num_noisy)).abs().amax(dim=1).cpu().numpy())
    return np.concatenate(maps).astype(np.float32)


def _noise(number: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Standard normal [C, H, W], the same for every image, so that a map depends on its image alone."""
    channels, height, width = shape
    draws = uniforms(0, number, np.arange(channels * height), "smoothgrad", width)
    noise: NDArray[np.float32] = ndtri(draws + 2.0**-33).reshape(shape).astype(np.float32)
    return noise


def integrated_gradients(subject: Subject, images: Images, labels: Labels) -> Attribution:
    """The slopes of the label's logit on the straight way from a mean grey image to this one, times the change of each pixel.

    The sum of a map should be the change of the logit; `gaps` is the relative difference, from 32 steps, or from 128 where those
    are too few (the head of an EfficientNet-lite0 on flowers: up to 0.84 after 32, 0.05 after 128).
    """
    from captum.attr import IntegratedGradients  # of the extra `explain`

    classifier = subject.classifier
    size = images_at_once(subject.image_size)
    maps, gaps = [], []
    method = IntegratedGradients(lambda x: classifier.forward_normalised(x)[0])
    with frozen(classifier):
        for start in range(0, len(images), size):
            batch = classifier.normalise(torch.as_tensor(images[start : start + size], device=classifier.device))
            batch = batch.contiguous()
            targets = torch.as_tensor(labels[start : start + size], device=classifier.device)
            found, gap = _integral(method, batch, targets, NUM_STEPS, at_once=size)
            if (rough := gap > MAX_GAP).any():
                found[rough], gap[rough] = _integral(method, batch[rough], targets[rough], MORE_STEPS, at_once=size)
            gaps.append(gap.cpu().numpy())
            maps.append(found.cpu().numpy())
    return Attribution(maps=np.concatenate(maps).astype(np.float32), gaps=np.concatenate(gaps).astype(np.float64))


def _integral(
    method: Any, batch: torch.Tensor, targets: torch.Tensor, num_steps: int, *, at_once: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Maps [B, H, W] and their gaps [B] from `num_steps` by captum's `method`, on `batch` [B, C, H, W]."""
    slopes, delta = method.attribute(
        batch,
        baselines=torch.zeros_like(batch),
        target=targets,
        n_steps=num_steps,
        internal_batch_size=max(at_once, len(batch)),
        return_convergence_delta=True,
    )
    total = slopes.sum(dim=(1, 2, 3))
    return slopes.sum(dim=1).detach(), delta.abs() / (total - delta).abs().clamp(min=1e-6)
