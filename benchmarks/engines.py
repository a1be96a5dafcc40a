"""Engines beside torch's eager mode and beside the same libraries used bare: images per second at 224 px, batch 32.

    python benchmarks/engines.py [NETWORK ...]

The weights are random: they make no difference to the speed, and reduced precision is judged by `recog bench` on labelled images.
Engines take turns, round by round, so that a load that comes and goes meets all of them.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from harness import write_result
from numpy.typing import NDArray

from recog.core.hardware import num_cores
from recog.deployment.onnx import export_onnx
from recog.models.build import build_model
from recog.models.config import ModelConfig
from recog.runtime.engine import ENGINES, open_engine
from recog.runtime.engines.openvino_engine import openvino

NETWORKS = ("tf_efficientnet_lite0", "resnet18")
SIDE, BATCH, ROUNDS, CALLS = 224, 32, 5, 2
Run = Callable[[NDArray[np.uint8]], object]


def eager(network: torch.nn.Module) -> Run:
    """torch as it is used by default: float32, NCHW, no compilation."""

    def run(images: NDArray[np.uint8]) -> object:
        with torch.inference_mode():
            return network(torch.from_numpy(images).permute(0, 3, 1, 2).contiguous().float() / 255)

    return run


def bare_onnxruntime(path: Path) -> Run:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {"images": images})


def bare_openvino(path: Path, precision: str) -> Run:
    settings = {"INFERENCE_PRECISION_HINT": precision}
    request = openvino.Core().compile_model(str(path), "CPU", settings).create_infer_request()
    return lambda images: request.infer({"images": images})


def runners(name: str, folder: Path) -> dict[str, Run]:
    torch.manual_seed(0)
    built = build_model(ModelConfig(name=name, weights="none", image_size=(SIDE, SIDE)), num_classes=1000)
    path = folder / f"{name}.onnx"
    names = tuple(map(str, range(1000)))
    export_onnx(built.classifier, path, image_size=(SIDE, SIDE), channels=3, class_names=names)
    found: dict[str, Run] = {"torch, eager float32": eager(built.classifier.network.eval())}
    found |= {f"recog: {engine}": open_engine(path, engine) for engine in ENGINES}
    found["bare ONNX Runtime"] = bare_onnxruntime(path)
    found |= {f"bare OpenVINO, {precision}": bare_openvino(path, precision) for precision in ("f32", "bf16")}
    return found


def speeds(runs: dict[str, Run]) -> dict[str, list[float]]:
    """Images per second of each round."""
    images = np.random.default_rng(0).integers(0, 256, (BATCH, SIDE, SIDE, 3), dtype=np.uint8)
    for run in runs.values():
        run(images)  # the first call allocates
    found: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(ROUNDS):
        for name, run in runs.items():
            started = time.perf_counter()
            for _ in range(CALLS):
                run(images)
            found[name].append(CALLS * BATCH / (time.perf_counter() - started))
    return found


def table(name: str, found: dict[str, list[float]]) -> str:
    medians = {runner: statistics.median(rates) for runner, rates in found.items()}
    base = medians["torch, eager float32"]
    rows = [
        f"| {runner} | {medians[runner]:.0f} ({min(rates):.0f}-{max(rates):.0f}) | {medians[runner] / base:.1f} |"
        for runner, rates in found.items()
    ]
    ours, bare = (max(m for r, m in medians.items() if r.startswith(kind)) for kind in ("recog", "bare"))
    verdict = f"The best of recog's engines is at {ours / bare:.2f} of the best engine used bare."
    head = f"## {name}\n\n| | images/s (range), n = {ROUNDS} rounds | over torch eager |\n|---|---|---|"
    return "\n".join([head, *rows, "", verdict])


def main() -> None:
    torch.set_num_threads(num_cores())
    with tempfile.TemporaryDirectory() as folder:
        parts = [table(name, speeds(runners(name, Path(folder)))) for name in sys.argv[1:] or NETWORKS]
    write_result("engines", f"Engines, {SIDE} px, batch {BATCH}", "\n\n".join(parts))


if __name__ == "__main__":
    main()
