"""Features of several layers of a pretrained network for a deep scan, and the nearest neighbours among them."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recog.bundle.manifest import find_bundle, read_manifest
from recog.bundle.seal import ONNX, check_files
from recog.core.config import build_config
from recog.core.errors import DataError
from recog.core.files import cache_folder, canonical_json, sha256_bytes, sha256_file, staged_folder
from recog.core.images.decode import ImageLimits
from recog.core.preprocess import Preprocess
from recog.runtime.engine import Engine, open_engine

SMALL, LARGE = ("tf_efficientnet_lite0", 224), ("tf_efficientnet_lite2", 288)  # network and side of its input, in px
LARGE_PHOTO_PX = (
    128  # half of the images have shorter sides of this or more; enlarged ones gain nothing by a larger network
)
MAX_FOR_LARGE = 5000  # images, as it takes three times as long
NUM_NEIGHBOURS = 30
_BLOCK = 512
_PIXELS_AT_ONCE = 16 * 224 * 224


@dataclass(frozen=True, kw_only=True)
class Network:
    """Images uint8 [B, H, W, C], as `preprocess` gives them -> features."""

    engine: Engine
    preprocess: Preprocess

    def features(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """float32 [B, D], a few images at a time: the memory that the engine keeps grows with their number."""
        at_once = max(1, _PIXELS_AT_ONCE // (images.shape[1] * images.shape[2]))
        parts = [self.engine(images[start : start + at_once]).features for start in range(0, len(images), at_once)]
        return np.concatenate(parts)


@dataclass(frozen=True, kw_only=True)
class Extractor:
    """The features are those of all `networks` side by side."""

    networks: tuple[Network, ...]

    @property
    def min_side(self) -> int:
        """What an image is decoded for."""
        return max(network.preprocess.min_side for network in self.networks)

    @property
    def preprocess(self) -> Preprocess:
        """Of the first network; it decodes for all of them."""
        return self.networks[0].preprocess


def choose_networks(short_sides: Sequence[int]) -> tuple[tuple[str, int], ...]:
    """For images of these shorter sides: of a few thousand photos the features of two networks tell more than those of one."""
    are_photos = bool(short_sides) and float(np.median(short_sides)) >= LARGE_PHOTO_PX
    return (SMALL, LARGE) if are_photos and len(short_sides) <= MAX_FOR_LARGE else (SMALL,)


@contextmanager
def pretrained_extractor(
    names: Sequence[tuple[str, int]], limits: ImageLimits, *, num_threads: int | None = None
) -> Iterator[Extractor]:
    """Pretrained networks as recipe `head` reads features from: the means of their inner layers beside the last one.

    Exported once, as that takes up to half a minute of CPU time, and kept in the user's cache.
    """
    with tempfile.TemporaryDirectory(prefix="recog-") as temporary:
        folder = kept_export(names)
        if folder is None:
            folder = Path(temporary)
            arguments = [temporary, *(f"{name}:{size}" for name, size in names)]
            # by another process, as torch and the export take a gigabyte that is not given back
            done = subprocess.run([sys.executable, "-c", _EXPORT, *arguments], capture_output=True, check=False)
            if done.returncode != 0:
                export_networks(arguments)  # here, so that the error and its remedy are seen
            keep_export(names, folder)
        yield Extractor(networks=tuple(_exported(folder, name, limits, num_threads) for name, _ in names))


def kept_export(names: Sequence[tuple[str, int]]) -> Path | None:
    """The folder in the user's cache that `keep_export` wrote, if its files are as they were written; else None."""
    place = _place_of(names)
    if place is None or not place.exists():
        return None
    try:
        sums = json.loads((place / _SUMS).read_text(encoding="utf-8"))
        if {path.name: sha256_file(path) for path in place.iterdir() if path.name != _SUMS} == sums:
            return place
    except (OSError, ValueError, DataError):
        pass
    shutil.rmtree(place, ignore_errors=True)
    return None


def keep_export(names: Sequence[tuple[str, int]], folder: Path) -> None:
    """Copy the files of `folder` into the user's cache; without one, or where it is full, nothing is kept."""
    place = _place_of(names)
    if place is None:
        return
    with suppress(OSError, DataError), staged_folder(place) as staging:  # DataError: another process was faster
        shutil.copytree(folder, staging, dirs_exist_ok=True)
        sums = {path.name: sha256_file(path) for path in staging.iterdir()}
        (staging / _SUMS).write_text(json.dumps(sums), encoding="utf-8")


def _place_of(names: Sequence[tuple[str, int]]) -> Path | None:
    """By all that an export depends on: the code that builds and exports a network, and names its weights, and libraries."""
    package = Path(__file__).parents[1]
    sources = sorted(path for room in _EXPORTED_BY for path in (package / room).rglob("*.py"))
    sources.append(Path(__file__))
    try:
        facts = {
            "networks": [[name, size] for name, size in names],
            "code": [sha256_file(path) for path in sources],
            "versions": [importlib.metadata.version(library) for library in ("torch", "timm", "onnxscript")],
        }
        return cache_folder("extractors") / sha256_bytes(canonical_json(facts))[:32]
    except (DataError, importlib.metadata.PackageNotFoundError):
        return None


_SUMS = "sums.json"
_EXPORTED_BY = ("core", "deployment", "models")
_EXPORT = "import sys; from recog.doctor.features import export_networks; export_networks(sys.argv[1:])"


def export_networks(arguments: Sequence[str]) -> None:
    """Write NAME.onnx and NAME.json, its preprocessing, into a folder, the first of `arguments`; the others are NAME:PX."""
    from recog.deployment.onnx import export_onnx
    from recog.models.build import build_model
    from recog.models.config import ModelConfig
    from recog.models.inner_layers import with_layers

    folder = Path(arguments[0])
    for name, size_px in (each.split(":") for each in arguments[1:]):
        size = (int(size_px), int(size_px))
        built = build_model(ModelConfig(name=name, image_size=size, channels=3), num_classes=2)
        model, _, _ = with_layers(built, "multi")
        export_onnx(model.classifier, folder / f"{name}.onnx", image_size=size, channels=3, class_names=("a", "b"))
        (folder / f"{name}.json").write_text(json.dumps(model.preprocess.to_dict()), encoding="utf-8")


def _exported(folder: Path, name: str, limits: ImageLimits, num_threads: int | None) -> Network:
    preprocess = build_config(Preprocess, json.loads((folder / f"{name}.json").read_text(encoding="utf-8")))
    engine = open_engine(folder / f"{name}.onnx", num_threads=num_threads)
    return Network(engine=engine, preprocess=replace(preprocess, limits=limits))


def run_extractor(run: str | Path, *, num_threads: int | None = None) -> Extractor:
    """The network of a bundle or run. BundleError where there is none."""
    folder = find_bundle(run)
    manifest = read_manifest(folder)
    check_files(folder, manifest, (ONNX,))
    network = Network(engine=open_engine(folder / ONNX, num_threads=num_threads), preprocess=manifest.preprocess)
    return Extractor(networks=(network,))


def standardised(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Features [N, D] with mean 0 and deviation 1; those that hardly vary are not enlarged."""
    from recog.training.ridge import floored

    mean, std = features.mean(axis=0, dtype=np.float64), floored(features.std(axis=0, dtype=np.float64)) + 1e-6
    found: NDArray[np.float32] = (features - mean.astype(np.float32)) / std.astype(np.float32)
    return found


@dataclass(frozen=True, kw_only=True, eq=False)
class Neighbours:
    """The nearest others of each of N images by cosine, the nearest first."""

    rows: NDArray[np.int64]  # [N, k]
    cosines: NDArray[np.float32]  # [N, k]


def nearest_neighbours(features: NDArray[np.float32], num_neighbours: int) -> Iterator[int | Neighbours]:
    """The number of rows done, after each block, then the Neighbours. Exact; the cost grows with the square of N."""
    count = min(num_neighbours, len(features) - 1)
    units = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    rows = np.zeros((len(units), count), dtype=np.int64)
    cosines = np.zeros((len(units), count), dtype=np.float32)
    for start in range(0, len(units), _BLOCK):
        block = slice(start, min(start + _BLOCK, len(units)))
        found = units[block] @ units.T
        own = np.arange(block.start, block.stop)
        found[own - start, own] = -np.inf
        nearest = np.argpartition(-found, count - 1, axis=1)[:, :count]
        values = np.take_along_axis(found, nearest, axis=1)
        order = np.argsort(-values, axis=1, kind="stable")
        rows[block] = np.take_along_axis(nearest, order, axis=1)
        cosines[block] = np.take_along_axis(values, order, axis=1)
        yield block.stop
    yield Neighbours(rows=rows, cosines=cosines)
