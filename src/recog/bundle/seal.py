"""Sealing: hash what was written, write the manifest last; and checking a sealed bundle file by file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from recog.bundle.manifest import MANIFEST, Manifest, read_bundle_json, write_manifest
from recog.bundle.reference import FEATURES
from recog.core.errors import BundleError
from recog.core.files import is_litter, sha256_file
from recog.core.records import convert_record

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
ONNX = "model.onnx"
CALIBRATION = "calibration.json"
REPORT_JSON = "report.json"
REPORT_HTML = "report.html"
RUN_CONFIG = "run.toml"
CARD = "README.md"
OPTIONAL_FILES = frozenset(
    {FEATURES, REPORT_HTML}
)  # the page was part of bundles before it was kept in the run folder only
REQUIRED_FILES = frozenset({CONFIG, WEIGHTS, ONNX, CALIBRATION, "reference.safetensors", REPORT_JSON, RUN_CONFIG, CARD})


def seal(folder: Path, draft: Manifest) -> Manifest:
    """Hash every file of `folder` and write recog.json: `draft`, whose own `files` do not count, with those hashes.

    BundleError where a file is missing or one too many, or where config.json differs.
    """
    present = {path.name for path in folder.iterdir()}
    missing, unknown = REQUIRED_FILES - present, present - REQUIRED_FILES - OPTIONAL_FILES
    if missing or unknown:
        raise BundleError(
            f"the bundle cannot be sealed: missing {sorted(missing) or 'nothing'}, not part of it {sorted(unknown) or 'nothing'}."
        )
    manifest = replace(draft, files={name: sha256_file(folder / name) for name in sorted(present)})
    check_facts(manifest, read_network_config(folder))
    write_manifest(folder, manifest)
    return manifest


def check_files(folder: Path, manifest: Manifest, names: Iterable[str]) -> None:
    """BundleError unless each of `names` has the hash that the manifest gives."""
    for name in names:
        expected = manifest.files.get(name)
        path = folder / name
        if expected is None:
            raise BundleError(f"{folder / MANIFEST} does not list {name}.")
        if not os.path.lexists(path):
            raise BundleError(f"{folder} lacks {name}, which its manifest lists; get the bundle again.")
        if sha256_file(path, error=BundleError) != expected:
            raise BundleError(f"{path} is not the file that was sealed (its sha256 differs); get the bundle again.")


def check_all_files(folder: Path, manifest: Manifest) -> tuple[str, ...]:
    """As check_files for every file of the manifest; also BundleError where a part is not listed or the folder holds more.

    Returns what file managers left in the folder, such as .DS_Store, which is ignored.
    """
    missing = REQUIRED_FILES - set(manifest.files)
    if missing:
        raise BundleError(f"{folder / MANIFEST} does not list {', '.join(sorted(missing))}.")
    check_files(folder, manifest, manifest.files)
    strangers = {path.name for path in folder.iterdir()} - set(manifest.files) - {MANIFEST}
    ignored = tuple(sorted(filter(is_litter, strangers)))
    if strangers.difference(ignored):
        names = ", ".join(sorted(strangers.difference(ignored)))
        raise BundleError(
            f"{folder} holds files that were not sealed: {names}. Move them elsewhere, or get the bundle again."
        )
    return ignored


@dataclass(frozen=True, kw_only=True)
class PretrainedConfig:
    """`pretrained_cfg` of config.json, in timm's layout: what the network expects of its input."""

    input_size: tuple[int, int, int]  # channels, height, width
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    crop_pct: float
    crop_mode: str


HeadLayers = Literal["last", "multi"]  # what the last linear layer reads; multi: recog.models.inner_layers


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """What recog reads of config.json; timm's further keys are timm's."""

    architecture: str
    num_classes: int
    label_names: tuple[str, ...]
    pretrained_cfg: PretrainedConfig
    library: str = "timm"
    head_layers: HeadLayers = "last"
    head_mirror: bool = False  # features are averaged over the image and its mirror image
    model_args: Mapping[str, Any] = field(default_factory=dict)


def read_network_config(folder: Path) -> NetworkConfig:
    """config.json of a bundle; BundleError where it is missing, damaged or lacks a field."""
    return convert_record(read_bundle_json(folder / CONFIG), NetworkConfig, where=str(folder / CONFIG))


def check_facts(manifest: Manifest, config: NetworkConfig) -> None:
    """BundleError where config.json and recog.json differ in classes or preprocessing."""
    preprocess, cfg = manifest.preprocess, config.pretrained_cfg
    pairs = {
        "architecture": (config.architecture, manifest.architecture),
        "class names": (config.label_names, manifest.class_names),
        "num_classes": (config.num_classes, len(manifest.class_names)),
        "input size": (cfg.input_size, (preprocess.channels, *preprocess.image_size)),
        "crop_pct": (cfg.crop_pct, preprocess.crop_pct),
        "crop_mode": (cfg.crop_mode, preprocess.crop_mode),
        "interpolation": (cfg.interpolation, preprocess.interpolation),
    }
    for fact, (in_config, in_manifest) in pairs.items():
        if in_config != in_manifest:
            raise BundleError(
                f"config.json and recog.json disagree on {fact}: {in_config!r} and {in_manifest!r}; the bundle is not used."
            )
