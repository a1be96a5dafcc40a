"""What recog asks of every network: that its answer is one linear layer on its features, at the size that is wanted."""

from __future__ import annotations

import math

import torch
from torch import nn

from recog.core.errors import ConfigError
from recog.core.preprocess import Preprocess
from recog.models.classifier import Classifier


def check_contract(name: str, classifier: Classifier, preprocess: Preprocess) -> None:
    """ConfigError unless the network's own answer is one linear layer on the features that Classifier takes.

    Some of timm's networks end otherwise: two heads that are averaged, a norm after the features, a convolution. Their logits
    would be other ones here than in timm. At a size that the network cannot take it raises what the network raises.
    """
    network = classifier.network
    ask = getattr(network, "get_classifier", None)  # encoders have none
    layer = ask() if callable(ask) else None
    if isinstance(layer, nn.Linear):
        height, width = preprocess.image_size
        shape = (1, height, width, preprocess.channels)
        images = (torch.arange(math.prod(shape)) * 37 % 251).to(torch.uint8).reshape(shape)
        seen: list[torch.Tensor] = []
        hook = layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        try:
            with torch.no_grad():
                logits, _ = classifier(images)
                answer = network(classifier.normalise(images))
        finally:
            hook.remove()
        if len(seen) == 2 and _nearly_equal(*seen) and _nearly_equal(logits, answer):
            return
    raise ConfigError(
        f"{name} does not end in one linear layer on its features, which recog needs; take another network, such as "
        "tf_efficientnet_lite0."
    )


def _nearly_equal(ours: torch.Tensor, theirs: object) -> bool:
    """Equal but for rounding; a norm that was not trained yet differs by 5e-6 of the value, for its epsilon."""
    if not isinstance(theirs, torch.Tensor) or ours.shape != theirs.shape:
        return False
    return bool((ours - theirs).abs().max() <= 1e-6 * ours.abs().max())


def first_reason(error: Exception) -> str:
    """The first line that says something, and not all of it: torch lists every tensor's name."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    line = lines[1] if len(lines) > 1 and lines[0].startswith("Error(s) in loading") else lines[0]
    return line if len(line) <= 200 else f"{line[:200]}..."
