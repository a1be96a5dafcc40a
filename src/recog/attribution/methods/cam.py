"""Class-activation maps: Grad-CAM and Layer-CAM.

Grad-CAM: Selvaraju et al. (2017), "Grad-CAM: visual explanations from deep networks via gradient-based localization".
Layer-CAM: Jiang et al. (2021), "LayerCAM: exploring hierarchical class activation maps for localization".
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from recog.attribution.layers import Layer, frozen, layout_of
from recog.attribution.subject import Attribution, Images, Labels, Subject
from recog.models.classifier import Classifier
from recog.models.inner_layers import InnerLayers
from recog.runtime.engine import images_at_once

Weigh = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # maps and their gradients [B, C, h, w] -> [B, h, w]


def gradcam(subject: Subject, images: Images, labels: Labels) -> Attribution:
    """Maps weighted by the mean gradient of the label's logit in each channel, negative sums set to 0."""
    return _cam(subject, images, labels, _by_channel)


def layercam(subject: Subject, images: Images, labels: Labels) -> Attribution:
    """Maps weighted position by position by the positive gradients of the label's logit."""
    return _cam(subject, images, labels, _by_position)


def _by_channel(maps: torch.Tensor, gradients: torch.Tensor) -> torch.Tensor:
    return (maps * gradients.mean(dim=(2, 3), keepdim=True)).sum(dim=1)


def _by_position(maps: torch.Tensor, gradients: torch.Tensor) -> torch.Tensor:
    return (maps * gradients.relu()).sum(dim=1)


def _cam(subject: Subject, images: Images, labels: Labels, weigh: Weigh) -> Attribution:
    classifier = subject.classifier
    size = images_at_once(subject.image_size)
    maps = []
    with frozen(classifier), torch.enable_grad():
        for start in range(0, len(images), size):
            batch = torch.as_tensor(images[start : start + size], device=classifier.device)
            targets = torch.as_tensor(labels[start : start + size], device=classifier.device)
            if isinstance(classifier.network, InnerLayers):
                parts = _of_stages(classifier, classifier.network, batch, targets, weigh)
            else:
                parts = [_of_layer(classifier, subject.layer, batch, targets, weigh)]
            total = sum(F.interpolate(part[:, None], subject.image_size, mode="bilinear")[:, 0] for part in parts)
            maps.append(torch.as_tensor(total).relu().cpu().numpy())
    return Attribution(maps=np.concatenate(maps).astype(np.float32))


def _of_layer(
    classifier: Classifier, layer: Layer, images: torch.Tensor, labels: torch.Tensor, weigh: Weigh
) -> torch.Tensor:
    """float [B, h, w]. Only what follows the layer is differentiated, so this costs little more than a forward pass."""
    leaves: list[torch.Tensor] = []
    num_calls = 0

    def cut(_: nn.Module, __: object, output: torch.Tensor) -> torch.Tensor | None:
        nonlocal num_calls
        num_calls += 1
        if num_calls - 1 != layer.call:
            return None
        leaves.append(output.detach().requires_grad_())
        return leaves[-1].clone()  # what follows may change its input in place

    handle = classifier.network.get_submodule(layer.name).register_forward_hook(cut)
    try:
        logits = classifier(images)[0]
    finally:
        handle.remove()
    (gradient,) = torch.autograd.grad(logits.gather(1, labels[:, None]).sum(), leaves)
    return weigh(layer.layout.as_maps(leaves[0].detach()), layer.layout.as_maps(gradient))


def _of_stages(
    classifier: Classifier, network: InnerLayers, images: torch.Tensor, labels: torch.Tensor, weigh: Weigh
) -> list[torch.Tensor]:
    """A map float [B, h, w] of each stage that the head reads, per unit of area, so that they can be added."""
    normalised = classifier.normalise(images)
    image_size = (normalised.shape[2], normalised.shape[3])
    sides = [
        network.stage_maps(side) for side in ([normalised, normalised.flip(3)] if network.mirror else [normalised])
    ]
    leaves = [[maps.detach().requires_grad_() for maps in side] for side in sides]
    logits = network.fc(network.features_of(leaves[0], leaves[-1]))
    gradients = torch.autograd.grad(logits.gather(1, labels[:, None]).sum(), [leaf for side in leaves for leaf in side])
    parts = []
    for i, (leaf, gradient) in enumerate(zip([leaf for side in leaves for leaf in side], gradients, strict=True)):
        layout = layout_of(leaf, network.body, image_size)
        if layout is not None:
            part = weigh(layout.as_maps(leaf.detach()), layout.as_maps(gradient)) * layout.num_positions
            parts.append(part.flip(-1) if i >= len(leaves[0]) else part)
    return parts
