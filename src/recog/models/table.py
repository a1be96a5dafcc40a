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
    top1: float | None = None  # as of Timm, of these weights
    ms: float | None = None

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
    """A timm network under its common name; statistics, weights and licence come from timm, and the input size if not set."""

    name: str
    num_parameters: int  # at 1,000 classes
    top1: float  # accuracy of its weights on ImageNet-1k's validation images, percent, at the input size
    ms: float  # per image, ONNX Runtime on one core: benchmarks/results/models.md
    image_size: tuple[int, int] | None = None  # (height, width); timm's if None


def _lazy(module: str, function: str) -> BuildNetwork:
    """A function of `models.networks`, whose module is imported when it is called."""

    def build(*, num_classes: int, in_chans: int, image_size: tuple[int, int]) -> nn.Module:
        build_network: BuildNetwork = getattr(importlib.import_module(f"recog.models.networks.{module}"), function)
        return build_network(num_classes=num_classes, in_chans=in_chans, image_size=image_size)

    return build


MODELS: Mapping[str, Own | Timm] = MappingProxyType(
    {
        # small images, from scratch
        "lenet5": Own(build=_lazy("classic", "lenet5"), image_size=(32, 32), channels=1, num_parameters=61_706),
        "cnn_6_16": Own(build=_lazy("classic", "cnn_6_16"), image_size=(32, 32), num_parameters=62_006),
        "cnn_16_32": Own(build=_lazy("classic", "cnn_16_32"), image_size=(28, 28), channels=1, num_parameters=166_406),
        "cnn_32_64": Own(
            build=_lazy("classic", "cnn_32_64"), image_size=(28, 28), channels=1, num_parameters=1_199_882
        ),
        "cnn_64_128": Own(build=_lazy("classic", "cnn_64_128"), image_size=(32, 32), num_parameters=8_278_658),
        "resnet8": Own(build=_lazy("resnet", "resnet8"), image_size=(32, 32), num_parameters=75_290),
        "resnet20": Own(build=_lazy("resnet", "resnet20"), image_size=(32, 32), num_parameters=269_722),
        "fastnet32": Own(build=_lazy("fastnet", "fastnet32"), image_size=(32, 32), num_parameters=569_378),
        "fastnet32_wide": Own(build=_lazy("fastnet", "fastnet32_wide"), image_size=(32, 32), num_parameters=1_972_514),
        # photos; accuracies are those that timm publishes (results/results-imagenet.csv), of AlexNet torchvision's
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
            top1=56.5,
            ms=12.2,
        ),
        "vgg11": Timm("vgg11", 132_863_336, 69.0, 69.9),
        "vgg16": Timm("vgg16", 138_357_544, 71.6, 132.0),
        "resnet18": Timm("resnet18", 11_689_512, 71.5, 15.5),
        "resnet34": Timm("resnet34", 21_797_672, 76.4, 30.9),
        "resnet50": Timm("resnet50", 25_557_032, 80.4, 34.1),
        "mobilenet_v2": Timm("mobilenetv2_100", 3_504_872, 72.9, 3.4),
        "mobilenet_v3_small": Timm("mobilenetv3_small_100", 2_542_856, 67.6, 0.94),
        "mobilenet_v3_large": Timm("mobilenetv3_large_100", 5_483_032, 75.8, 3.1),
        "mobilenet_v4_small": Timm("mobilenetv4_conv_small", 3_774_024, 73.7, 1.7),
        "mobilenet_v4_medium": Timm("mobilenetv4_conv_medium", 9_715_512, 79.9, 9.9),
        "efficientnet_b0": Timm("efficientnet_b0", 5_288_548, 77.7, 5.9),
        "efficientnet_lite0": Timm("tf_efficientnet_lite0", 4_652_008, 74.8, 4.3),
        "efficientnet_lite1": Timm("tf_efficientnet_lite1", 5_416_680, 76.7, 6.6),
        "efficientnet_lite2": Timm("tf_efficientnet_lite2", 6_092_072, 77.5, 9.1),
        "convnext_atto": Timm("convnext_atto", 3_695_520, 75.7, 6.6),
        "convnext_tiny": Timm("convnext_tiny", 28_589_128, 84.2, 47.2),
        "vit_tiny": Timm("vit_tiny_patch16_224", 5_717_416, 75.5, 13.4),
        "vit_small": Timm("vit_small_patch16_224", 22_050_664, 81.4, 45.1),
        "vit_base": Timm("vit_base_patch16_224", 86_567_656, 85.1, 163.0),
        # self-supervised on 142 million photos; a linear layer on their features, at 224 px: Oquab et al. (2023) and the README
        # of facebookresearch/dinov2
        "dinov2_small": Timm("vit_small_patch14_dinov2", 22_441_192, 81.1, 60.6, (224, 224)),
        "dinov2_base": Timm("vit_base_patch14_dinov2", 87_348_712, 84.5, 216.0, (224, 224)),
    }
)
DOWNLOADS: Mapping[str, str] = MappingProxyType(
    {  # networks of MODELS that are worth a download, and what for
        "dinov2_small": "features for few images, and for images unlike ImageNet's (top-1: of a linear layer on them)",
        "mobilenet_v4_medium": "accurate and fast on a CPU",
        "convnext_tiny": "the most accurate of its size when fine-tuned",
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
