"""Sealing: hash what was written, write the manifest last; checking a sealed bundle file by file; verifying that its weights
are finite and that it answers its reference images as when it was sealed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from recog.bundle.manifest import MANIFEST, Manifest, read_bundle_json, read_manifest, write_manifest
from recog.bundle.reference import FEATURES, REFERENCE, read_reference
from recog.core.errors import BundleError, DataError, one_line
from recog.core.files import is_litter, sha256_file
from recog.core.records import convert_record

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
ONNX = "model.onnx"
CALIBRATION = "calibration.json"
REPORT_JSON = "report.json"
REPORT_HTML = "report.html"  # in the run folder
RUN_CONFIG = "run.toml"
CARD = "README.md"
OPTIONAL_FILES = frozenset({FEATURES})
REQUIRED_FILES = frozenset({CONFIG, WEIGHTS, ONNX, CALIBRATION, "reference.safetensors", REPORT_JSON, RUN_CONFIG, CARD})
_NEVER_MASKS = (".weight", ".bias", "running_mean", "running_var")
MAX_PROB_DIFFERENCE = 1e-4  # fp32 on another machine, thread count or engine


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


@dataclass(frozen=True, kw_only=True)
class Verification:
    num_files: int
    num_reference_images: int
    max_prob_difference: float | None  # None without reference images
    ignored: tuple[str, ...] = ()  # left in the folder by file managers, not part of the bundle


def verify_bundle(folder: Path, predict_probs: Callable[[Sequence[bytes]], NDArray[np.float64]]) -> Verification:
    """Check every hash of `folder` and that `predict_probs`, image files -> probs [N, K], answers the reference as sealed.

    Raises BundleError with what differs and by how much.
    """
    manifest = read_manifest(folder)
    ignored = check_all_files(folder, manifest)
    config = read_network_config(folder)
    check_facts(manifest, config)
    _check_weights(folder / WEIGHTS, is_own_module=config.library == "own")
    num_images, difference = check_reference(folder, manifest, predict_probs)
    return Verification(
        num_files=len(manifest.files) + 1,
        num_reference_images=num_images,
        max_prob_difference=difference,
        ignored=ignored,
    )


def check_reference(
    folder: Path,
    manifest: Manifest,
    predict_probs: Callable[[Sequence[bytes]], NDArray[np.float64]],
    *,
    max_difference: float = MAX_PROB_DIFFERENCE,
) -> tuple[int, float | None]:
    """(number of reference images, largest difference of their probs to the sealed ones); None without reference images.

    BundleError where `predict_probs` cannot answer them or differs by more than `max_difference`.
    """
    check_files(folder, manifest, (REFERENCE,))
    reference = read_reference(folder)
    if not reference.images:
        return 0, None
    if reference.probs.shape[1] != len(manifest.class_names):
        raise BundleError(
            f"{folder}: the reference has {reference.probs.shape[1]} classes, the manifest {len(manifest.class_names)}."
        )
    try:
        found = predict_probs(reference.images)
    except DataError as error:  # an image that cannot be read, or logits that are not finite
        raise BundleError(f"{folder} cannot predict its reference images: {error}") from None
    difference = compare_probs(reference.probs, found)
    if difference > max_difference:
        raise BundleError(
            f"{folder} predicts its reference images differently from when it was written: probabilities differ by up to "
            f"{difference:.2g}; at most {max_difference:g} is allowed. Do not use it on this machine."
        )
    return len(reference.images), difference


def find_broken(tensors: Iterable[tuple[str, NDArray[Any]]], *, masks: Collection[str] = ()) -> str | None:
    """What is wrong with the first of the named weights that holds NaN, infinity or a negative variance; None if none does.

    `masks` are the buffers that may be infinite, as those of attention.
    """
    for name, tensor in tensors:
        finite = ~np.isnan(tensor) if name in masks else np.isfinite(tensor)
        is_negative = tensor < 0 if name.endswith("running_var") else np.zeros_like(finite)
        bad = ~finite | is_negative
        if bad.any():
            value = tensor[bad].flat[0]
            return f"{name} holds {value:g} in {int(bad.sum()):,} of its {tensor.size:,} values"
    return None


def _check_weights(path: Path, *, is_own_module: bool) -> None:
    """BundleError where the weights cannot be read or cannot be those of a working network."""
    try:
        with safe_open(path, framework="numpy") as file:
            names = list(file.keys())
            masks = [name for name in names if is_own_module and not name.endswith(_NEVER_MASKS)]
            broken = find_broken(((name, file.get_tensor(name)) for name in names), masks=masks)
    except (OSError, TypeError, ValueError, SafetensorError) as error:
        raise BundleError(f"{path} cannot be read: {one_line(error)}.") from None
    if broken:
        raise BundleError(f"{path} is damaged: {broken}.")


def compare_probs(expected: NDArray[np.floating], found: NDArray[np.floating]) -> float:
    """The largest |difference| of two arrays [N, K]; infinite where one is not finite."""
    if expected.shape != found.shape or not (np.isfinite(expected).all() and np.isfinite(found).all()):
        return float("inf")
    return float(np.abs(expected.astype(np.float64) - found).max(initial=0.0))
