"""Which image sizes a network takes, found by laying it out and sending an image's shape through: no memory, no arithmetic."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import timm
import torch
from torch import nn

from recog.core.errors import ConfigError
from recog.models.contract import first_reason

Takes = Callable[[tuple[int, int]], bool]
MAX_SIDE = 512  # beyond it no smallest size is looked for
SIZE_ERRORS = (RuntimeError, ValueError, AssertionError, IndexError, TypeError, ZeroDivisionError)
"""What timm's networks raise at a size that they cannot take."""


def timm_takes(name: str, *, in_chans: int) -> Takes:
    """Whether timm's network takes images of (height, width)."""

    def create(**arguments: Any) -> nn.Module:
        network: nn.Module = timm.create_model(name, in_chans=in_chans, **arguments)
        return network.eval()

    with torch.device("meta"):
        network = create()
    own_size = input_size(network)

    def takes(image_size: tuple[int, int]) -> bool:
        try:
            with torch.device("meta"), torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch's, of layers without elements
                sized = network
                if image_size != own_size and has_fixed_size(network):
                    sized = with_input_size(copy.deepcopy(network), image_size, create)
                sized(torch.zeros(1, in_chans, *image_size))
        except SIZE_ERRORS:
            return False
        return True

    return takes


def input_size(network: nn.Module) -> tuple[int, int]:
    """(height, width) that timm's network was made for."""
    cfg: Any = network.pretrained_cfg
    height, width = cfg["input_size"][-2:]
    return int(height), int(width)


def has_fixed_size(network: nn.Module) -> bool:
    """Whether timm's network must be told the size of its images, as its weights depend on it."""
    cfg: Any = network.pretrained_cfg
    return bool(cfg.get("fixed_input_size"))


def with_input_size(network: nn.Module, image_size: tuple[int, int], create: Callable[..., nn.Module]) -> nn.Module:
    """timm's `network` for images of another size: changed where it can be, else made anew by `create`.

    Raises one of SIZE_ERRORS where the architecture does not allow the size.
    """
    if hasattr(network, "set_input_size"):
        network.set_input_size(img_size=image_size)  # type: ignore[operator]
        return network
    return create(img_size=image_size)


def first_square(takes: Takes, *, start: int = 1) -> int | None:
    """The first side from `start` on of a square image that the network takes; None where none is up to 512 px."""
    return next((side for side in range(start, MAX_SIDE + 1) if takes((side, side))), None)


def wrong_size(name: str, image_size: tuple[int, int], error: Exception, takes: Takes) -> Exception:
    """The refusal of a size after `error`, with the smallest that works and the next above the one that was wanted.

    It is `error` itself where the size is not to blame.
    """
    if takes(image_size):
        return error
    height, width = image_size
    smallest = first_square(takes)
    remedy = "" if smallest is None else f"; the smallest that works is {smallest} x {smallest} px"
    above = None if smallest is None else first_square(takes, start=max(smallest, *image_size))
    if above is not None and above != smallest:
        remedy += f", the next above yours {above} x {above} px"
    return ConfigError(
        f"{name} cannot take images of {width} x {height} px: {first_reason(error).rstrip('.')}{remedy}."
    )
