"""Which network to build, checked without importing torch."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, cast

from recog.bundle.manifest import MANIFEST, find_bundle, read_bundle_json, read_manifest
from recog.bundle.seal import CONFIG, WEIGHTS, NetworkConfig, check_files, read_network_config
from recog.core.errors import BundleError, ConfigError
from recog.core.files import user_path
from recog.models.names import known_network
from recog.models.table import timm_name

CropMode = Literal["center", "squash", "border"]  # as in recog.core.preprocess
OWN_MODULE_PREFIX = "module:"  # of the name of a module that the user passed as an object


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    name: str | None = None  # of MODELS or of timm; planned if None
    weights: str = "auto"  # auto: package, then hub; none: random; else a weights file, run or bundle
    image_size: tuple[int, int] | None = None  # (height, width); the network's own if None
    crop_mode: CropMode | None = None  # what becomes of images of another shape; the network's own if None
    channels: int | None = None  # 1: images are made grey; 3: colour; planned if None
    mean: tuple[float, ...] | None = None  # per channel on [0, 1]; the weights' own if None
    std: tuple[float, ...] | None = None
    parent: str = ""  # a run or bundle to continue from, with its network, preprocessing and last layer
    parent_digest: str = ""  # of that bundle, once planned: another bundle is then refused
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
        for name, rate in self.rates.items():
            if not 0 <= rate < 1:
                raise ConfigError(f"model.{name} is {rate}; it must be at least 0 and below 1.")
        if self.std is not None and min(self.std) <= 0:
            raise ConfigError(f"model.std is {self.std}; every value must be above 0.")

    @property
    def num_channels(self) -> int:
        """As set or planned, else colour."""
        return self.channels or 3

    @property
    def rates(self) -> dict[str, float]:
        """The rates that are set, by name."""
        rates = {"drop_rate": self.drop_rate, "drop_path_rate": self.drop_path_rate}
        return {name: rate for name, rate in rates.items() if rate is not None}


WEIGHTS_SUFFIXES = (".safetensors", ".pth", ".pt", ".th", ".bin", ".ckpt")


def check_local_weights(weights: str) -> Path:
    """The file that `weights` names: a weights file, or model.safetensors of a folder, bundle or run, by path or name.

    ConfigError where there is none, or its suffix is unknown.
    """
    given = user_path(weights)
    file = given / WEIGHTS if given.is_dir() else given
    if not file.is_file():
        try:
            file = find_bundle(weights) / WEIGHTS
        except BundleError:
            raise ConfigError(
                f"weights {weights} not found: expected a file ({', '.join(WEIGHTS_SUFFIXES)}), a run or a bundle."
            ) from None
    if file.suffix not in WEIGHTS_SUFFIXES:
        raise ConfigError(f"{weights} is not a weights file; expected one of {', '.join(WEIGHTS_SUFFIXES)}.")
    return file


def with_bundle(config: ModelConfig) -> ModelConfig:
    """`config` with the network, input size, mean and std of the bundle that `config.weights` names; else unchanged.

    ConfigError for a bundle of another network than `config.name`, or of a module whose code is not part of it.
    """
    if config.weights in ("auto", "none"):
        return config
    file = check_local_weights(config.weights)
    if not (file.parent / MANIFEST).is_file():
        return config
    found = _network_of(file.parent, config.weights, config.name)
    channels, height, width = found.pretrained_cfg.input_size
    same = config.channels in (None, channels)
    return replace(
        config,
        name=config.name or found.architecture,
        weights=str(file),
        image_size=config.image_size or (height, width),
        crop_mode=config.crop_mode or cast("CropMode", found.pretrained_cfg.crop_mode),
        channels=config.channels or channels,
        mean=config.mean or (found.pretrained_cfg.mean if same else None),
        std=config.std or (found.pretrained_cfg.std if same else None),
    )


def with_parent(config: ModelConfig) -> ModelConfig:
    """`config` with the network, input size, mean and std of the bundle that `config.parent` names; unchanged without one.

    ConfigError or BundleError for a parent that cannot be continued, or a setting that contradicts it.
    """
    if not config.parent:
        if config.parent_digest:
            raise ConfigError(
                f"model.parent_digest is set, but no parent is named; give the bundle with this digest as --from BUNDLE: "
                f"{config.parent_digest}."
            )
        return config
    if config.weights != "auto":
        raise ConfigError(
            f"--from {config.parent} brings its own weights, but model.weights is {config.weights}; leave one of them out."
        )
    folder = find_bundle(config.parent)
    found = _network_of(folder, config.parent, config.name)
    channels, height, width = found.pretrained_cfg.input_size
    if config.channels not in (None, channels):
        images = "grey" if channels == 1 else "colour"
        raise ConfigError(f"{config.parent} takes {images} images, so --channels {config.channels} is not possible.")
    digest = str(read_bundle_json(folder / MANIFEST)["digest"])
    if config.parent_digest not in ("", digest):
        raise ConfigError(
            f"{config.parent} is another bundle than this config was planned for: its digest is {digest[:16]}..., "
            f"model.parent_digest {config.parent_digest[:16]}.... Name the right one, or start again from this one: --from "
            f"{config.parent}."
        )
    return replace(
        config,
        name=config.name or found.architecture,
        parent=str(folder),
        parent_digest=digest,
        image_size=config.image_size or (height, width),
        crop_mode=config.crop_mode or cast("CropMode", found.pretrained_cfg.crop_mode),
        channels=channels,
        mean=config.mean or found.pretrained_cfg.mean,
        std=config.std or found.pretrained_cfg.std,
    )


def _network_of(folder: Path, given: str, name: str | None) -> NetworkConfig:
    """config.json of the bundle `folder`, that the user named `given`; its files are verified.

    ConfigError for a damaged bundle, one of another network than `name`, or of a module whose code is not part of it.
    """
    try:
        check_files(folder, read_manifest(folder), (CONFIG, WEIGHTS))
        found = read_network_config(folder)
    except BundleError as error:
        raise ConfigError(f"weights {given}: {error}") from None
    if found.library == "own":
        raise ConfigError(
            f"{given} was made from a custom module ({found.architecture}); load its {WEIGHTS} into the module and "
            "pass that: recog.train(..., network=module)."
        )
    if name is not None and timm_name(known_network(name)).partition(".")[0] != found.architecture:
        raise ConfigError(f"{given} is a bundle of {found.architecture}, but model.name is {name}; leave --model out.")
    return found


def with_known_name(config: ModelConfig) -> ModelConfig:
    """`config` with the name of a network that recog or timm has, for the one that `config.name` means. ConfigError if none."""
    if config.name is None or config.name.startswith(OWN_MODULE_PREFIX):
        return config
    return replace(config, name=known_network(config.name))


def check_network(config: ModelConfig) -> None:
    """ConfigError for an unknown network or a missing weights file, found without importing torch."""
    if config.weights not in ("auto", "none"):
        check_local_weights(config.weights)
    with_known_name(config)
