"""recog.json: what a bundle says of itself. Written last, digested over canonical JSON, read with suspicion."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import recog
from recog.core.errors import BundleError
from recog.core.files import canonical_json, pretty_json, sha256_bytes
from recog.core.preprocess import Preprocess
from recog.core.task import TASKS, Task

FORMAT_VERSION = 1
MANIFEST = "recog.json"
MAX_MANIFEST_BYTES = 16 << 20  # 100,000 class names fit; nothing honest is larger
_MAX_NAME_BYTES = 255  # of a file, on common file systems


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """What the classifier was trained on: a name, a digest over every image's hash, label and split, and n per split."""

    name: str
    fingerprint: str
    num_images: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class Manifest:
    task: Task
    architecture: str
    class_names: tuple[str, ...]
    preprocess: Preprocess
    data: TrainingData
    seed: int
    files: Mapping[str, str]  # sha256 of every other file
    recog_version: str = recog.__version__
    format_version: int = FORMAT_VERSION

    def to_dict(self) -> dict[str, Any]:
        table = {
            "format_version": self.format_version,
            "recog_version": self.recog_version,
            "task": self.task,
            "architecture": self.architecture,
            "class_names": list(self.class_names),
            "preprocess": self.preprocess.to_dict(),
            "data": asdict(self.data),
            "seed": self.seed,
            "files": dict(self.files),
        }
        return {**table, "digest": sha256_bytes(canonical_json(table))}


def write_manifest(folder: Path, manifest: Manifest) -> None:
    (folder / MANIFEST).write_bytes(pretty_json(manifest.to_dict()))


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a bundle. BundleError where it is missing, damaged, newer than this release or not as sealed."""
    table = read_json(folder / MANIFEST, MAX_MANIFEST_BYTES)
    version = table.get("format_version")
    if type(version) is not int or version < 1:  # JSON's true is an int to Python
        raise BundleError(f"{folder / MANIFEST} has format_version {version!r}; expected a whole number from 1.")
    if version > FORMAT_VERSION:
        raise BundleError(
            f"{folder} has format_version {version}; this release reads up to {FORMAT_VERSION}. "
            f"It was written by recog {table.get('recog_version')}: install that version or newer."
        )
    if not _is_as_sealed(table):
        raise BundleError(f"{folder / MANIFEST} was changed after it was sealed; get the bundle again.")
    try:
        return _from_dict(table)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise BundleError(f"{folder / MANIFEST} lacks or misstates a field: {error}.") from None


def _is_as_sealed(table: Mapping[str, Any]) -> bool:
    body = {key: value for key, value in table.items() if key != "digest"}
    try:
        return sha256_bytes(canonical_json(body)) == table.get("digest")
    except (
        ValueError,
        RecursionError,
    ):  # an infinite number, half a surrogate pair, a thousand levels: never sealed so
        return False


def _from_dict(table: Mapping[str, Any]) -> Manifest:
    data = table["data"]
    if not isinstance(table["class_names"], list) or not isinstance(table["files"], dict):
        raise TypeError("class_names must be a list, files an object")
    manifest = Manifest(
        task=table["task"],
        architecture=table["architecture"],
        class_names=tuple(table["class_names"]),
        preprocess=Preprocess.from_dict(table["preprocess"]),
        data=TrainingData(name=data["name"], fingerprint=data["fingerprint"], num_images=dict(data["num_images"])),
        seed=table["seed"],
        files=dict(table["files"]),
        recog_version=table["recog_version"],
        format_version=table["format_version"],
    )
    if manifest.task not in TASKS:
        raise ValueError(f"the task is {manifest.task!r}; this release knows {', '.join(TASKS)}")
    names = manifest.class_names
    if not all(isinstance(name, str) for name in names) or len(set(names)) != len(names) or len(names) < 2:
        raise TypeError("class_names must be two different strings or more")
    for name in manifest.files:
        if "/" in name or "\\" in name or name in ("", ".", "..") or len(name.encode()) > _MAX_NAME_BYTES:
            raise ValueError(f"'{name}' is not a file in the bundle")
    return manifest


def read_json(path: Path, max_bytes: int = MAX_MANIFEST_BYTES) -> dict[str, Any]:
    """A JSON object from a file that a stranger may have written: size capped, errors as BundleError."""
    try:
        size = path.stat().st_size
        if size > max_bytes:
            raise BundleError(f"{path} has {size} bytes; at most {max_bytes} are read.")
        table = json.loads(path.read_bytes(), object_pairs_hook=_without_twins, parse_constant=_refuse)
    except FileNotFoundError:
        raise BundleError(f"{path.parent} is not a bundle: it holds no {path.name}.") from None
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError):
        raise BundleError(f"{path} is not valid JSON.") from None
    if not isinstance(table, dict):
        raise BundleError(f"{path} holds no JSON object.")
    return table


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object whose keys differ; of two equal keys one reader takes the first and another the last."""
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a key stands twice")
    return table


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
