"""A timm network whose features are the means of its inner stages beside its last layer, for heads on frozen features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from inspect import signature

import torch
import torch.nn.functional as F
from torch import nn

from recog.bundle.seal import HeadLayers
from recog.core.errors import ConfigError
from recog.models.build import BuiltModel
from recog.models.classifier import Classifier, check_contract
from recog.models.networks.headed import HeadedNetwork


class InnerLayers(HeadedNetwork):
    """float32 [B, C, H, W] -> features [B, D] -> logits [B, K]; timm's method names.

    The features are the mean of each stage over the positions and what the body's last layer reads, as signed square roots: a few
    large values would otherwise outweigh the others. With `mirror` they are averaged over the image and its mirror image, at
    twice the cost. `shift` and `scale` [D] standardise them.
    """

    shift: torch.Tensor
    scale: torch.Tensor

    def __init__(
        self, body: nn.Module, *, num_classes: int, in_chans: int, image_size: tuple[int, int], mirror: bool = False
    ) -> None:
        super().__init__()
        self.mirror = mirror
        body.reset_classifier(0)  # type: ignore[operator]
        self.body = body.eval()
        with torch.no_grad():
            parts = self._pool(self.stage_maps(torch.zeros(1, in_chans, *image_size)))
        self.num_stages = len(parts) - 1
        self.num_last = parts[-1].shape[1]  # features of the body's last layer, which stand last
        self.num_features = sum(part.shape[1] for part in parts)
        self.register_buffer("shift", torch.zeros(self.num_features))
        self.register_buffer("scale", torch.ones(self.num_features))
        self.fc = nn.Linear(self.num_features, num_classes)

    def stage_maps(self, images: torch.Tensor) -> list[torch.Tensor]:
        """What the features are means of: each stage [B, C, H, W], then what the body's last layer pools, in its own layout."""
        maps, stages = _forward_stages(self.body, images)
        # the last stage may be the last layer's own input
        return [*(stage for stage in stages if stage is not maps), maps]

    def features_of(self, maps: Sequence[torch.Tensor], mirrored: Sequence[torch.Tensor]) -> torch.Tensor:
        """float32 [B, D] from the `stage_maps` of images and, with `mirror`, of their mirror images."""
        values = self._roots(maps)
        if self.mirror:
            values = (values + self._roots(mirrored)) / 2
        return (values - self.shift) * self.scale

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        """float32 [B, C, H, W] -> float32 [B, D]."""
        return self.features_of(self.stage_maps(images), self.stage_maps(images.flip(3)) if self.mirror else ())

    def features_and_map(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """float32 [B, C, H, W] -> features [B, D] and, [B, D, h, w], what each position of the last stage's grid adds to them.

        The other stages are averaged over that grid; each mean counts by the slope of its root at this image, of means below
        LEAST_STEEP by the slope there.
        """
        maps = self.stage_maps(images)
        mirrored = self.stage_maps(images.flip(3)) if self.mirror else []
        shares = self._shares(maps)
        if self.mirror:
            shares = (shares + self._shares(mirrored).flip(3)) / 2
        return self.features_of(maps, mirrored), shares * self.scale[:, None, None]

    def _shares(self, maps: Sequence[torch.Tensor]) -> torch.Tensor:
        grid = (maps[-1].shape[2], maps[-1].shape[3])
        values = torch.cat([F.adaptive_avg_pool2d(stage, grid) for stage in maps], dim=1)
        slopes = 0.5 / torch.cat(self._pool(maps), dim=1).abs().clamp(min=LEAST_STEEP).sqrt()
        return values * slopes[:, :, None, None]

    def _pool(self, maps: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        means = [stage.mean(dim=(2, 3)) for stage in maps[:-1]]
        return [*means, self.body.forward_head(maps[-1], pre_logits=True)]  # type: ignore[operator]

    def _roots(self, maps: Sequence[torch.Tensor]) -> torch.Tensor:
        values = torch.cat(self._pool(maps), dim=1)
        return values / values.abs().clamp(min=LEAST_ROOTED).sqrt()

    def no_weight_decay(self) -> set[str]:
        """Names of the parameters that the body keeps from weight decay."""
        exempt = getattr(self.body, "no_weight_decay", None)
        return {f"body.{name}" for name in exempt()} if callable(exempt) else set()

    def standardise(self, mean: torch.Tensor, std: torch.Tensor) -> None:
        """Set what is taken off the square roots, `mean` float [D], and what they are divided by, `std`; by 1 where that is 0."""
        self.shift.copy_(mean)
        self.scale.copy_(1 / torch.where(std > MIN_STD, std, 1.0))


MIN_STD = 1e-6
LEAST_STEEP = 0.01  # nearer to 0 the root is so steep that rounding errors of the mean would show in the map
LEAST_ROOTED = 1e-6  # values below are scaled, as the root's slope is infinite at 0 and training would end with NaN


def _forward_stages(network: nn.Module, images: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """What the last layer pools, and the maps [B, C, H, W] of every stage: of all blocks where timm offers them."""
    forward: Callable[..., tuple[torch.Tensor, list[torch.Tensor]]] = network.forward_intermediates  # type: ignore[assignment]
    return forward(images, **({"extra_blocks": True} if "extra_blocks" in signature(forward).parameters else {}))


def with_layers(
    model: BuiltModel, layers: HeadLayers | None, *, mirror: bool = False
) -> tuple[BuiltModel, HeadLayers, list[str]]:
    """`model` for a head on `layers`, these layers, and the reason; planned where `layers` is None.

    ConfigError where several layers, or the average with the `mirror` image that only they have, were asked for and the network
    does not offer them.
    """
    if layers == "last":
        if mirror:
            raise ConfigError(
                "head.mirror is true, which needs head.layers=multi, but head.layers is last; leave one out."
            )
        return model, "last", []
    missing = _why_not(model)
    if missing and (mirror or layers is not None):
        what = "head.layers is multi" if layers is not None else "head.mirror is true"
        raise ConfigError(f"{what}, but {missing}; leave it out, or use another network.")
    if missing:
        return model, "last", [f"head on the last layer: {missing}"]
    network = InnerLayers(
        model.classifier.network,
        num_classes=model.classifier.classifier.out_features,
        in_chans=model.preprocess.channels,
        image_size=model.preprocess.image_size,
        mirror=mirror,
    )
    mean, std = model.classifier.channel_mean, model.classifier.channel_std
    classifier = Classifier(network.eval(), mean=mean, std=std)
    check_contract(model.name, classifier, model.preprocess)
    note = (
        f"head on {network.num_stages} inner layers and the last one: more accurate on most data, the same speed; timm and "
        "transformers load the bundle only with --set head.layers=last"
    )
    return replace(model, library="recog", classifier=classifier), "multi", [note]


def _why_not(model: BuiltModel) -> str | None:
    """Why the network has no features of several layers; None where it has."""
    network = model.classifier.network
    if model.library != "timm" or not callable(getattr(network, "forward_intermediates", None)):
        return f"{model.name} does not give those of its inner layers"
    height, width = model.preprocess.image_size
    images = torch.linspace(-1, 1, model.preprocess.channels * height * width)
    images = images.reshape(1, model.preprocess.channels, height, width)
    try:
        with torch.no_grad():
            maps, stages = _forward_stages(network, images)
            same = torch.allclose(maps, network.forward_features(images), rtol=1e-4, atol=1e-5)  # type: ignore[operator]
    except (RuntimeError, ValueError, AssertionError, TypeError):
        return f"{model.name} fails where its inner layers are asked for"
    if not same or any(stage.ndim != 4 for stage in stages):
        return f"the inner layers of {model.name} are not maps of the same pass"
    return None
