"""Save and load a network as two files of a bundle, config.json and model.safetensors."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from recog.bundle.manifest import MANIFEST, read_manifest
from recog.bundle.seal import CONFIG, ONNX, WEIGHTS, NetworkConfig, check_files, read_network_config
from recog.core.errors import BundleError, ConfigError
from recog.core.files import pretty_json
from recog.core.task import Task
from recog.models.build import BuiltModel, build_model
from recog.models.classifier import Classifier, broken_weights, first_reason
from recog.models.config import ModelConfig
from recog.models.inner_layers import InnerLayers, with_layers
from recog.models.own_module import OwnModule
from recog.models.table import own_network
from recog.models.timm_bridge import timm

_PROBLEM_TYPES: Mapping[Task, Mapping[str, str]] = MappingProxyType(  # of transformers; a sigmoid per label is stated
    {"multiclass": {}, "multilabel": {"problem_type": "multi_label_classification"}}
)


def save_network_config(
    model: BuiltModel, path: Path, *, class_names: Sequence[str], task: Task = "multiclass"
) -> None:
    """Write config.json in the layout of timm and the Hugging Face hub; timm and transformers load timm's networks from it."""
    preprocess, classifier = model.preprocess, model.classifier
    pretrained_cfg = {
        "input_size": [preprocess.channels, *preprocess.image_size],
        "mean": list(classifier.channel_mean),
        "std": list(classifier.channel_std),
        "interpolation": preprocess.interpolation,
        "crop_pct": preprocess.crop_pct,
        "crop_mode": preprocess.crop_mode,
    }
    if model.library != "timm":
        table: dict[str, Any] = {
            "architecture": model.name,
            "library": model.library,
            "num_classes": len(class_names),
            "num_features": classifier.classifier.in_features,
            "label_names": list(class_names),
            "model_args": {"in_chans": preprocess.channels},
            "pretrained_cfg": pretrained_cfg,
        }
        if isinstance(classifier.network, InnerLayers):
            table |= {"head_layers": "multi", "head_mirror": classifier.network.mirror}
        if model.library == "own":
            table["served_by"] = ONNX  # only: the module's code is not part of a bundle
        path.write_bytes(pretty_json(table))
        return
    from timm.models._hub import save_config_for_hf

    save_config_for_hf(
        classifier.network,
        str(path),
        model_config={"label_names": list(class_names), "pretrained_cfg": pretrained_cfg},
        data_config=pretrained_cfg,  # without it, the test size of the starting weights would stay
    )
    table = json.loads(path.read_bytes())
    table["model_args"].pop("num_classes", None)  # transformers passes it a second time, from the top level
    table |= _PROBLEM_TYPES[task]
    path.write_bytes(pretty_json(table))


def save_weights(model: BuiltModel, path: Path) -> None:
    """Write the plain network's weights, contiguous: equal weights give equal files whatever their memory layout.

    Weights of a user's own module keep the module's names.
    """
    network = model.classifier.network
    state = network.own_state_dict() if isinstance(network, OwnModule) else network.state_dict()
    tensors: dict[str, torch.Tensor] = {}
    seen: set[int] = set()
    for name, value in state.items():
        tensor = value.detach().cpu().contiguous()
        # shared weights are stored under both names
        tensors[name] = tensor.clone() if tensor.data_ptr() in seen else tensor
        seen.add(tensor.data_ptr())
    path.write_bytes(save(tensors))


def load_classifier(folder: Path) -> Classifier:
    """The classifier of a bundle, rebuilt from its config.json and model.safetensors alone, in evaluation mode.

    BundleError where either file was changed after sealing, or they do not form a network.
    """
    if (folder / MANIFEST).exists():
        check_files(folder, read_manifest(folder), (CONFIG, WEIGHTS))
    config = read_network_config(folder)
    if config.library == "own":
        raise BundleError(
            f"{folder} was made from a custom module ({config.architecture}), whose code is not part of the bundle; "
            f"only {ONNX} can be run. With that code, load {WEIGHTS} into the module."
        )
    if not (folder / WEIGHTS).is_file():
        raise BundleError(f"{folder} has no {WEIGHTS}.")
    cfg = config.pretrained_cfg
    try:
        classifier = Classifier(_rebuild(config, folder).eval(), mean=cfg.mean, std=cfg.std)
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, OSError, SafetensorError) as error:
        # whatever timm, torch or a network's constructor raises for arguments and weights that do not fit it
        raise BundleError(f"{folder}: {CONFIG} and {WEIGHTS} do not form a network: {first_reason(error)}") from None
    broken = broken_weights(classifier.network)
    if broken:
        raise BundleError(f"{folder / WEIGHTS} is damaged: {broken}.")
    if classifier.classifier.out_features != config.num_classes:
        raise BundleError(
            f"{folder}: {CONFIG} and {WEIGHTS} do not form a network: num_classes is {config.num_classes}, the last layer's "
            f"{classifier.classifier.out_features}"
        )
    return classifier


def _rebuild(config: NetworkConfig, folder: Path) -> nn.Module:
    name = config.architecture
    if config.head_layers == "multi":
        return _rebuild_inner_layers(config, folder)
    own = own_network(name)
    if own is not None:
        _, height, width = config.pretrained_cfg.input_size
        in_chans = config.model_args["in_chans"]
        network = own.build(num_classes=config.num_classes, in_chans=in_chans, image_size=(height, width))
        network.load_state_dict(load_file(folder / WEIGHTS))
        return network
    if not timm().is_model(name):
        raise BundleError(f"{folder} contains the network '{name}', which is unknown to this release and to timm.")
    rebuilt: nn.Module = timm().create_model(f"local-dir:{folder}", pretrained=True)
    return rebuilt


def _rebuild_inner_layers(config: NetworkConfig, folder: Path) -> nn.Module:
    channels, height, width = config.pretrained_cfg.input_size
    wanted = ModelConfig(name=config.architecture, weights="none", image_size=(height, width), channels=channels)
    try:
        plain = build_model(wanted, num_classes=config.num_classes)
        model, _, _ = with_layers(plain, "multi", mirror=config.head_mirror)
    except ConfigError as error:
        raise BundleError(f"{folder}: {CONFIG} and {WEIGHTS} do not form a network: {error}") from None
    model.classifier.network.load_state_dict(load_file(folder / WEIGHTS))
    return model.classifier.network
