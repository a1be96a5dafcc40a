"""A classifier that gives the map behind its features too, from which class-activation maps are drawn without torch."""

from __future__ import annotations

import torch

from recog.core.errors import ConfigError
from recog.models.classifier import Classifier
from recog.models.inner_layers import InnerLayers
from recog.training.device import eval_mode

MIN_POSITIONS = 16  # 4 x 4; below, a map shows no place


class MappedClassifier(Classifier):
    """A Classifier with a third output: feature_map float32 [B, D, h, w], what each position adds to the features, times h * w.

    Weighted by a row of the last layer it is the class-activation map of that class (Zhou et al., 2016). Weights are shared with
    the classifier that it was made of.
    """

    is_channels_last = False

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:  # type: ignore[override]
        """uint8 [B, H, W, C] -> logits [B, K], features [B, D] and feature_map [B, D, h, w], float32."""
        network, inputs = self.network, self.normalise(images)
        if isinstance(network, InnerLayers):
            features, feature_map = network.features_and_map(inputs)
        else:
            maps = network.forward_features(inputs)  # type: ignore[operator]
            features = network.forward_head(maps, pre_logits=True)  # type: ignore[operator]
            feature_map = maps.permute(0, 3, 1, 2) if self.is_channels_last else maps
        return self.classifier(features), features, feature_map


def with_feature_map(classifier: Classifier, image_size: tuple[int, int]) -> MappedClassifier:
    """`classifier` with the third output, for images of (height, width).

    ConfigError unless its features are the means of a map of at least 4 x 4 positions, or of several stages' maps.
    """
    mapped = MappedClassifier(classifier.network, mean=classifier.channel_mean, std=classifier.channel_std)
    mapped = mapped.to(classifier.device)
    with torch.no_grad(), eval_mode(mapped):
        reason = _why_no_map(mapped, image_size)
    if reason:
        raise ConfigError(
            f"export.feature_map is true, but {reason}. Leave it out: recog explain draws maps of every network, with torch."
        )
    return mapped


def class_weights_name(classifier: Classifier) -> str:
    """The name of the last layer's weights [K, D] in a bundle's model.safetensors."""
    last = next(name for name, module in classifier.network.named_modules() if module is classifier.classifier)
    return f"{last}.weight"


def _why_no_map(mapped: MappedClassifier, image_size: tuple[int, int]) -> str:
    """'' where the map is well defined; sets the layout of its channels."""
    network = mapped.network
    image = torch.cos(torch.arange(len(mapped.channel_mean) * image_size[0] * image_size[1], device=mapped.device))
    image = image.reshape(1, -1, *image_size)
    if isinstance(network, InnerLayers):
        *stages, maps = network.stage_maps(image)
        pooled = network.body.forward_head(maps, pre_logits=True)  # type: ignore[operator]
    else:
        stages, maps = [], network.forward_features(image)  # type: ignore[operator]
        pooled = network.forward_head(maps, pre_logits=True)  # type: ignore[operator]
    is_last = maps.ndim == 4 and _is_mean(pooled, maps, (1, 2)) and not isinstance(network, InnerLayers)
    if not is_last and not (maps.ndim == 4 and _is_mean(pooled, maps, (2, 3))):
        return f"the features of {type(network).__name__} are not the means of its last map over the positions"
    mapped.is_channels_last = is_last
    height, width = maps.shape[1:3] if is_last else maps.shape[2:]
    if height * width < MIN_POSITIONS:
        return (
            f"the last map has {height} x {width} positions, which shows no place; model.image_size sets the input size"
        )
    if any(stage.shape[2] % height or stage.shape[3] % width for stage in stages):
        return f"the maps of its stages do not divide into the {height} x {width} positions of the last one"
    return ""


def _is_mean(features: torch.Tensor, maps: torch.Tensor, over: tuple[int, int]) -> bool:
    means = maps.mean(dim=over)
    return means.shape == features.shape and bool((means - features).abs().max() <= 1e-5 * features.abs().max())
