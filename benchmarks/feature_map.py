"""What a feature map in the ONNX file costs, and what a map costs by it and by torch.

`python benchmarks/feature_map.py`: EfficientNet-lite0 with a head on all stages and ResNet-18 at 224 px, 5 and 1,000 classes.
Prints the size of the file and the CPU time of one image, in turns on one thread (time.thread_time, so that other work on the
machine counts little): without the output, with it unasked, with it and its class-activation map, and Grad-CAM by torch.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from recog.attribution.subject import Subject
from recog.attribution.table import attribute
from recog.core.hardware import cpu_name
from recog.deployment.feature_map import class_weights_name, with_feature_map
from recog.deployment.onnx import export_onnx
from recog.models.build import build_model
from recog.models.config import ModelConfig
from recog.models.inner_layers import with_layers
from recog.runtime.engine import open_engine

SIDE = 224
NETWORKS = (("tf_efficientnet_lite0", True), ("resnet18", False))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "timm", "onnxruntime", "numpy"))
    print(
        f"{cpu_name()}, Python {platform.python_version()}, {versions}; {rounds} rounds, medians (10th to 90th percentile)"
    )
    print(
        "\n| Network, classes | File, bytes | with the map | Plain, ms | Unasked, ms | With its map, ms | Grad-CAM by torch, ms |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|")
    for name, multi in NETWORKS:
        for num_classes in (5, 1000):
            print(row(name, num_classes, multi=multi, rounds=rounds), flush=True)


def row(name: str, num_classes: int, *, multi: bool, rounds: int) -> str:
    config = ModelConfig(name=name, weights="none", image_size=(SIDE, SIDE))
    model = build_model(config, num_classes=num_classes)
    if multi:
        model, _, _ = with_layers(model, "multi")
    classifier = model.classifier.eval()
    mapped = with_feature_map(classifier, (SIDE, SIDE))
    weights = classifier.state_dict()[f"network.{class_weights_name(classifier)}"].numpy()
    image = np.random.default_rng(0).integers(0, 256, (1, SIDE, SIDE, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{kind}.onnx" for kind in ("plain", "mapped")]
        for path, network in zip(paths, (classifier, mapped), strict=True):
            names = [str(i) for i in range(num_classes)]
            export_onnx(network, path, image_size=(SIDE, SIDE), channels=3, class_names=names)
        sizes = [path.stat().st_size for path in paths]
        plain, engine = (open_engine(path, num_threads=1) for path in paths)
    fast = classifier.to(memory_format=torch.channels_last)
    subject = Subject(
        engine=plain, task="multiclass", image_size=(SIDE, SIDE), fill=(0, 0, 0), open_classifier=lambda: fast
    )

    def with_map() -> None:
        outputs = engine(image, feature_map=True)
        np.maximum(np.tensordot(weights[[0]], outputs.feature_map[0], axes=1), 0)

    ways: list[Callable[[], object]] = [
        lambda: plain(image),
        lambda: engine(image),
        with_map,
        lambda: attribute("gradcam", subject, image, np.array([0])),
    ]
    times: list[list[float]] = [[] for _ in ways]
    for number in range(rounds + 2):
        for way, found in zip(ways, times, strict=True):
            started = time.thread_time()
            way()
            if number >= 2:  # the first calls allocate
                found.append(1000 * (time.thread_time() - started))
    cells = (f"{np.median(t):.2f} ({np.quantile(t, 0.1):.2f} to {np.quantile(t, 0.9):.2f})" for t in times)
    title = f"{name}{', head on all stages' if multi else ''}, {num_classes:,}"
    return f"| {title} | {sizes[0]:,} | {sizes[1] - sizes[0]:+,} | {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
