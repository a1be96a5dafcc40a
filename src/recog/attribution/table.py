"""The table of methods. Importing it imports no torch; a method is imported when it is called."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from types import MappingProxyType
from typing import Protocol, cast

from recog.attribution.subject import Attribution, Images, Labels, Subject, check_pairs, why_no_layers
from recog.core.config import nearest
from recog.core.errors import ConfigError


class Explain(Protocol):
    """A method: which pixels of images uint8 [B, H, W, C] contribute to `labels` int64 [B]."""

    def __call__(self, subject: Subject, images: Images, labels: Labels) -> Attribution: ...


@dataclass(frozen=True, kw_only=True)
class Method:
    module: str  # of recog.attribution.methods
    function: str
    title: str
    num_passes: int  # through the network for one map, a backward pass counted as two
    needs_layers: bool = True  # whether it needs the network's module, and with it torch
    package: str = ""  # that it needs beyond those of training
    is_signed: bool = False  # whether negative values count against the label


EXPLAINERS: Mapping[str, Method] = MappingProxyType(
    {
        "gradcam": Method(module="cam", function="gradcam", num_passes=1, title="Grad-CAM"),
        "layercam": Method(module="cam", function="layercam", num_passes=1, title="Layer-CAM"),
        "integrated-gradients": Method(
            module="gradients",
            function="integrated_gradients",
            num_passes=98,
            title="Integrated gradients",
            package="captum",
            is_signed=True,
        ),
        "gradients": Method(module="gradients", function="gradients", num_passes=3, title="Input gradients"),
        "smoothgrad": Method(module="gradients", function="smoothgrad", num_passes=48, title="SmoothGrad"),
        "occlusion": Method(
            module="masking",
            function="occlusion",
            num_passes=226,
            title="Occlusion",
            needs_layers=False,
            is_signed=True,
        ),
        "rise": Method(
            module="masking", function="rise", num_passes=513, title="RISE", needs_layers=False, is_signed=True
        ),
    }
)
DEFAULT_METHOD = "gradcam"
DEFAULT_WITHOUT_LAYERS = "occlusion"


def check_method(name: str) -> str:
    """`name`, if it is one of EXPLAINERS; else ConfigError."""
    if name in EXPLAINERS:
        return name
    raise ConfigError(
        f"there is no method '{name}'; expected auto, {', '.join(EXPLAINERS)}.{nearest(name, EXPLAINERS)}"
    )


def usable_methods(subject: Subject) -> tuple[str, ...]:
    """The names of the methods that can explain `subject`, with the packages that are installed."""
    has_layers = not why_no_layers(subject)
    return tuple(
        name
        for name, method in EXPLAINERS.items()
        if (has_layers or not method.needs_layers) and (not method.package or find_spec(method.package) is not None)
    )


def attribute(name: str, subject: Subject, images: Images, labels: Labels) -> Attribution:
    """The Attribution of `labels` int64 [B] to the pixels of `images` uint8 [B, H, W, C], by the method `name`.

    ConfigError for an unknown method, one that needs layers where there are none, or a network without a usable layer.
    """
    method = EXPLAINERS[check_method(name)]
    check_pairs(images, labels)
    reason = why_no_layers(subject) if method.needs_layers else ""
    if reason:
        others = [other for other, row in EXPLAINERS.items() if not row.needs_layers]
        raise ConfigError(f"{name} needs the layers of the network: {reason} Without them: {', '.join(others)}.")
    module = importlib.import_module(f"recog.attribution.methods.{method.module}")
    return cast("Explain", getattr(module, method.function))(subject, images, labels)
