"""From a ModelConfig to a network with its Preprocess and its weights' origin."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.data.config import resolve_data_config
from torch import nn

from recog.core.config import did_you_mean
from recog.core.errors import ConfigError
from recog.core.preprocess import Preprocess
from recog.models.classifier import Classifier
from recog.models.contract import check_contract, first_reason
from recog.models.dropout import check_rates, refusing_rates, set_own_rates, timm_rates
from recog.models.own_module import PREFIX, OwnModule, channels_of
from recog.models.sizes import SIZE_ERRORS, has_fixed_size, input_size, timm_takes, with_input_size, wrong_size
from recog.models.table import MODELS, Own, own_network, timm_name
from recog.models.timm_bridge import cfg_of, create_timm
from recog.models.weights import RANDOM_WEIGHTS, WeightsOrigin, check_local_weights, load_torchvision_weights


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    name: str | None = None  # of MODELS or of timm; planned if None
    weights: str = "auto"  # auto: package, then hub; none: random; else a .safetensors file
    image_size: tuple[int, int] | None = None  # (height, width); the network's own if None
    channels: int | None = None  # 1: images are made grey; 3: colour; planned if None
    mean: tuple[float, ...] | None = None  # per channel on [0, 1]; the weights' own if None
    std: tuple[float, ...] | None = None
    drop_rate: float | None = None  # of dropout in training, mostly before the last layer; the network's own if None
    drop_path_rate: float | None = None  # of whole residual branches, rising with depth; the network's own if None

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
        for name, rate in (("drop_rate", self.drop_rate), ("drop_path_rate", self.drop_path_rate)):
            if rate is not None and not 0 <= rate < 1:
                raise ConfigError(f"model.{name} is {rate}; it must be at least 0 and below 1.")
        if self.std is not None and min(self.std) <= 0:
            raise ConfigError(f"model.std is {self.std}; every value must be above 0.")

    @property
    def num_channels(self) -> int:
        """As set or planned, else colour."""
        return self.channels or 3


@dataclass(frozen=True, kw_only=True)
class BuiltModel:
    name: str  # the architecture, as config.json has it
    library: Literal[
        "recog", "timm", "own"
    ]  # that can rebuild it from config.json; none can a module of the user's own
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
    if config.name.startswith(PREFIX):
        raise ConfigError(
            f"{config.name.removeprefix(PREFIX)} is a module of your own, which no name leads to; give it again: "
            "recog.train(..., network=module)."
        )
    own = own_network(config.name)
    if own is not None:
        return _build_own(config, own, num_classes)
    if not timm.is_model(timm_name(config.name)):
        known = [*MODELS, *timm.list_models()]
        raise ConfigError(f"there is no network '{config.name}' here or in timm.{did_you_mean(config.name, known)}")
    return _build_timm(config, num_classes)


def _build_own(config: ModelConfig, entry: Own, num_classes: int) -> BuiltModel:
    name = str(config.name)
    image_size = config.image_size or entry.image_size
    channels = config.channels or entry.channels
    try:
        network = entry.build(num_classes=num_classes, in_chans=channels, image_size=image_size)
    except ValueError as error:
        raise wrong_size(name, image_size, error, entry.takes) from None
    set_own_rates(name, network, config.drop_rate, config.drop_path_rate)
    origin = RANDOM_WEIGHTS
    if config.weights not in ("auto", "none"):
        path = check_local_weights(config.weights)
        try:
            _load_state(network, load_file(path))
        except (RuntimeError, SafetensorError) as error:
            raise ConfigError(f"the weights in {path.name} do not fit: {first_reason(error)}") from None
        origin = WeightsOrigin(source=f"file {path.name}", licence="not stated")
    elif config.weights == "auto" and entry.weights is not None:
        state, origin = load_torchvision_weights(entry.weights)
        _load_state(network, state)
    classifier = Classifier(
        network.eval(),
        mean=config.mean or _per_channel(entry.mean or (0.5,), channels),
        std=config.std or _per_channel(entry.std or (0.5,), channels),
    )
    preprocess = Preprocess(
        image_size=image_size, channels=channels, interpolation=entry.interpolation, crop_pct=entry.crop_pct
    )
    check_contract(name, classifier, preprocess)
    return BuiltModel(name=name, library="recog", classifier=classifier, preprocess=preprocess, origin=origin)


def name_own_module(config: ModelConfig, module: nn.Module) -> ModelConfig:
    """`config` for the user's `module`: a name that says so, and the channels of its first convolution if none are set."""
    name = f"{PREFIX}{type(module).__name__}"
    if config.name not in (None, name):
        raise ConfigError(f"model.name is {config.name}, and a module was given as well; leave one of them out.")
    return replace(config, name=name, channels=config.channels or channels_of(module))


def build_own_module(module: nn.Module, config: ModelConfig, *, num_classes: int) -> BuiltModel:
    """A copy of the user's `module`, which takes float32 [B, C, H, W] and gives logits [B, K], as a network of recog.

    ConfigError where the image size is not set, or the module does not give such logits.
    """
    name = type(module).__name__
    if config.image_size is None:
        raise ConfigError(
            f"the input size of the module {name} is not known; set model.image_size to (height, width), in Python "
            "TrainConfig(model=ModelConfig(image_size=(64, 64)))."
        )
    if config.weights not in ("auto", "none"):
        raise ConfigError(f"model.weights is {config.weights}; load weights into your own module before it is given.")
    channels = config.num_channels
    network = OwnModule(module, num_classes=num_classes, in_chans=channels, image_size=config.image_size)
    set_own_rates(name, network, config.drop_rate, config.drop_path_rate)
    classifier = Classifier(network.eval(), mean=config.mean or (0.5,) * channels, std=config.std or (0.5,) * channels)
    preprocess = Preprocess(image_size=config.image_size, channels=channels)
    check_contract(name, classifier, preprocess)
    origin = WeightsOrigin(source="the module as it was given", licence="not stated")
    return BuiltModel(name=name, library="own", classifier=classifier, preprocess=preprocess, origin=origin)


def _load_state(network: nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    """Load `state`, which must fit wholly, but that a last layer for other classes is left out and colour filters are summed
    for a grey network."""
    layer = network.get_classifier()  # type: ignore[operator]
    head = next(name for name, module in network.named_modules() if module is layer)
    fitted = dict(state)
    for key, ours in network.state_dict().items():
        theirs = fitted.get(key)
        if theirs is None or theirs.shape == ours.shape:
            continue
        if key.startswith(f"{head}.") and theirs.shape[1:] == ours.shape[1:]:
            fitted[key] = ours
        elif theirs.ndim == 4 and theirs.shape[1] == 3 and ours.shape[1] == 1:
            fitted[key] = theirs.sum(dim=1, keepdim=True)
    network.load_state_dict(fitted)


def _build_timm(config: ModelConfig, num_classes: int) -> BuiltModel:
    name = timm_name(str(config.name))
    channels = config.num_channels
    arguments: dict[str, Any] = {"num_classes": num_classes}
    if channels != 3:
        arguments["in_chans"] = channels
    rates = timm_rates(config.drop_rate, config.drop_path_rate)
    arguments |= rates
    with refusing_rates(name, rates):
        network, origin = create_timm(name, config.weights, arguments)
    check_rates(name, network, rates)
    data = resolve_data_config(pretrained_cfg=cfg_of(network))  # type: ignore[no-untyped-call]
    image_size = config.image_size or input_size(network)
    mean = config.mean or _per_channel(data["mean"], channels)
    std = config.std or _per_channel(data["std"], channels)
    preprocess = Preprocess(
        image_size=image_size,
        channels=channels,
        interpolation=data["interpolation"],
        crop_pct=data["crop_pct"],
        crop_mode=data["crop_mode"],
        fill=tuple(round(255 * m) for m in mean),
    )
    try:
        if image_size != input_size(network) and has_fixed_size(network):
            network = with_input_size(
                network, image_size, lambda **size: create_timm(name, config.weights, arguments | size)[0]
            )
        classifier = Classifier(network.eval(), mean=mean, std=std)
        check_contract(name, classifier, preprocess)
    except SIZE_ERRORS as error:
        raise wrong_size(name, image_size, error, timm_takes(name, in_chans=channels)) from None
    # the architecture is the name without the tag of its weights, as timm writes it into config.json
    return BuiltModel(
        name=cfg_of(network)["architecture"],
        library="timm",
        classifier=classifier,
        preprocess=preprocess,
        origin=origin,
    )


def _per_channel(values: Sequence[float], channels: int) -> tuple[float, ...]:
    return tuple(values) if channels == len(values) else (sum(values) / len(values),) * channels
