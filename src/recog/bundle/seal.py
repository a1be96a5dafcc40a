"""Sealing: hash what was written, write the manifest last; and checking a sealed bundle file by file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from recog.bundle.features import FEATURES
from recog.bundle.manifest import MANIFEST, Manifest, read_json, write_manifest
from recog.core.errors import BundleError
from recog.core.files import sha256_file

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
ONNX = "model.onnx"
CALIBRATION = "calibration.json"
REPORT_JSON = "report.json"
REPORT_HTML = "report.html"
RUN_CONFIG = "run.toml"
CARD = "README.md"
OPTIONAL_FILES = frozenset({FEATURES})
REQUIRED_FILES = frozenset(
    {CONFIG, WEIGHTS, ONNX, CALIBRATION, "reference.safetensors", REPORT_JSON, REPORT_HTML, RUN_CONFIG, CARD}
)


def seal(folder: Path, draft: Manifest) -> Manifest:
    """Hash every file of `folder` and write recog.json: `draft`, whose own `files` do not count, with those hashes.

    BundleError where a file is missing or one too many, or where config.json says something else.
    """
    present = {path.name for path in folder.iterdir()}
    missing, unknown = REQUIRED_FILES - present, present - REQUIRED_FILES - OPTIONAL_FILES
    if missing or unknown:
        raise BundleError(
            f"the bundle cannot be sealed: missing {sorted(missing) or 'nothing'}, not part of it {sorted(unknown) or 'nothing'}."
        )
    manifest = replace(draft, files={name: sha256_file(folder / name) for name in sorted(present)})
    check_facts(manifest, read_json(folder / CONFIG))
    write_manifest(folder, manifest)
    return manifest


def check_files(folder: Path, manifest: Manifest, names: Iterable[str]) -> None:
    """BundleError unless each of `names` has the hash that the manifest gives."""
    for name in names:
        expected = manifest.files.get(name)
        path = folder / name
        if expected is None:
            raise BundleError(f"{folder / MANIFEST} does not list {name}.")
        if not path.is_file():
            raise BundleError(f"{folder} lacks {name}, which its manifest lists; get the bundle again.")
        if sha256_file(path) != expected:
            raise BundleError(f"{path} is not the file that was sealed (its sha256 differs); get the bundle again.")


def check_all_files(folder: Path, manifest: Manifest) -> None:
    """As check_files for every file of the manifest; also BundleError where a part is not listed or the folder holds more."""
    missing = REQUIRED_FILES - set(manifest.files)
    if missing:
        raise BundleError(f"{folder / MANIFEST} does not list {', '.join(sorted(missing))}.")
    check_files(folder, manifest, manifest.files)
    strangers = {path.name for path in folder.iterdir()} - set(manifest.files) - {MANIFEST}
    if strangers:
        raise BundleError(f"{folder} holds files that were not sealed: {', '.join(sorted(strangers))}.")


def check_facts(manifest: Manifest, config: dict[str, Any]) -> None:
    """BundleError where config.json and recog.json say different things of classes or preprocessing."""
    preprocess = manifest.preprocess
    cfg = config.get("pretrained_cfg")
    cfg = cfg if isinstance(cfg, dict) else {}
    pairs = {
        "architecture": (config.get("architecture"), manifest.architecture),
        "class names": (config.get("label_names"), list(manifest.class_names)),
        "num_classes": (config.get("num_classes"), len(manifest.class_names)),
        "input size": (cfg.get("input_size"), [preprocess.channels, *preprocess.image_size]),
        "crop_pct": (cfg.get("crop_pct"), preprocess.crop_pct),
        "crop_mode": (cfg.get("crop_mode"), preprocess.crop_mode),
        "interpolation": (cfg.get("interpolation"), preprocess.interpolation),
    }
    for fact, (in_config, in_manifest) in pairs.items():
        if in_config != in_manifest:
            raise BundleError(
                f"config.json and recog.json disagree on {fact}: {in_config!r} and {in_manifest!r}; the bundle is not used."
            )
