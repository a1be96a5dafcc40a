"""The inference process of the service: `python -m recog.serve.worker SOCKET BUNDLE ENGINE THREADS`.

It reads batches from the socket, decodes the next one while the network runs on this one, and ends when the socket is closed.
"""

from __future__ import annotations

import os
import queue
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recog.bundle.manifest import MANIFEST, read_bundle_json, run_of
from recog.bundle.seal import MAX_PROB_DIFFERENCE, REPORT_HTML, REPORT_JSON, check_files, check_reference
from recog.core.errors import BadImage, BundleError, RecogError, missing_extra
from recog.core.files import open_regular
from recog.core.hardware import num_cores
from recog.core.records import convert_record
from recog.runtime.engine import ENGINES, REFERENCE_ENGINE
from recog.runtime.engine_choice import chosen_engine
from recog.runtime.predictor import Predictor, load
from recog.serve.messages import (
    LENGTH_BYTES,
    Answered,
    Baseline,
    Batch,
    Crop,
    Failed,
    Image,
    Ready,
    pack,
    unpack_batch,
)

MAX_PREPARED = 2  # batches that are read before the network is free
MAX_REDUCED_DIFFERENCE = 0.1  # of probabilities, with 16-bit floats, whose labels `recog bench` has compared
_SERVING_ENGINE = "onnxruntime-no-spinning"  # idle threads that spin take the cores which read the next images

Pixels = NDArray[np.uint8] | BadImage


def main(arguments: Sequence[str]) -> None:
    descriptor, folder, engine, threads = arguments
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # they are the service's, which closes the socket
        signal.signal(number, signal.SIG_IGN)
    with socket.socket(fileno=int(descriptor)) as channel:
        try:
            predictor, ready = open_bundle(Path(folder), engine, int(threads) or None)
        except RecogError as error:
            channel.sendall(pack(Failed(message=str(error), exit_code=error.exit_code)))
            return
        except ModuleNotFoundError as error:
            missing = missing_extra(error)
            if missing is None:
                raise
            channel.sendall(pack(Failed(message=str(missing), exit_code=missing.exit_code)))
            return
        channel.sendall(pack(ready))
        serve(channel, predictor, reject=ready.can_reject, num_threads=int(threads) or num_cores())


def open_bundle(folder: Path, engine: str, num_threads: int | None) -> tuple[Predictor, Ready]:
    """A bundle that is ready to answer. BundleError where it is damaged or answers its reference images differently."""
    digest = _digest(folder)
    predictor = load(folder, num_threads=num_threads, engine=REFERENCE_ENGINE if engine == "auto" else engine)
    if engine == "auto":
        chosen = chosen_engine(predictor.manifest, num_threads)
        name = _SERVING_ENGINE if chosen == REFERENCE_ENGINE else chosen
        predictor = load(folder, num_threads=num_threads, engine=name)

    def predict_probs(files: Sequence[bytes]) -> NDArray[np.float64]:
        return np.stack(
            [prediction.probs for prediction in predictor.predict(list(files), reject=predictor.can_reject)]
        )

    allowed = MAX_PROB_DIFFERENCE if ENGINES[predictor.engine_name].precision == "float32" else MAX_REDUCED_DIFFERENCE
    num_images, difference = check_reference(folder, predictor.manifest, predict_probs, max_difference=allowed)
    if num_images == 0:  # the first answer is slower than the others
        predictor.predict_batch(
            np.zeros((1, *predictor.preprocess.image_size, predictor.preprocess.channels), np.uint8)
        )
    if _digest(folder) != digest:
        raise BundleError(f"{folder} changed while it was loaded; load it again.")
    height, width = predictor.preprocess.image_size
    manifest = predictor.manifest
    return predictor, Ready(
        digest=digest,
        task=manifest.task,
        class_names=manifest.class_names,
        image_shape=(height, width, predictor.preprocess.channels),
        has_sets=predictor.calibration.sets is not None,
        can_reject=predictor.can_reject,
        engine=predictor.engine_name,
        architecture=manifest.architecture,
        num_reference_images=num_images,
        max_prob_difference=difference,
        baseline=read_baseline(folder, predictor),
        report_html=_read_report_html(folder),
        map_size=getattr(predictor.engine, "map_size", None),
        crop=Crop(predictor.preprocess.crop_mode, predictor.preprocess.crop_pct),
    )


def _digest(folder: Path) -> str:
    """As sealed: of an older bundle it is not that of the manifest as this release would write it."""
    return str(read_bundle_json(folder / MANIFEST).get("digest"))


@dataclass(frozen=True, kw_only=True)
class _Row:
    name: str
    num_predicted: int


@dataclass(frozen=True, kw_only=True)
class _Bin:
    num_images: int
    mean_confidence: float | None = None


@dataclass(frozen=True, kw_only=True)
class _Unknown:
    reject_rate: float | None = None


@dataclass(frozen=True, kw_only=True)
class _Trust:
    unknown: _Unknown | None = None


@dataclass(frozen=True, kw_only=True)
class _Evaluated:
    """The part of `report.json` that a baseline is made of."""

    num_images: int = 0
    classes: tuple[_Row, ...] = ()
    labels: tuple[_Row, ...] = ()
    reliability: tuple[_Bin, ...] = ()
    trust: _Trust | None = None


def read_baseline(folder: Path, predictor: Predictor) -> Baseline | None:
    """From the bundle's report; None where it holds no evaluation."""
    if REPORT_JSON not in predictor.manifest.files:
        return None
    check_files(folder, predictor.manifest, (REPORT_JSON,))
    found = convert_record(read_bundle_json(folder / REPORT_JSON), _Evaluated, where=REPORT_JSON)
    classes = found.classes or found.labels
    if found.num_images < 1 or not classes:
        return None
    binned = [(b.num_images, b.mean_confidence) for b in found.reliability if b.mean_confidence is not None]
    num_binned = sum(count for count, _ in binned)
    unknown = found.trust.unknown if found.trust else None
    return Baseline(
        num_images=found.num_images,
        class_shares={row.name: row.num_predicted / found.num_images for row in classes},
        mean_confidence=sum(count * mean for count, mean in binned) / num_binned if num_binned else None,
        unknown_share=unknown.reject_rate if unknown else None,
    )


def _read_report_html(folder: Path) -> bytes:
    """The page in the run folder of the bundle; empty where there is none."""
    run = run_of(folder)
    if run is None or not (run / REPORT_HTML).is_file():
        return b""
    with open_regular(run / REPORT_HTML, error=BundleError) as file:
        return file.read()


def serve(channel: socket.socket, predictor: Predictor, *, reject: bool, num_threads: int) -> None:
    """Answer batches in order until `channel` is closed at its other end."""
    prepared: queue.Queue[tuple[Batch, list[Future[Pixels]]] | None] = queue.Queue(MAX_PREPARED)
    threading.Thread(target=_answer_all, args=(channel, predictor, prepared, reject), daemon=True).start()
    with ThreadPoolExecutor(num_threads) as pool, channel.makefile("rb") as file:
        while header := file.read(LENGTH_BYTES):
            batch = unpack_batch(file.read(int.from_bytes(header, "little")))
            prepared.put((batch, [pool.submit(read_image, predictor, image) for image in batch.images]))
    os._exit(0)  # what is still computed has no receiver


def _answer_all(
    channel: socket.socket,
    predictor: Predictor,
    prepared: queue.Queue[tuple[Batch, list[Future[Pixels]]] | None],
    reject: bool,
) -> None:
    """A failure here ends the process: the service answers the batch with an error and starts another process."""
    try:
        while item := prepared.get():
            batch, images = item
            explained = frozenset(place for place, image in enumerate(batch.images) if image.is_explained)
            pixels = [image.result() for image in images]
            channel.sendall(pack(answer(predictor, batch.number, pixels, reject=reject, explained=explained)))
    except BaseException:  # noqa: BLE001  whatever it is, the process must not go on without its one thread that answers
        sys.excepthook(*sys.exc_info())
        os._exit(1)


def read_image(predictor: Predictor, image: Image) -> Pixels:
    """uint8 [H, W, C], or the BadImage with the reason."""
    shape = (*predictor.preprocess.image_size, predictor.preprocess.channels)
    if image.is_pixels:
        if len(image.data) != np.prod(shape):
            return BadImage(image.name, f"pixels are not of the shape {list(shape)}", "Ask the model for its inputs.")
        return np.frombuffer(image.data, np.uint8).reshape(shape)
    try:
        return predictor.preprocess.read(image.data, name=image.name)
    except BadImage as error:
        return error


def answer(
    predictor: Predictor,
    number: int,
    images: Sequence[Pixels],
    *,
    reject: bool,
    explained: frozenset[int] = frozenset(),
) -> Answered:
    """The answer to a batch, with maps for the images whose places are in `explained`."""
    errors = {
        place: f"{image.reason}. {image.remedy}" for place, image in enumerate(images) if isinstance(image, BadImage)
    }
    good = [image for image in images if not isinstance(image, BadImage)]
    places = [place for place in range(len(images)) if place not in errors]
    if not good:
        return Answered(number, errors, b"", b"", b"", None, None, None, 0.0)
    started = time.perf_counter()
    answers = predictor.predict_batch(np.stack(good), reject=reject, explain=bool(explained))
    maps = dict(zip(places, answers.maps or (), strict=False))
    return Answered(
        number=number,
        errors=errors,
        logits=answers.logits.tobytes(),
        probs=answers.probs.tobytes(),
        preds=answers.preds.tobytes(),
        sets=None if answers.sets is None else answers.sets.tobytes(),
        is_unknown=None if answers.is_unknown is None else answers.is_unknown.tobytes(),
        unknown_scores=None if answers.unknown_scores is None else answers.unknown_scores.tobytes(),
        duration_s=time.perf_counter() - started,
        maps={place: maps[place].tobytes() for place in sorted(explained & maps.keys())},
    )


if __name__ == "__main__":
    main(sys.argv[1:])
