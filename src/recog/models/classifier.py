"""Classifier: a network with its normalisation, uint8 images in, logits and features out."""

from __future__ import annotations

import math

import torch
from torch import nn

from recog.bundle.seal import find_broken
from recog.core.errors import ConfigError
from recog.core.preprocess import Preprocess


class Classifier(nn.Module):
    """A plain network with its normalisation as the first operation.

    `network` follows timm's contract: forward_features, forward_head(pre_logits=True), get_classifier. Its weights are stored in
    a bundle's model.safetensors. `mean` and `std` are per channel on the scale [0, 1].
    """

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, network: nn.Module, *, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.network = network
        self.channel_mean, self.channel_std = mean, std
        self.register_buffer("mean", 255 * torch.tensor(mean), persistent=False)
        self.register_buffer("scale", 1 / (255 * torch.tensor(std)), persistent=False)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """uint8 [B, H, W, C] -> logits float32 [B, K], features float32 [B, D].

        Of a floating dtype, `images` are pixels as `forward_pixels` takes them.
        """
        if images.is_floating_point():
            return self.forward_pixels(images)
        return self.forward_normalised(self.normalise(images))

    def forward_pixels(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Float [B, C, H, W] in [0, 1], which gradients pass through -> logits and features as `forward`."""
        mean, scale = self.mean.view(1, -1, 1, 1), self.scale.view(1, -1, 1, 1)
        return self.forward_normalised((255 * pixels - mean) * scale)

    def forward_normalised(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Float [B, C, H, W] as the plain network takes them -> logits and features as `forward`."""
        maps = self.network.forward_features(inputs)  # type: ignore[operator]
        features = self.network.forward_head(maps, pre_logits=True)  # type: ignore[operator]
        return self.classifier(features), features

    def normalise(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 [B, H, W, C] -> float32 [B, C, H, W], as the plain network takes them."""
        return normalise(images, self.mean, self.scale)

    @property
    def classifier(self) -> nn.Linear:
        """The last linear layer, features [B, D] -> logits [B, K]."""
        layer: nn.Linear = self.network.get_classifier()  # type: ignore[operator]
        return layer

    @property
    def device(self) -> torch.device:
        return self.mean.device


def normalise(images: torch.Tensor, mean: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """(images - mean) * scale, uint8 [B, H, W, C] -> [B, C, H, W] in channels-last strides; `mean` and `scale` float [C]."""
    # over rows of W * C levels: torch is many times slower where the innermost broadcast axis is only C long; in place:
    # new memory costs more than the arithmetic
    width = images.shape[2]
    rows = images.flatten(2).to(mean.dtype).sub_(mean.repeat(width)).mul_(scale.repeat(width))
    return rows.view(images.shape).permute(0, 3, 1, 2)


def check_contract(name: str, classifier: Classifier, preprocess: Preprocess) -> None:
    """ConfigError unless the network's logits are one linear layer on the features that Classifier uses.

    Some of timm's networks end differently: two averaged heads, a norm after the features, a convolution. Their logits would
    differ from timm's. For an unsupported image size it raises what the network raises.
    """
    network = classifier.network
    get_classifier = getattr(network, "get_classifier", None)  # encoders have none
    layer = get_classifier() if callable(get_classifier) else None
    if isinstance(layer, nn.Linear):
        height, width = preprocess.image_size
        shape = (1, height, width, preprocess.channels)
        images = (torch.arange(math.prod(shape)) * 37 % 251).to(torch.uint8).reshape(shape)
        inputs: list[torch.Tensor] = []
        hook = layer.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
        try:
            with torch.no_grad():
                logits, _ = classifier(images)
                expected = network(classifier.normalise(images))
        finally:
            hook.remove()
        if len(inputs) == 2 and _nearly_equal(*inputs) and _nearly_equal(logits, expected):
            return
    raise ConfigError(
        f"{name} does not end in one linear layer on its features, which recog requires. Use another network, such as "
        "tf_efficientnet_lite0."
    )


def broken_weights(network: nn.Module) -> str | None:
    """What is wrong with the first tensor that holds NaN, infinity or a negative variance; None if none does."""
    masks = {name for name, _ in network.named_buffers() if not name.endswith(("running_mean", "running_var"))}
    tensors = ((name, tensor.detach().float().cpu().numpy()) for name, tensor in network.state_dict().items())
    return find_broken(tensors, masks=masks)


def _nearly_equal(ours: torch.Tensor, theirs: object) -> bool:
    """Equal up to rounding; an untrained norm would differ by 5e-6 of the value, because of its epsilon."""
    if not isinstance(theirs, torch.Tensor) or ours.shape != theirs.shape:
        return False
    return bool((ours - theirs).abs().max() <= 1e-6 * ours.abs().max())


def first_reason(error: Exception) -> str:
    """The first informative line of the message, at most 200 characters: torch lists every tensor name."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    line = lines[1] if len(lines) > 1 and lines[0].startswith("Error(s) in loading") else lines[0]
    return line if len(line) <= 200 else f"{line[:200]}..."
