"""What a bundle can be exported to: `TARGETS`, one writer each."""

from __future__ import annotations

import difflib
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from recog.bundle.manifest import Manifest
from recog.core.errors import ConfigError
from recog.deployment.triton import model_name, write_triton

ONNX_FILE = "model.onnx"


@dataclass(frozen=True, kw_only=True)
class ExportJob:
    """What a writer is given."""

    bundle: Path
    network: Path  # the ONNX file to export: the bundle's, or its int8 form
    folder: Path  # to write into
    manifest: Manifest
    num_features: int
    title: str


@dataclass(frozen=True, kw_only=True)
class Target:
    runtime: str  # that runs the export
    write: Callable[[ExportJob], str]  # returns the file that the runtime opens, relative to the folder
    takes_int8: bool = True
    notes: tuple[str, ...] = ()  # of its README


def find_target(name: str, *, int8: bool) -> Target:
    """The entry of TARGETS; ConfigError for another name, or where it does not take int8."""
    if name not in TARGETS:
        near = difflib.get_close_matches(name, TARGETS, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise ConfigError(f"--to is '{name}'; it must be one of {', '.join(TARGETS)}.{hint}")
    target = TARGETS[name]
    if int8 and not target.takes_int8:
        able = ", ".join(other for other, spec in TARGETS.items() if spec.takes_int8)
        raise ConfigError(f"--int8 quantises the ONNX network, which --to {name} does not use; it works for {able}.")
    return target


def _write_onnx(job: ExportJob) -> str:
    shutil.copyfile(job.network, job.folder / ONNX_FILE)
    return ONNX_FILE


def _write_openvino(job: ExportJob) -> str:
    from recog.runtime.engines.openvino_engine import openvino  # sends no telemetry

    model = openvino.Core().read_model(str(job.network))
    openvino.save_model(model, str(job.folder / "model.xml"), compress_to_fp16=False)
    return "model.xml"


def _write_torch(job: ExportJob) -> str:
    import torch

    from recog.models.network_files import load_classifier

    classifier = load_classifier(job.bundle)
    rules = job.manifest.preprocess
    # a batch of 2, as the exporter takes a batch of 1 for a constant
    example = torch.zeros(2, *rules.image_size, rules.channels, dtype=torch.uint8)
    program = torch.export.export(classifier, (example,), dynamic_shapes=({0: torch.export.Dim("B")},))
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # names this machine's folders
    torch.export.save(program, job.folder / "model.pt2")
    return "model.pt2"


def _write_triton(job: ExportJob) -> str:
    preprocess = job.manifest.preprocess
    network = write_triton(
        job.folder,
        model_name(job.title),
        image_shape=(*preprocess.image_size, preprocess.channels),
        class_names=job.manifest.class_names,
        num_features=job.num_features,
    )
    shutil.copyfile(job.network, network)
    return network.relative_to(job.folder).as_posix()


def _write_browser(job: ExportJob) -> str:
    from recog.deployment.browser import write_page

    shutil.copyfile(job.network, job.folder / ONNX_FILE)
    write_page(job.folder)
    return ONNX_FILE


def _write_tensorrt(job: ExportJob) -> str:
    import onnx

    from recog.deployment.tensorrt import build_engine, check_rules, with_cast_first

    model = with_cast_first(onnx.load(job.network))
    check_rules(model)
    build_engine(model, job.folder / "model.plan")
    return "model.plan"


TARGETS: Mapping[str, Target] = MappingProxyType(
    {
        "onnx": Target(runtime="onnxruntime", write=_write_onnx),
        "openvino": Target(runtime="openvino", write=_write_openvino),
        "torch": Target(
            runtime="torch",
            write=_write_torch,
            takes_int8=False,
            notes=("`torch.export.load` runs the program with torch alone; it is no pickle of classes.",),
        ),
        "triton": Target(
            runtime="onnxruntime",
            write=_write_triton,
            notes=(
                "This folder is a model repository of Triton Inference Server. Clients send `images` and get "
                "`logits`; with `class_count`, the class names too.",
            ),
        ),
        "browser": Target(
            runtime="onnxruntime",
            write=_write_browser,
            notes=(
                "Open it from any web server, such as `python -m http.server`, as a browser loads no modules from a file. Images "
                "stay in the browser.",
                "With the headers `Cross-Origin-Opener-Policy: same-origin` and `Cross-Origin-Embedder-Policy: require-corp` it "
                "runs on several threads, else on one.",
            ),
        ),
        "tensorrt": Target(
            runtime="tensorrt",
            write=_write_tensorrt,
            notes=("The plan runs on the kind of GPU and the version of TensorRT that it was built with.",),
        ),
    }
)
