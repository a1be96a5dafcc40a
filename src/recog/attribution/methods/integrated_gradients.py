"""Integrated gradients, by captum.

Sundararajan, Taly, Yan (2017), "Axiomatic attribution for deep networks".
"""

from __future__ import annotations

import numpy as np
import torch
from captum.attr import IntegratedGradients

from recog.attribution.layers import frozen
from recog.attribution.subject import Attribution, Images, Labels, Subject
from recog.runtime.engine import images_at_once

NUM_STEPS = 32


def integrated_gradients(subject: Subject, images: Images, labels: Labels) -> Attribution:
    """The slopes of the label's logit on the straight way from a mean grey image to this one, times the change of each pixel.

    The sum of a map should be the change of the logit; `gaps` is the relative difference, from 32 steps.
    """
    classifier = subject.classifier
    size = images_at_once(subject.image_size)
    maps, gaps = [], []
    method = IntegratedGradients(lambda x: classifier.forward_normalised(x)[0])
    with frozen(classifier):
        for start in range(0, len(images), size):
            batch = classifier.normalise(torch.as_tensor(images[start : start + size], device=classifier.device))
            batch = batch.contiguous()
            targets = torch.as_tensor(labels[start : start + size], device=classifier.device)
            slopes, delta = method.attribute(
                batch,
                baselines=torch.zeros_like(batch),
                target=targets,
                n_steps=NUM_STEPS,
                internal_batch_size=max(size, len(batch)),
                return_convergence_delta=True,
            )
            total = slopes.sum(dim=(1, 2, 3))
            gaps.append((delta.abs() / (total - delta).abs().clamp(min=1e-6)).cpu().numpy())
            maps.append(slopes.sum(dim=1).detach().cpu().numpy())
    return Attribution(maps=np.concatenate(maps).astype(np.float32), gaps=np.concatenate(gaps).astype(np.float64))
