"""The engine that was measured to be the fastest for a bundle on this machine, kept in the user's cache."""

from __future__ import annotations

import importlib.metadata
from dataclasses import asdict, dataclass
from pathlib import Path

from recog.bundle.manifest import Manifest
from recog.bundle.seal import ONNX
from recog.core.errors import RecogError
from recog.core.files import cache_folder, canonical_json, pretty_json, sha256_bytes, write_bytes_atomic
from recog.core.hardware import cpu_name, num_cores
from recog.core.records import read_record
from recog.runtime.engine import ENGINES, REFERENCE_ENGINE


@dataclass(frozen=True, kw_only=True)
class EngineChoice:
    """The record of one measurement."""

    engine: str  # of ENGINES


def runtime_versions() -> dict[str, str]:
    """{library of an engine: its version}, '' where it is not installed."""
    versions: dict[str, str] = {}
    for name in sorted({spec.runtime for spec in ENGINES.values()}):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = ""
    return versions


def chosen_engine(manifest: Manifest, num_threads: int | None) -> str:
    """The recorded engine, valid for this ONNX file, CPU, thread count and libraries; without a record the reference engine."""
    try:
        choice = read_record(_path_of(manifest, num_threads), EngineChoice)
    except RecogError:
        return REFERENCE_ENGINE
    return choice.engine if choice.engine in ENGINES else REFERENCE_ENGINE


def record_engine(manifest: Manifest, num_threads: int | None, engine: str) -> Path:
    """Write down that `engine` is to be used; returns the file. DataError where the user's cache cannot be written."""
    path = _path_of(manifest, num_threads)
    write_bytes_atomic(path, pretty_json(asdict(EngineChoice(engine=engine))))
    return path


def _path_of(manifest: Manifest, num_threads: int | None) -> Path:
    facts = {
        "onnx": manifest.files[ONNX],
        "cpu": cpu_name(),
        "num_threads": num_threads or num_cores(),
        "versions": runtime_versions(),
    }
    return cache_folder("engines") / f"{sha256_bytes(canonical_json(facts))[:32]}.json"
