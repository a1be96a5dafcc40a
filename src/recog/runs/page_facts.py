"""What the report page of a run or an evaluation tells beyond the numbers: data, origin, speed, size, commands."""

from __future__ import annotations

import importlib.metadata
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recog.bundle.manifest import BUNDLE, MANIFEST, Manifest, read_bundle_json
from recog.bundle.seal import ONNX, RUN_CONFIG
from recog.core.hardware import cpu_name, num_cores
from recog.core.text import plural
from recog.core.version import __version__
from recog.data.dataset import Dataset
from recog.report.measure import Measured
from recog.report.page.facts import PageFacts, overview
from recog.report.sections import duration_text
from recog.runs.history import read_history
from recog.runtime.engine import Engine

if TYPE_CHECKING:
    from recog.recipes.prepare import Prepared

MAX_REPEATS, MAX_SECONDS = 20, 1.0  # of timing one image
PACKAGES = ("torch", "timm", "onnxruntime", "numpy", "pillow")

Facts = tuple[tuple[str, str], ...]


def facts_of_run(
    folder: Path, prepared: Prepared, measured: Measured, engine: Engine, *, duration_s: float
) -> PageFacts:
    """Of the run in `folder`, whose bundle is written; `engine` runs its ONNX file."""
    bundle, dataset, origin = folder / BUNDLE, prepared.dataset, prepared.model.origin
    run = shlex.quote(folder.name)
    provenance = (
        ("Finished", _now()),
        ("Command", command_line("recog.train(...)")),
        ("Data", _describe_data(dataset, prepared.fingerprint)),
        ("Network", f"{prepared.model.name}, {_num_parameters(prepared):,} parameters"),
        ("Initial weights", f"{origin.source}; licence: {origin.licence}"),
        ("Recipe and seed", f"{prepared.plan.recipe}, seed {prepared.plan.seed}"),
        ("Run time", f"{duration_text(duration_s)}, from the command to the sealed bundle"),
        ("Bundle", f"{_megabytes(bundle)}, digest {str(read_bundle_json(bundle / MANIFEST)['digest'])[:16]}"),
        *machine_facts(),
    )
    return PageFacts(
        run=run,
        history=read_history(folder),
        data=overview(dataset, remarks=prepared.data_notes),
        provenance=provenance,
        speed=tuple(_speed(bundle, prepared.model.preprocess.image_size, prepared.model.preprocess.channels, engine)),
        commands=(
            ("Train again", f"recog train --config {_word(folder / RUN_CONFIG)}"),
            ("Measure on other images", f"recog evaluate {run} FOLDER"),
            ("Check the bundle", f"recog verify {run}"),
        ),
        num_openings=measured.report.data.test_openings,
    )


def facts_of_evaluation(
    bundle: Path, manifest: Manifest, dataset: Dataset, measured: Measured, *, split: str | None
) -> PageFacts:
    """Of an evaluation of `bundle` on the measured images of `dataset`."""
    shown = Dataset(
        name=dataset.name,
        layout=dataset.layout,
        class_names=manifest.class_names,
        samples=tuple(measured.samples.values()),
        task=dataset.task,
    )
    trained = ", ".join(f"{name} {count:,}" for name, count in manifest.data.num_images.items())
    command = command_line("recog.evaluate(...)")
    provenance = (
        ("Finished", _now()),
        ("Command", command),
        ("Data", _describe_data(shown, "")),
        ("Network", manifest.architecture),
        ("Trained on", f"{manifest.data.name}: {trained} images, fingerprint {manifest.data.fingerprint[:16]}"),
        ("Trained with", f"recog {manifest.recog_version}, seed {manifest.seed}"),
        ("Bundle", f"{_megabytes(bundle)}, digest {str(read_bundle_json(bundle / MANIFEST)['digest'])[:16]}"),
        *machine_facts(),
    )
    name = shlex.quote(bundle.parent.name if bundle.name == BUNDLE else bundle.name)
    return PageFacts(
        run=name,
        data=replace(overview(shown, strip_of=split or ""), excluded=measured.report.data.excluded),
        provenance=provenance,
        commands=(("Measure again", command), ("Check the bundle", f"recog verify {name}")),
        num_openings=measured.report.data.test_openings,
    )


def command_line(in_python: str) -> str:
    """The command that this process runs, the user's home as '~'; `in_python` where it is not the command line's."""
    program = Path(sys.argv[0]) if sys.argv else Path()
    if program.name != "recog" and program.parts[-2:] != ("recog", "__main__.py"):
        return in_python
    return " ".join(["recog", *map(_word, sys.argv[1:])])


def _word(text: str | Path) -> str:
    """A word of a command, the user's home as '~'."""
    return shlex.quote(str(text)).replace(f"{Path.home()}/", "~/")


def _describe_data(dataset: Dataset, fingerprint: str) -> str:
    counts = {split: len(dataset.subset(split)) for split in dataset.given_splits}
    splits = f" ({', '.join(f'{split} {count:,}' for split, count in counts.items())})" if len(counts) > 1 else ""
    mark = f", fingerprint {fingerprint[:16]}" if fingerprint else ""
    return f"{dataset.name}, {plural(len(dataset.samples), 'image')}{splits}{mark}"


def _num_parameters(prepared: Prepared) -> int:
    return sum(parameter.numel() for parameter in prepared.model.classifier.parameters())


def machine_facts() -> Facts:
    """Versions, processor, threads and system."""
    versions = [f"recog {__version__}", f"Python {platform.python_version()}", *_versions()]
    machine = f"{cpu_name()}, {plural(num_cores(), 'thread')} used, {platform.system()}"
    return (("Versions", ", ".join(versions)), ("Machine", machine))


def _versions() -> Iterator[str]:
    for name in PACKAGES:
        try:
            yield f"{name} {importlib.metadata.version(name)}"
        except importlib.metadata.PackageNotFoundError:
            continue


def _now() -> str:
    return f"{datetime.now(UTC):%d %B %Y, %H:%M} UTC".removeprefix("0")


def _megabytes(path: Path) -> str:
    files = [path] if path.is_file() else [file for file in path.iterdir() if file.is_file()]
    return f"{sum(file.stat().st_size for file in files) / 1e6:.1f} MB"


def _speed(bundle: Path, image_size: tuple[int, int], channels: int, engine: Engine) -> Iterator[tuple[str, str]]:
    seconds, repeats = _time_one(engine, np.zeros((1, *image_size, channels), np.uint8))
    yield "One image", f"{1000 * seconds:.3g} ms on this machine (median of {repeats}, reading the file not included)"
    yield "ONNX file", _megabytes(bundle / ONNX)
    yield "Bundle", f"{_megabytes(bundle)}; predicts without torch"
    yield "Input", f"{image_size[0]} x {image_size[1]} pixels, {plural(channels, 'channel')}"
    yield "Faster engines", f"recog bench {shlex.quote(bundle.parent.name)} measures them on this machine"


def _time_one(engine: Engine, image: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> tuple[float, int]:
    """(median seconds of one call, number of calls); the first call, which allocates, is not counted."""
    engine(image)
    times: list[float] = []
    begun = time.perf_counter()
    while len(times) < MAX_REPEATS and (not times or time.perf_counter() - begun < MAX_SECONDS):
        start = time.perf_counter()
        engine(image)
        times.append(time.perf_counter() - start)
    return statistics.median(times), len(times)
