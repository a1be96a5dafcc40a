"""The table of networks by their common names. Any other name is passed to timm. Importing it imports no torch."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import nn

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class BuildNetwork(Protocol):
    """Builds a network with timm's method names. ValueError for images that are too small for it."""

    def __call__(self, *, num_classes: int, in_chans: int, image_size: tuple[int, int]) -> nn.Module: ...


@dataclass(frozen=True, kw_only=True)
class Own:
    """A network that recog builds itself."""

    build: BuildNetwork
    image_size: tuple[int, int]  # (height, width) that it was designed for
    num_parameters: int  # at that size, `channels` and `num_classes`
    channels: int = 3
    num_classes: int = 10
    mean: tuple[float, ...] | None = None  # per channel on [0, 1], as its published weights expect
    std: tuple[float, ...] | None = None
    interpolation: str = "bicubic"
    crop_pct: float = 1.0
    weights: str | None = None  # torchvision's name of its published weights

    def takes(self, image_size: tuple[int, int]) -> bool:
        """Whether the network can be built for images of (height, width)."""
        import torch

        try:
            with torch.device("meta"):
                self.build(num_classes=2, in_chans=1, image_size=image_size)
        except ValueError:
            return False
        return True


@dataclass(frozen=True)
class Timm:
    """A timm network under its common name; input size, statistics, weights and licence come from timm."""

    name: str
    num_parameters: int  # at 1,000 classes


def _lazy(module: str, function: str) -> BuildNetwork:
    """A function of this room, whose module is imported when it is called."""

    def build(*, num_classes: int, in_chans: int, image_size: tuple[int, int]) -> nn.Module:
        build_network: BuildNetwork = getattr(importlib.import_module(f"recog.models.{module}"), function)
        return build_network(num_classes=num_classes, in_chans=in_chans, image_size=image_size)

    return build


MODELS: Mapping[str, Own | Timm] = MappingProxyType(
    {
        # small images, from scratch
        "lenet5": Own(build=_lazy("classic", "lenet5"), image_size=(32, 32), channels=1, num_parameters=61_706),
        "cnn_6_16": Own(build=_lazy("classic", "cnn_6_16"), image_size=(32, 32), num_parameters=62_006),
        "cnn_32_64": Own(
            build=_lazy("classic", "cnn_32_64"), image_size=(28, 28), channels=1, num_parameters=1_199_882
        ),
        "cnn_64_128": Own(build=_lazy("classic", "cnn_64_128"), image_size=(32, 32), num_parameters=8_278_658),
        "resnet8": Own(build=_lazy("resnet", "resnet8"), image_size=(32, 32), num_parameters=75_290),
        "resnet20": Own(build=_lazy("resnet", "resnet20"), image_size=(32, 32), num_parameters=269_722),
        "fastnet32": Own(build=_lazy("fastnet", "fastnet32"), image_size=(32, 32), num_parameters=294_818),
        # photos
        "alexnet": Own(
            build=_lazy("classic", "alexnet"),
            image_size=(224, 224),
            num_parameters=61_100_840,
            num_classes=1000,
            mean=IMAGENET_MEAN,
            std=IMAGENET_STD,
            interpolation="bilinear",
            crop_pct=0.875,
            weights="AlexNet_Weights.IMAGENET1K_V1",
        ),
        "vgg11": Timm("vgg11", 132_863_336),
        "vgg16": Timm("vgg16", 138_357_544),
        "resnet18": Timm("resnet18", 11_689_512),
        "resnet34": Timm("resnet34", 21_797_672),
        "resnet50": Timm("resnet50", 25_557_032),
        "mobilenet_v2": Timm("mobilenetv2_100", 3_504_872),
        "mobilenet_v3_small": Timm("mobilenetv3_small_100", 2_542_856),
        "mobilenet_v3_large": Timm("mobilenetv3_large_100", 5_483_032),
        "efficientnet_b0": Timm("efficientnet_b0", 5_288_548),
        "efficientnet_lite0": Timm("tf_efficientnet_lite0", 4_652_008),
        "efficientnet_lite1": Timm("tf_efficientnet_lite1", 5_416_680),
        "efficientnet_lite2": Timm("tf_efficientnet_lite2", 6_092_072),
        "convnext_atto": Timm("convnext_atto", 3_695_520),
        "convnext_tiny": Timm("convnext_tiny", 28_589_128),
        "vit_tiny": Timm("vit_tiny_patch16_224", 5_717_416),
        "vit_small": Timm("vit_small_patch16_224", 22_050_664),
        "vit_base": Timm("vit_base_patch16_224", 86_567_656),
    }
)


def timm_name(name: str) -> str:
    """timm's name of a network that recog does not build itself: from the table, or `name`."""
    entry = MODELS.get(name)
    return entry.name if isinstance(entry, Timm) else name


def own_network(name: str) -> Own | None:
    """The entry of a network that recog builds itself; None for any other name."""
    entry = MODELS.get(name)
    return entry if isinstance(entry, Own) else None
