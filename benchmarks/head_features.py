"""Heads on frozen features: what inner layers, kinds of heads, the input size and a larger network gain on five kinds of data."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from harness import write_result
from numpy.typing import NDArray

from recog.core.preprocess import Preprocess
from recog.data.dataset import Sample, targets_of
from recog.data.sources import open_source
from recog.data.stratify import iterative_parts
from recog.deployment.onnx import export_onnx
from recog.evaluation.measures.task import task_of
from recog.evaluation.trust.scaling import fit_temperature, scale_logits
from recog.models.build import build_model
from recog.models.config import ModelConfig
from recog.models.inner_layers import with_layers
from recog.recipes.choose_head import choose, try_out_of_fold
from recog.recipes.config import TrainConfig
from recog.runtime.engines.onnxruntime_engine import OnnxEngine
from recog.training.config import HeadMethod
from recog.training.head import HeadData
from recog.training.ridge import fit_as

NUM_SPLITS = {"flowers": 10}  # by data; else 3
NETWORKS: Mapping[str, tuple[str, tuple[int, int] | None]] = {
    "lite0, 224 px": ("tf_efficientnet_lite0", None),
    "lite0, 288 px": ("tf_efficientnet_lite0", (288, 288)),
    "lite1, 288 px": ("tf_efficientnet_lite1", (288, 288)),
    "lite2, 260 px": ("tf_efficientnet_lite2", None),
    "lite2, 320 px": ("tf_efficientnet_lite2", (320, 320)),
}
BASE = "lite0, 224 px"
COMPARED = ("flowers", "CIFAR-10")  # data that all networks are compared on


@dataclass(frozen=True, kw_only=True)
class Collection:
    """Samples, or four of them for a mosaic, with targets as of HeadData; `num_train` of them are trained on in each split."""

    samples: tuple[Sample | tuple[Sample, ...], ...]
    targets: NDArray[np.int64] | NDArray[np.float32]
    num_train: int


def collections(shared: Path) -> Iterator[tuple[str, Collection]]:
    yield "flowers", _labelled(str(shared / "flowers.zip"), 800, 600)
    yield "CIFAR-10", _labelled(str(shared / "cifar10.zip"), 4000, 2000)
    yield "MNIST", _labelled(str(shared / "mnist"), 3000, 1000)
    yield "digits (scikit-learn)", _labelled("digits", 1797, 1000)
    yield "mosaics of CIFAR-10, several labels", _mosaics(str(shared / "cifar10.zip"), 1600, 800)


def _labelled(source: str, num_images: int, num_train: int) -> Collection:
    dataset = open_source(source)
    order = np.random.default_rng(0).permutation(len(dataset.samples))[:num_images]
    samples = tuple(dataset.samples[i] for i in order)
    targets = targets_of(samples, len(dataset.class_names), dataset.task)
    return Collection(samples=samples, targets=targets, num_train=num_train)


def _mosaics(source: str, num_images: int, num_train: int) -> Collection:
    """Two by two images of CIFAR-10, one to four kinds of things in each; a label for each kind."""
    dataset = open_source(source)
    rng = np.random.default_rng(1)
    samples, targets = [], np.zeros((num_images, len(dataset.class_names)), dtype=np.float32)
    for i in range(num_images):
        parts = [dataset.samples[j] for j in rng.integers(0, len(dataset.samples), 4)]
        samples.append(tuple(parts))
        targets[i, [part.label for part in parts]] = 1
    return Collection(samples=tuple(samples), targets=targets, num_train=num_train)


def features_of(
    collection: Collection, network: str, size: tuple[int, int] | None
) -> tuple[NDArray[np.float32], int, float]:
    """Features float32 [N, D] of several layers, how many of them are the last layer's, and images per second."""
    built = build_model(ModelConfig(name=network, image_size=size), num_classes=2)
    num_last = built.classifier.classifier.in_features
    model, _, _ = with_layers(built, "multi")
    preprocess = model.preprocess
    rows, seconds = [], 0.0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "features.onnx"
        export_onnx(model.classifier, path, image_size=preprocess.image_size, channels=3, class_names=["a", "b"])
        engine = OnnxEngine(path)
        for start in range(0, len(collection.samples), 32):
            batch = np.stack([_read(sample, preprocess) for sample in collection.samples[start : start + 32]])
            started = time.perf_counter()
            rows.append(engine(batch).features)
            seconds += time.perf_counter() - started
    return np.concatenate(rows), num_last, len(collection.samples) / seconds


def _read(sample: Sample | tuple[Sample, ...], preprocess: Preprocess) -> NDArray[np.uint8]:
    if not isinstance(sample, tuple):
        return preprocess.read(sample.source, name=sample.name)
    height, width = preprocess.image_size
    small = replace(preprocess, image_size=(height // 2, width // 2))
    tiles = [small.read(part.source, name=part.name) for part in sample]
    return np.concatenate([np.concatenate(tiles[:2], axis=1), np.concatenate(tiles[2:], axis=1)])


def splits(
    targets: NDArray[np.generic], num_train: int, num_splits: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """(train, test) rows, stratified."""
    shares = [num_train / len(targets), 1 - num_train / len(targets)]
    present = [(int(t),) if targets.ndim == 1 else tuple(np.flatnonzero(t).tolist()) for t in targets]
    for number in range(num_splits):
        parts = iterative_parts(present, list(range(len(targets))), shares, seed=number, repeat=0, stream="benchmark")
        yield np.flatnonzero(np.array(parts) == 0), np.flatnonzero(np.array(parts) == 1)


def measure(
    features: NDArray[np.float32], collection: Collection, num_splits: int, heads: Mapping[str, HeadMethod | None]
) -> dict[str, NDArray[np.float64]]:
    """(accuracy or mAP, NLL at the temperature of the answers out of fold) of each split, float64 [S, 2], per head."""
    targets = collection.targets
    num_classes = targets.shape[1] if targets.ndim == 2 else int(targets.max()) + 1
    plan = TrainConfig()
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in heads}
    for train, test in splits(targets, collection.num_train, num_splits):
        data = HeadData(features=features[train], targets=targets[train], groups=np.arange(len(train)))
        tried = try_out_of_fold(data, plan, num_classes=num_classes, num_repeats=1)
        for name, method in heads.items():
            best = choose([candidate for candidate in tried if method in (None, candidate.spec.method)])
            logits = fit_as(best.spec, data, plan.head, num_classes=num_classes)(features[test])
            scaled = scale_logits(logits, fit_temperature(best.logits[0], data.targets).temperature)
            measures = task_of(targets)
            found[name].append((measures.selection_score(logits, targets[test]), measures.nll(scaled, targets[test])))
    return {name: np.array(rows) for name, rows in found.items()}


def table(name: str, collection: Collection) -> Iterator[str]:
    """A row per network and head."""
    base = None
    num_splits = NUM_SPLITS.get(name, 3)
    for network, (timm_name, size) in NETWORKS.items():
        if network != BASE and name not in COMPARED:
            continue
        features, num_last, speed = features_of(collection, timm_name, size)
        last = features[:, -num_last:] * np.abs(features[:, -num_last:])  # the roots squared
        for layers, rows_of in (("last layer", last), ("all layers", features)):
            methods = ("logistic",) if collection.targets.ndim == 2 else ("logistic", "ridge", "chosen")
            wanted = {method: None if method == "chosen" else method for method in methods}
            for method, rows in measure(rows_of, collection, num_splits, wanted).items():
                base = rows if base is None else base
                gain = 100 * (rows - base)[:, 0]
                error = gain.std(ddof=1) / np.sqrt(num_splits)
                shown = "" if rows is base else f"{gain.mean():+.1f} ± {error:.1f}"
                scores = f"{rows[:, 0].mean():.1%} | {shown} | {rows[:, 1].mean():.3f}"
                yield f"| {name} | {num_splits} | {network}, {speed:.0f} images/s | {layers}, {method} | {scores} |"


def main() -> None:
    lines = [
        "Accuracy (mAP for several labels) and NLL at a fitted temperature: means over n stratified random splits. The gain "
        "over the last layer with logistic regression is paired, in points, with its standard error. Speed of the network "
        "alone, beside other load.",
        "",
        "| data | n | network | head | accuracy | gain | NLL |",
        "|---|---|---|---|---|---|---|",
    ]
    stored = Path(sys.argv[2]) if len(sys.argv) > 2 else None  # completed rows, so that a long run can be continued
    done = stored.read_text(encoding="utf-8").splitlines() if stored is not None and stored.is_file() else []
    for name, collection in collections(Path(sys.argv[1]).resolve()):
        if not any(line.startswith(f"| {name} |") for line in done):
            for line in table(name, collection):
                print(line, flush=True)
                done.append(line)
            if stored is not None:
                stored.write_text("\n".join(done) + "\n", encoding="utf-8")
    lines += done
    write_result("head_features", "Heads on frozen features", "\n".join(lines))


if __name__ == "__main__":
    main()
