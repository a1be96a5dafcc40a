"""Build a network from a ModelConfig: network, Preprocess and origin of the weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from recog.bundle.manifest import read_manifest
from recog.bundle.seal import WEIGHTS, read_network_config
from recog.core.errors import ConfigError
from recog.core.files import shown
from recog.core.preprocess import Preprocess
from recog.core.task import Task
from recog.models.classifier import Classifier, broken_weights, check_contract
from recog.models.config import OWN_MODULE_PREFIX, ModelConfig, check_local_weights
from recog.models.names import unknown_network
from recog.models.own_module import OwnModule, channels_of
from recog.models.table import MODELS, Own, own_network, timm_name
from recog.models.timm_bridge import (
    SIZE_ERRORS,
    cfg_of,
    create_from_bundle,
    create_timm,
    has_fixed_size,
    input_size,
    timm,
    timm_takes,
    with_input_size,
    wrong_size,
)
from recog.models.weights import RANDOM_WEIGHTS, WeightsOrigin, load_torchvision_weights
from recog.models.weights_file import (
    NUM_NAMED,
    fit_tensors,
    head_name,
    load_fitted,
    origin_of,
    read_tensors,
    wrong_weights,
)

# Srivastava et al. (2014), "Dropout"; Huang et al. (2016), "Deep Networks with Stochastic Depth"
RATES = {"drop_rate": "dropout", "drop_path_rate": "drop-path"}


@dataclass(frozen=True, kw_only=True)
class BuiltModel:
    name: str  # the architecture, as in config.json
    library: Literal[
        "recog", "timm", "own"
    ]  # can rebuild it from config.json; 'own', a user's module, cannot be rebuilt
    classifier: Classifier
    preprocess: Preprocess
    origin: WeightsOrigin
    has_head: bool = False  # its last layer knows some of the classes, from a parent


def build_model(config: ModelConfig, *, num_classes: int) -> BuiltModel:
    """The network named by `config`, in evaluation mode, with a new last layer for `num_classes`.

    Random weights come from torch's generator, which the caller seeds. ConfigError for an unknown name or unavailable weights.
    """
    if config.name is None:
        raise ConfigError("model.name is not set.")
    if config.name.startswith(OWN_MODULE_PREFIX):
        raise ConfigError(
            f"{config.name.removeprefix(OWN_MODULE_PREFIX)} is your own module and cannot be built by name; pass it again: "
            "recog.train(..., network=module)."
        )
    own = own_network(config.name)
    if own is not None:
        return _build_own(config, own, num_classes)
    if not timm().is_model(timm_name(config.name)):
        raise unknown_network(config.name, timm().list_models())
    return _build_timm(config, num_classes)


def build_from_parent(config: ModelConfig, class_names: Sequence[str], *, task: Task, with_head: bool) -> BuiltModel:
    """The network of the bundle `config.parent` for `class_names`, at config.image_size, in evaluation mode.

    `with_head` keeps the last layer's rows of the classes that both have; a new class begins with the mean of these rows, so
    with their mean logit (as for new words of a vocabulary: Hewitt, 2021). Without it, and where the two share no class or differ
    in task, the last layer is to be fitted. ConfigError for a size that the network does not support.
    """
    folder = Path(config.parent)
    manifest, saved = read_manifest(folder), read_network_config(folder)
    size, channels = config.image_size or manifest.preprocess.image_size, manifest.preprocess.channels
    own = own_network(saved.architecture)
    try:
        if own is not None:
            network = _own_from_parent(folder, own, len(class_names), size=size, channels=channels)
            _set_own_rates(saved.architecture, network, config.rates)
        elif (
            saved.head_layers == "multi"
        ):  # its head reads other features than the last layer of the timm network in it
            plain = replace(config, name=saved.architecture, weights=str(folder / WEIGHTS), parent="")
            plain = replace(plain, image_size=size, channels=channels)
            network = _build_timm(plain, len(class_names)).classifier.network
        else:
            network = create_from_bundle(folder, size, {"num_classes": len(class_names), **config.rates})
            _check_rates(saved.architecture, network, config.rates)
        shared = [name for name in class_names if name in manifest.class_names]
        if manifest.task != task or not with_head or saved.head_layers == "multi":
            shared = []
        if shared:
            _keep_rows(folder, network, manifest.class_names, class_names)
        new = [name for name in class_names if name not in shared]
        head = f"its last layer has {len(shared)} of {len(class_names)} classes" if shared else "last layer new"
        if shared and new:
            head += f", new: {shown(', '.join(new[:NUM_NAMED]))}{', ...' if len(new) > NUM_NAMED else ''}"
        built = _built(
            saved.architecture,
            "timm" if own is None else "recog",
            network,
            replace(manifest.preprocess, image_size=size, crop_mode=config.crop_mode or manifest.preprocess.crop_mode),
            mean=config.mean or saved.pretrained_cfg.mean,
            std=config.std or saved.pretrained_cfg.std,
            origin=WeightsOrigin(
                source=f"bundle {config.parent_digest[:16]} ({shown(manifest.data.name)}), {head}",
                licence="that of the parent bundle, see its README.md",
                parent=config.parent_digest,
            ),
        )
    except SIZE_ERRORS as error:
        takes = timm_takes(saved.architecture, in_chans=channels) if own is None else own.takes
        raise wrong_size(saved.architecture, size, error, takes) from None
    return replace(built, has_head=bool(shared))


def _own_from_parent(folder: Path, entry: Own, num_classes: int, *, size: tuple[int, int], channels: int) -> nn.Module:
    network = entry.build(num_classes=num_classes, in_chans=channels, image_size=size)
    fitted = fit_tensors(load_file(folder / WEIGHTS), network)
    if fitted.misshapen or fitted.missing:
        raise ConfigError(
            f"layers of {folder} depend on the image size, so it continues at its own size only; leave model.image_size out."
        )
    load_fitted(network, fitted)
    return network


def _keep_rows(folder: Path, network: nn.Module, before: Sequence[str], after: Sequence[str]) -> None:
    """Put the parent's rows of classes `before` into the last layer of `network` for classes `after`."""
    layer, prefix = network.get_classifier(), head_name(network)  # type: ignore[operator]
    row_of = {name: row for row, name in enumerate(before)}
    rows = [row_of[name] for name in after if name in row_of]
    with safe_open(folder / WEIGHTS, framework="pt") as file, torch.no_grad():
        for name, target in layer.named_parameters():
            saved = file.get_tensor(f"{prefix}.{name}")
            target.copy_(saved[rows].mean(dim=0, keepdim=True).expand_as(target))
            for row, class_name in enumerate(after):
                if class_name in row_of:
                    target[row] = saved[row_of[class_name]]


def name_own_module(config: ModelConfig, module: nn.Module) -> ModelConfig:
    """`config` with the name of the user's `module`, and the channels of its first convolution if none are set."""
    name = f"{OWN_MODULE_PREFIX}{type(module).__name__}"
    if config.name not in (None, name):
        raise ConfigError(f"model.name is {config.name}, but a module was passed as well; leave one of them out.")
    return replace(config, name=name, channels=config.channels or channels_of(module))


def build_own_module(module: nn.Module, config: ModelConfig, *, num_classes: int) -> BuiltModel:
    """A copy of the user's `module`, float32 [B, C, H, W] -> logits [B, K], as a BuiltModel.

    ConfigError where the image size is not set, or the module returns something else.
    """
    name = type(module).__name__
    if config.image_size is None:
        raise ConfigError(
            f"the input size of the module {name} is unknown; set model.image_size to (height, width), in Python "
            "TrainConfig(model=ModelConfig(image_size=(64, 64)))."
        )
    if config.weights not in ("auto", "none"):
        raise ConfigError(f"model.weights is {config.weights}; load weights into your own module before passing it.")
    channels = config.num_channels
    network = OwnModule(module, num_classes=num_classes, in_chans=channels, image_size=config.image_size)
    _set_own_rates(name, network, config.rates)
    return _built(
        name,
        "own",
        network,
        Preprocess(image_size=config.image_size, channels=channels, crop_mode=config.crop_mode or "center"),
        mean=config.mean or (0.5,) * channels,
        std=config.std or (0.5,) * channels,
        origin=WeightsOrigin(source="as passed by the caller", licence="not stated"),
    )


def _built(
    name: str,
    library: Literal["recog", "timm", "own"],
    network: nn.Module,
    preprocess: Preprocess,
    *,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    origin: WeightsOrigin,
) -> BuiltModel:
    broken = broken_weights(network)
    if broken:
        raise ConfigError(f"the weights of {name} ({origin.source}) are damaged: {broken}. Use other weights.")
    classifier = Classifier(network.eval(), mean=mean, std=std)
    check_contract(name, classifier, preprocess)
    return BuiltModel(name=name, library=library, classifier=classifier, preprocess=preprocess, origin=origin)


def _build_own(config: ModelConfig, entry: Own, num_classes: int) -> BuiltModel:
    name = str(config.name)
    image_size = config.image_size or entry.image_size
    channels = config.channels or entry.channels
    try:
        network = entry.build(num_classes=num_classes, in_chans=channels, image_size=image_size)
    except ValueError as error:
        raise wrong_size(name, image_size, error, entry.takes) from None
    _set_own_rates(name, network, config.rates)
    origin = RANDOM_WEIGHTS
    if config.weights not in ("auto", "none"):
        path = check_local_weights(config.weights)
        fitted = fit_tensors(read_tensors(path), network)
        if not fitted.fits:
            raise wrong_weights(path, name, fitted)
        load_fitted(network, fitted)
        origin = origin_of(path, fitted.describe())
    elif config.weights == "auto" and entry.weights is not None:
        state, origin = load_torchvision_weights(entry.weights)
        load_fitted(network, fit_tensors(state, network))
    return _built(
        name,
        "recog",
        network,
        Preprocess(
            image_size=image_size,
            channels=channels,
            interpolation=entry.interpolation,
            crop_pct=entry.crop_pct,
            crop_mode=config.crop_mode or "center",
        ),
        mean=config.mean or _per_channel(entry.mean or (0.5,), channels),
        std=config.std or _per_channel(entry.std or (0.5,), channels),
        origin=origin,
    )


def _build_timm(config: ModelConfig, num_classes: int) -> BuiltModel:
    name = timm_name(str(config.name))
    channels = config.num_channels
    arguments: dict[str, Any] = {"num_classes": num_classes, **config.rates}
    if channels != 3:
        arguments["in_chans"] = channels
    try:
        network, origin = create_timm(name, config.weights, arguments)
    except (TypeError, ConfigError) as error:
        for rate in config.rates:
            if f"unexpected keyword argument '{rate}'" in str(error):
                raise _no_layer(name, rate) from None
        raise
    _check_rates(name, network, config.rates)
    data = timm().data.resolve_data_config(pretrained_cfg=cfg_of(network))
    entry = MODELS.get(str(config.name))
    usual = entry.image_size if entry is not None else None
    image_size = config.image_size or usual or input_size(network)
    mean = config.mean or _per_channel(data["mean"], channels)
    preprocess = Preprocess(
        image_size=image_size,
        channels=channels,
        interpolation=data["interpolation"],
        crop_pct=data["crop_pct"],
        crop_mode=config.crop_mode or data["crop_mode"],
        fill=tuple(round(255 * m) for m in mean),
    )
    try:
        if image_size != input_size(network) and has_fixed_size(network):
            network = with_input_size(
                network, image_size, lambda **size: create_timm(name, config.weights, arguments | size)[0]
            )
        std = config.std or _per_channel(data["std"], channels)
        built = _built(name, "timm", network, preprocess, mean=mean, std=std, origin=origin)
    except SIZE_ERRORS as error:
        raise wrong_size(name, image_size, error, timm_takes(name, in_chans=channels)) from None
    # the architecture is the name without the tag of its weights, as timm writes it into config.json
    return replace(built, name=cfg_of(network)["architecture"])


def _check_rates(name: str, network: nn.Module, rates: Mapping[str, float]) -> None:
    """ConfigError where a rate above 0 reached no layer: some of timm's builders ignore it."""
    modules = list(network.modules())
    in_layers = {
        "drop_rate": [getattr(m, "drop_rate", None) or 0.0 for m in modules]
        + [m.p for m in modules if isinstance(m, nn.Dropout)],
        "drop_path_rate": [getattr(m, "drop_prob", None) or 0.0 for m in modules],
    }
    for rate, value in rates.items():
        if value and not any(in_layers[rate]):
            raise _no_layer(name, rate)


def _set_own_rates(name: str, network: nn.Module, rates: Mapping[str, float]) -> None:
    """Set the rate of every dropout layer of a network of recog or the user's. ConfigError where it has none."""
    layers = [module for module in network.modules() if isinstance(module, nn.Dropout)]
    for rate, value in rates.items():
        if value and (rate == "drop_path_rate" or not layers):
            raise _no_layer(name, rate)
    for layer in layers:
        layer.p = rates.get("drop_rate", layer.p)


def _no_layer(name: str, rate: str) -> ConfigError:
    return ConfigError(
        f"model.{rate} is set, but {name} has no {RATES[rate]} layer; leave it out, or use a network that has one, such as "
        "tf_efficientnet_lite0."
    )


def _per_channel(values: Sequence[float], channels: int) -> tuple[float, ...]:
    return tuple(values) if channels == len(values) else (sum(values) / len(values),) * channels
