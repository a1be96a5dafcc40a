"""Finding a bundle, and `recog.json`, its manifest: written last, with a digest over its canonical JSON."""

from __future__ import annotations

import difflib
import os
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from recog.core.errors import BundleError
from recog.core.files import canonical_json, not_linked, pretty_json, sha256_bytes, user_path
from recog.core.preprocess import Preprocess
from recog.core.records import MAX_BYTES, convert_record, decode_object, read_bytes
from recog.core.task import Task
from recog.core.version import __version__

FORMAT_VERSION = 1
MANIFEST = "recog.json"
HUB_PREFIX = "hf://"
RUNS = Path("runs")
BUNDLE = "bundle"
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
    recog_version: str = __version__
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        if len(set(self.class_names)) != len(self.class_names) or len(self.class_names) < 2:
            raise BundleError("class_names must be two different names or more.")
        for name in self.files:
            if "/" in name or "\\" in name or name in ("", ".", "..") or len(name.encode()) > _MAX_NAME_BYTES:
                raise BundleError(f"files names '{name}', which is not a file in the bundle.")

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
    path = folder / MANIFEST
    table = read_bundle_json(path)
    version = table.get("format_version")
    if type(version) is not int or version < 1:  # JSON's true is an int to Python
        raise BundleError(f"{path} has format_version {version!r}; expected a whole number from 1.")
    if version > FORMAT_VERSION:
        raise BundleError(
            f"{folder} has format_version {version}; this release reads up to {FORMAT_VERSION}. "
            f"It was written by recog {table.get('recog_version')}: install that version or newer."
        )
    if not _is_as_sealed(table):
        raise BundleError(f"{path} was changed after it was sealed; get the bundle again.")
    del table["digest"]
    # a key of a newer release, such as a step of preprocessing, must not be ignored: the answers would differ unnoticed
    return convert_record(table, Manifest, where=str(path), closed=True)


def read_bundle_json(path: Path) -> dict[str, Any]:
    """A JSON object of a bundle; BundleError where its folder is no bundle or the file is damaged."""
    if not path.exists():
        raise BundleError(f"{path.parent} is not a bundle: it holds no {path.name}.")
    return decode_object(read_bytes(path, max_bytes=MAX_BYTES), where=str(path))


def _is_as_sealed(table: Mapping[str, Any]) -> bool:
    body = {key: value for key, value in table.items() if key != "digest"}
    return sha256_bytes(canonical_json(body)) == table.get("digest")


def find_bundle(name: str | Path) -> Path:
    """The bundle folder that `name` means: itself, the one in a run folder, or that of the run of this name below runs/.

    Or the one at an address hf://OWNER/NAME@REVISION, from the user's cache or the hub. A path may begin with '~', the user's
    home. BundleError where there is none.
    """
    if not isinstance(name, (str, Path)) or not str(name).strip():
        raise BundleError(f"the bundle is {name!r}; expected the path of a bundle or run, or a run's name.")
    if str(name).startswith(HUB_PREFIX):
        from recog.bundle.hub import fetch_bundle  # only where it is asked for

        return fetch_bundle(str(name))
    tried = [user_path(name)]
    if len(Path(name).parts) == 1:
        tried.append(RUNS / name)
    for path in tried:
        for folder in (path, path / BUNDLE):
            if os.path.isfile(folder / MANIFEST):  # never raises, whatever the name
                return folder if folder == path else not_linked(folder, error=BundleError)
    for path in tried:
        if os.path.isfile(path / "run.toml") and not os.path.lexists(path / BUNDLE):
            raise BundleError(
                f"{path} is unfinished and has no bundle yet. To resume: recog train --resume {shlex.quote(str(path))}"
            )
        if os.path.exists(path):
            raise BundleError(
                f"{path} is neither a bundle nor a finished run: it holds no {MANIFEST} and no {BUNDLE}/{MANIFEST}."
            )
    raise BundleError(f"there is no bundle or run '{name}'. {_runs_hint(str(name))}")


def _runs_hint(name: str) -> str:
    """The finished runs here, of which one may be meant by `name`."""
    runs = sorted(run.name for run in RUNS.glob("*") if (run / BUNDLE / MANIFEST).is_file())
    if near := difflib.get_close_matches(name, runs, n=1):
        return f"Did you mean '{near[0]}'?"
    if runs:
        return f"Runs here: {', '.join(runs[:10])}."
    return "There are no runs below ./runs: give the path of a run, or change to the folder where it was trained."


def run_of(bundle: Path) -> Path | None:
    """The run folder that `bundle` stands in, or None where it stands alone."""
    run = bundle.absolute().parent
    return run if (run / "run.toml").is_file() and bundle.absolute().name == BUNDLE else None
