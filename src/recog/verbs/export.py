"""`recog export`: a bundle as a folder for other runtimes, which answers as the bundle does or is refused."""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from recog.bundle.seal import ONNX
from recog.core.errors import BadImage, ConfigError
from recog.core.files import claimed, pretty_json, staged_folder
from recog.core.hardware import check_num_threads, cpu_name, num_cores
from recog.core.images.decode import Readable
from recog.core.outputs import check_new_path
from recog.core.text import plural
from recog.data.dataset import Sample, targets_of
from recog.data.sources import Source
from recog.deployment.contract import CONTRACT, PREDICT, README, open_program, render_readme, write_contract
from recog.deployment.gate import GATE, Answered, Gate, Precision, judge
from recog.deployment.targets import ExportJob, Target, find_target
from recog.runtime.engine_choice import runtime_versions
from recog.runtime.predictor import BATCH_SIZE, Predictor
from recog.runtime.speed import measure_speed
from recog.verbs.eligible import Side
from recog.verbs.export_images import GateImages, find_images

EXPORTS = "exports"


@dataclass(frozen=True, kw_only=True)
class Export:
    """A finished export, and what the gate measured."""

    folder: Path
    gate: Gate
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Export({str(self.folder)!r}, {self.gate.target}, {self.gate.precision})"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {"folder": str(self.folder), "gate": self.gate.to_dict(), "notes": list(self.notes)}


def export(  # noqa: PLR0913  keywords of a public verb
    bundle: str | Path,
    to: str,
    *,
    int8: bool = False,
    images: Source | None = None,
    out: str | Path | None = None,
    seconds: float = 1.0,
    num_threads: int | None = None,
) -> Export:
    """Export a bundle, run folder or run's name to one of TARGETS, in the new folder `out`, by default RUN/exports/TARGET.

    The gate answers image files by the bundle and by the export: the run's validation images, or labelled `images`, without
    those that the run was trained with. `int8` quantises the network on training images. `seconds` is the time that each speed
    is measured for, on `num_threads` threads, by default one per core.

    BundleError where the export is outside its tolerance: float32 needs equal labels but for ties, and probabilities within
    1e-4; int8 a loss of less than half a point of accuracy, and more than 99 % equal labels.
    """
    target = find_target(to, int8=int8)
    if not 0 < seconds <= 600:
        raise ConfigError(f"seconds is {seconds:g}; expected more than 0 and at most 600.")
    threads = num_cores() if num_threads is None else check_num_threads(num_threads)
    side = Side.load(bundle, num_threads=threads)
    folder = _folder_for(side, to, out, int8=int8)
    check_new_path(folder, "--out")
    with claimed(folder):
        found = find_images(side, images, with_training=int8)
        with staged_folder(folder, is_claimed=True) as staging:
            gate = _export(side, to, target, found, staging, int8=int8, seconds=seconds, num_threads=threads)
    return Export(folder=folder, gate=gate, notes=found.notes)


def _folder_for(side: Side, to: str, out: str | Path | None, *, int8: bool) -> Path:
    if out is not None:
        return Path(out)
    if side.run is None:
        raise ConfigError(f"{side.folder} is not in its run folder; name the folder to write: --out FOLDER.")
    return side.run / EXPORTS / f"{to}{'-int8' if int8 else ''}"


def _export(  # noqa: PLR0913, PLR0917  the steps of one export
    side: Side,
    to: str,
    target: Target,
    found: GateImages,
    staging: Path,
    *,
    int8: bool,
    seconds: float,
    num_threads: int,
) -> Gate:
    predictor = side.predictor
    precision: Precision = "int8" if int8 else "float32"
    shape = (*predictor.preprocess.image_size, predictor.preprocess.channels)
    num_features = predictor.engine(np.zeros((1, *shape), np.uint8)).features.shape[1]
    title = side.run.name if side.run is not None else side.folder.name
    with _network(side, found, target.runtime if int8 else None, num_threads) as network:
        job = ExportJob(
            bundle=side.folder,
            network=network,
            folder=staging,
            manifest=predictor.manifest,
            calibration=predictor.calibration,
            num_features=num_features,
            title=title,
        )
        file = target.write(job)
    write_contract(
        staging,
        predictor.manifest,
        predictor.calibration,
        name=title,
        runtime=target.runtime,
        file=file,
        precision=precision,
        num_features=num_features,
        map_size=getattr(predictor.engine, "map_size", None) if target.keeps_feature_map else None,
    )
    gate = measure_gate(
        predictor,
        staging,
        found,
        target=to,
        precision=precision,
        seconds=seconds,
        onnx=side.folder / ONNX,
        num_threads=num_threads,
    )
    gate.check()
    (staging / GATE).write_bytes(pretty_json(gate.to_dict()))
    contract = json.loads((staging / CONTRACT).read_bytes())
    notes = (*target.notes, *_pixel_notes(gate))
    readme = render_readme(contract, title=f"{title} for {to}", notes=notes, figures=gate.figures())
    (staging / README).write_text(readme, encoding="utf-8")
    return gate


@contextlib.contextmanager
def _network(side: Side, found: GateImages, int8_for: str | None, num_threads: int) -> Iterator[Path]:
    """The ONNX file to export: the bundle's, or its int8 form for this runtime in a temporary folder."""
    if int8_for is None:
        yield side.folder / ONNX
        return
    from recog.deployment.quantize import quantize  # needs the package onnx

    images = read_training(side.predictor, found.training)
    with tempfile.TemporaryDirectory(prefix="recog-") as folder:
        quantize(side.folder / ONNX, images, Path(folder) / ONNX, runtime=int8_for, num_threads=num_threads)
        yield Path(folder) / ONNX


def read_training(predictor: Predictor, samples: Sequence[Sample]) -> NDArray[np.uint8]:
    """Pixels uint8 [N, H, W, C] of the readable images; ConfigError where none is."""
    pixels = []
    for sample in samples:
        with contextlib.suppress(BadImage):
            pixels.append(predictor.preprocess.read(file_of(sample), name=sample.name))
    if not pixels:
        raise ConfigError("none of the images to quantise on can be read.")
    return np.array(pixels)


def _pixel_notes(gate: Gate) -> Iterator[str]:
    if gate.num_other_pixels:
        yield (
            f"{PREDICT} reads {gate.num_other_pixels:,} of {plural(gate.num_images, 'file')} to other pixels than recog, such as "
            "colour profiles or 16 bits a channel: convert these files to 8-bit sRGB."
        )


def measure_gate(  # noqa: PLR0913  one measurement
    predictor: Predictor,
    folder: Path,
    found: GateImages,
    *,
    target: str,
    precision: Precision,
    seconds: float,
    onnx: Path,
    num_threads: int,
) -> Gate:
    """The figures of the export in `folder` beside `predictor`, which runs the ONNX file `onnx`."""
    program = open_program(folder, num_threads=num_threads)
    good, pixels, num_other = _read(predictor, program, found.samples)
    if not good:
        raise ConfigError("none of the images can be read; the gate needs labelled images: --images DATA.")
    class_names = predictor.class_names
    answered = Answered(
        probs=(
            predictor.calibration.apply(_in_batches(lambda batch: predictor.engine(batch).logits, pixels)),
            program.probs(_in_batches(program.logits, pixels)),
        ),
        targets=targets_of(good, len(class_names), predictor.manifest.task),
        names=[sample.name for sample in good],
        class_names=class_names,
    )
    parity, num_equal, comparison = judge(answered, predictor.calibration)
    speeds = measure_speed(
        {"bundle": predictor.engine, "export": program.logits}, pixels[:BATCH_SIZE], (1, BATCH_SIZE), seconds=seconds
    )
    return Gate(
        target=target,
        precision=precision,
        data=found.description,
        parity=parity,
        num_equal_labels=num_equal,
        comparison=comparison,
        num_other_pixels=num_other,
        bundle_bytes=onnx.stat().st_size,
        export_bytes=_network_bytes(folder, program.contract["file"]),
        speeds=speeds,
        machine={"cpu": cpu_name(), "num_threads": num_threads, "versions": runtime_versions()},
    )


def _network_bytes(folder: Path, file: str) -> int:
    """Of the file and what stands beside it under the same name, such as the weights of OpenVINO's model.xml."""
    path = folder / file
    return sum(part.stat().st_size for part in path.parent.glob(f"{path.stem}.*"))


def _in_batches(
    network: Callable[[NDArray[np.uint8]], NDArray[np.float32]], images: NDArray[np.uint8]
) -> NDArray[np.float32]:
    return np.concatenate([network(images[i : i + BATCH_SIZE]) for i in range(0, len(images), BATCH_SIZE)])


def _read(predictor: Predictor, program: Any, samples: Sequence[Sample]) -> tuple[list[Sample], NDArray[np.uint8], int]:
    """The readable samples, their pixels uint8 [N, H, W, C], and for how many files the export's program has others."""
    good, pixels, num_other = [], [], 0
    for sample in samples:
        file = file_of(sample)
        try:
            ours = predictor.preprocess.read(file, name=sample.name)
        except BadImage:
            continue
        good.append(sample)
        pixels.append(ours)
        theirs = _read_by(program, file)
        num_other += theirs is None or not np.array_equal(ours, theirs)
    return good, np.array(pixels), num_other


def _read_by(program: Any, file: bytes) -> NDArray[np.uint8] | None:
    try:
        pixels: NDArray[np.uint8] = program.read(io.BytesIO(file))
    except (OSError, ValueError, SyntaxError):  # formats that Pillow alone does not read
        return None
    return pixels


def file_of(sample: Sample) -> bytes:
    """The bytes of its image file; of an array, a PNG file."""
    source = sample.source
    if isinstance(source, Path):
        return source.read_bytes()
    if isinstance(source, Readable):
        return source.read()
    file = io.BytesIO()
    Image.fromarray(source[:, :, 0] if source.shape[2:] == (1,) else source).save(file, "PNG")
    return file.getvalue()
