"""int8 by recog beside ONNX Runtime's and NNCF's quantisers as they are, on runs: python benchmarks/export_int8.py RUN ...

The same training images choose the ranges; the gate measures the validation and the test photos of the run together. bfloat16 is
the OpenVINO export, run in that precision.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import nncf
import numpy as np
import onnx
import onnxruntime.quantization as ort_quantization
from harness import write_result
from onnxruntime.quantization.shape_inference import quant_pre_process

from recog.bundle.seal import ONNX
from recog.core.hardware import num_cores
from recog.deployment.contract import write_contract
from recog.deployment.quantize import quantize
from recog.deployment.targets import TARGETS, ExportJob
from recog.verbs.eligible import Side
from recog.verbs.export import measure_gate, read_training
from recog.verbs.export_images import GateImages, data_of_run, find_images, images_of_split

SECONDS = 2.0


def plain_onnxruntime(network: Path, images: np.ndarray, target: Path) -> None:
    """Per channel, everything that its default list of operators has."""
    prepared = target.with_suffix(".prepared.onnx")
    quant_pre_process(str(network), str(prepared), skip_symbolic_shape=True)

    class Batches(ort_quantization.CalibrationDataReader):
        rows = iter([{"images": images[i : i + 8]} for i in range(0, len(images), 8)])

        def get_next(self):
            return next(self.rows, None)

    ort_quantization.quantize_static(str(prepared), str(target), Batches(), per_channel=True)


def plain_nncf(network: Path, images: np.ndarray, target: Path) -> None:
    prepared = target.with_suffix(".prepared.onnx")
    quant_pre_process(str(network), str(prepared), skip_symbolic_shape=True)
    data = nncf.Dataset([images[i : i + 1] for i in range(len(images))], lambda image: {"images": image})
    preset = nncf.QuantizationPreset.MIXED
    onnx.save(nncf.quantize(onnx.load(prepared), data, subset_size=len(images), preset=preset), target)


def same(network: Path, images: np.ndarray, target: Path) -> None:
    target.write_bytes(network.read_bytes())


WAYS: dict[str, tuple[str, str, Callable[[Path, np.ndarray, Path], tuple[str, ...] | None]]] = {
    "float32, ONNX Runtime": ("onnx", "float32", same),
    "bfloat16, OpenVINO": ("openvino", "bfloat16", same),
    "int8, recog": ("onnx", "int8", quantize),
    "int8, recog, OpenVINO": ("openvino", "int8", partial(quantize, runtime="openvino")),
    "int8, ONNX Runtime as it is": ("onnx", "int8", plain_onnxruntime),
    "int8, NNCF as it is": ("onnx", "int8", plain_nncf),
}
HEAD = "| | equal labels | accuracy | paired difference (95 % interval) | max and mean Δp | size | images/s | gate |"


def table(run: str, ways: Sequence[str]) -> str:
    side = Side.load(run)
    dataset, predictor = data_of_run(side), side.predictor
    samples = (*images_of_split(side, dataset, "val"), *images_of_split(side, dataset, "test"))
    found = GateImages(
        samples=samples,
        training=(),
        description=f"{find_images(side, None, with_training=False).description} and test split",
        notes=(),
    )
    images = read_training(predictor, images_of_split(side, dataset, "train"))
    num_features = predictor.engine(images[:1]).features.shape[1]
    rows, num_images, made = [], 0, {}
    for name in ways:
        target, precision, quantise = WAYS[name]
        with tempfile.TemporaryDirectory() as text:
            folder = Path(text) / "export"
            folder.mkdir()
            network = Path(text) / ONNX
            if quantise not in made:
                floats = quantise(side.folder / ONNX, images, network)
                made[quantise] = network.read_bytes(), floats
            content, floats = made[quantise]
            network.write_bytes(content)
            job = ExportJob(
                bundle=side.folder,
                network=network,
                folder=folder,
                manifest=predictor.manifest,
                calibration=predictor.calibration,
                num_features=num_features,
                title=run,
            )
            facts = {
                "name": run,
                "runtime": TARGETS[target].runtime,
                "precision": precision,
                "num_features": num_features,
            }
            write_contract(folder, predictor.manifest, predictor.calibration, file=TARGETS[target].write(job), **facts)
            gate = measure_gate(
                predictor,
                folder,
                found,
                target=target,
                precision=precision,
                seconds=SECONDS,
                onnx=side.folder / ONNX,
                num_threads=num_cores(),
            )
        num_images = gate.num_images
        low, high = (100 * value for value in gate.comparison.difference_ci95)
        before, after = gate.speeds["bundle"][32].median, gate.speeds["export"][32].median
        title = f"{name}, {len(floats)} layers in floats" if floats else name
        rows.append(
            f"| {title} | {gate.num_equal_labels} ({gate.label_agreement:.2%}) | {gate.comparison.accuracy_b:.1%} | "
            f"{100 * gate.comparison.difference:+.2f} ({low:+.2f} to {high:+.2f}) | {gate.parity.max_prob_difference:.4f}, "
            f"{gate.parity.mean_prob_difference:.4f} | "
            f"1/{gate.bundle_bytes / gate.export_bytes:.2f} | {after:.0f} beside {before:.0f} | {gate.problem or 'passed'} |"
        )
        print(json.dumps(gate.to_dict()["images_per_second"]), rows[-1], flush=True)
    title = f"## {predictor.manifest.architecture} at {images.shape[1]} px, {num_images} photos of {found.description}"
    return "\n".join([title, "", HEAD, "|---|---|---|---|---|---|---|---|", *rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--without-peers", action="store_true", help="without the libraries' defaults")
    arguments = parser.parse_args()
    ways = [name for name in WAYS if not (arguments.without_peers and name.endswith("as it is"))]
    versions = ", ".join(f"{package} {importlib.metadata.version(package)}" for package in ("openvino", "nncf"))
    tables = [table(run, ways) for run in arguments.runs]
    write_result("export_int8", "Exports in int8", "\n\n".join([f"Further versions: {versions}.", *tables]))


if __name__ == "__main__":
    main()
