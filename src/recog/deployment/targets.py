"""What a bundle can be exported to: `TARGETS`, one writer each."""

from __future__ import annotations

import base64
import difflib
import hashlib
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType

from recog.bundle.manifest import Manifest
from recog.bundle.reference import FEATURES
from recog.bundle.seal import check_files
from recog.core.errors import ConfigError, DataError, MissingExtraError, one_line
from recog.core.files import cache_folder
from recog.core.text import visible
from recog.evaluation.trust.calibration import Calibration
from recog.runtime.predictor import BATCH_SIZE

ONNX_FILE = "model.onnx"
TRITON_CONFIG = "config.pbtxt"
TRITON_LABELS = "labels.txt"
TRITON_VERSION = "1"
WEB_VERSION = "1.30.0"
_WEB_ARCHIVE = f"onnxruntime-web-{WEB_VERSION}.tgz"
_WEB_SHA512 = (
    "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="  # npm's dist.integrity
)
_WEB_FILES = (
    "ort.wasm.min.mjs",
    "ort-wasm-simd-threaded.mjs",
    "ort-wasm-simd-threaded.wasm",
)  # without WebGPU and WebGL
_PAGE_FILES = ("app.js", "app.css")
_NPM_S = 300


@dataclass(frozen=True, kw_only=True)
class ExportJob:
    """What a writer is given."""

    bundle: Path
    network: Path  # the ONNX file to export: the bundle's, or its int8 form
    folder: Path  # to write into
    manifest: Manifest
    calibration: Calibration
    num_features: int
    title: str


@dataclass(frozen=True, kw_only=True)
class Target:
    runtime: str  # that runs the export
    write: Callable[[ExportJob], str]  # returns the file that the runtime opens, relative to the folder
    takes_int8: bool = True
    keeps_feature_map: bool = True  # of a bundle that carries one
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

    model = openvino.convert_model(
        str(job.network)
    )  # unlike read_model, it simplifies: int8 files are a seventh smaller
    path = job.folder / "model.xml"
    openvino.save_model(model, str(path), compress_to_fp16=False)
    path.write_bytes(re.sub(rb">\s+<", b"><", path.read_bytes()))  # a sixth of it is indentation
    return path.name


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


def model_name(text: str) -> str:
    """A name that may stand in an address and be a folder everywhere."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip("-._") or "classifier"


def write_triton(
    folder: Path, name: str, *, image_shape: tuple[int, ...], class_names: Sequence[str], num_features: int
) -> Path:
    """Write NAME/config.pbtxt and NAME/labels.txt into `folder`; returns where model.onnx belongs.

    The configuration is a ModelConfig of protobuf/model_config.proto in github.com/triton-inference-server/common, in text form.
    """
    model = folder / name
    (model / TRITON_VERSION).mkdir(parents=True)
    (model / TRITON_LABELS).write_text("".join(f"{visible(label)}\n" for label in class_names), encoding="utf-8")
    config = f"""name: "{name}"
backend: "onnxruntime"
default_model_filename: "model.onnx"
max_batch_size: {BATCH_SIZE}
input [
  {{ name: "images" data_type: TYPE_UINT8 dims: [ {", ".join(map(str, image_shape))} ] }}
]
output [
  {{ name: "logits" data_type: TYPE_FP32 dims: [ {len(class_names)} ] label_filename: "{TRITON_LABELS}" }},
  {{ name: "features" data_type: TYPE_FP32 dims: [ {num_features} ] }}
]
dynamic_batching {{ }}
"""
    (model / TRITON_CONFIG).write_text(config, encoding="utf-8")
    return model / TRITON_VERSION / "model.onnx"


def _write_browser(job: ExportJob) -> str:
    shutil.copyfile(job.network, job.folder / ONNX_FILE)
    rule = job.calibration.unknown
    if rule is not None and rule.threshold is not None and rule.needs_features:
        check_files(job.bundle, job.manifest, (FEATURES,))
        shutil.copyfile(job.bundle / FEATURES, job.folder / FEATURES)
    write_page(job.folder)
    return ONNX_FILE


def _write_tensorrt(job: ExportJob) -> str:
    import onnx

    from recog.deployment.tensorrt import build_engine, check_rules, with_cast_first

    model = with_cast_first(onnx.load(job.network))
    check_rules(model)
    build_engine(model, job.folder / "model.plan")
    return "model.plan"


def write_page(folder: Path) -> None:
    """Write index.html, trust.mjs, page/ and ort/ into `folder`, beside its model.onnx, contract.json and pixels.mjs."""
    page, served = folder / "page", files("recog.serve") / "page"
    page.mkdir()
    for name in _PAGE_FILES:
        (page / name).write_bytes((served / name).read_bytes())
    programs = files("recog.deployment") / "programs"
    (page / "service.js").write_bytes((programs / "service.js").read_bytes())
    (folder / "trust.mjs").write_bytes((programs / "trust.mjs").read_bytes())
    (folder / "index.html").write_bytes((served / "index.html").read_bytes())
    (folder / "ort").mkdir()
    with tarfile.open(find_runtime()) as archive:
        for name in _WEB_FILES:
            member = archive.extractfile(f"package/dist/{name}")
            if member is None:
                raise DataError(f"{_WEB_ARCHIVE} holds no {name}.")
            with member, (folder / "ort" / name).open("wb") as target:
                shutil.copyfileobj(member, target)


def find_runtime() -> Path:
    """onnxruntime-web's archive in the user's cache, fetched from npm where it is not there yet; its hash is checked.

    MissingExtraError where npm is missing, DataError where it cannot fetch the archive or gives another one.
    """
    archive = cache_folder("web") / _WEB_ARCHIVE
    if not archive.is_file():
        _fetch(archive)
    with archive.open("rb") as file:
        digest = hashlib.file_digest(file, "sha512").digest()
    if base64.b64encode(digest).decode() != _WEB_SHA512:
        raise DataError(
            f"{archive} is not onnxruntime-web {WEB_VERSION} as npm published it (its sha512 differs); remove it."
        )
    return archive


def _fetch(archive: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise MissingExtraError(
            f"--to browser needs npm once, for onnxruntime-web {WEB_VERSION}: install Node.js, or place npm's {_WEB_ARCHIVE} in "
            f"{archive.parent}."
        )
    with tempfile.TemporaryDirectory(prefix="recog-") as folder:
        command = [npm, "pack", f"onnxruntime-web@{WEB_VERSION}"]
        try:
            subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=_NPM_S)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            reason = one_line(Exception(error.stderr or f"no answer within {_NPM_S} s"))
            raise DataError(
                f"npm cannot fetch onnxruntime-web {WEB_VERSION}: {reason}. Without a network, place npm's {_WEB_ARCHIVE} in "
                f"{archive.parent}."
            ) from None
        shutil.move(Path(folder) / _WEB_ARCHIVE, archive)


TARGETS: Mapping[str, Target] = MappingProxyType(
    {
        "onnx": Target(runtime="onnxruntime", write=_write_onnx),
        "openvino": Target(runtime="openvino", write=_write_openvino),
        "torch": Target(
            runtime="torch",
            write=_write_torch,
            takes_int8=False,
            keeps_feature_map=False,
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
            keeps_feature_map=False,
            notes=("The plan runs on the kind of GPU and the version of TensorRT that it was built with.",),
        ),
    }
)
