"""Image files in, labels and probabilities out: the one way of answering that every command and service shares. No torch."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from recog.bundle.locate import find_bundle
from recog.bundle.manifest import MANIFEST, Manifest, read_json, read_manifest
from recog.bundle.seal import CALIBRATION, CONFIG, ONNX, check_facts, check_files
from recog.core.decode import Readable
from recog.core.errors import BadImage, BundleError, ConfigError, DataError
from recog.core.files import IMAGE_SUFFIXES, walk_folder
from recog.core.hardware import num_cores
from recog.evaluation.calibration import Calibration
from recog.evaluation.conformal import image_coins
from recog.runtime.engine import Engine, OnnxEngine

ImageSource = str | Path | bytes | Image.Image | NDArray[np.uint8] | Readable

BATCH_SIZE = 32


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """The answer for one image: calibrated probs float64 [K] over `class_names`, and the logits they come from."""

    name: str
    class_names: tuple[str, ...]
    probs: NDArray[np.float64]
    logits: NDArray[np.float32]
    in_set: NDArray[np.bool_] | None = None  # [K], the classes in the prediction set; None where the bundle makes none

    @property
    def label_set(self) -> tuple[str, ...] | None:
        """The classes that the image may show, the most probable first; never empty. None where the bundle makes no sets."""
        if self.in_set is None:
            return None
        order = np.argsort(-self.probs, kind="stable")
        return tuple(self.class_names[i] for i in order if self.in_set[i])

    @property
    def label(self) -> str:
        return self.class_names[int(self.probs.argmax())]

    @property
    def confidence(self) -> float:
        """The label's probability, in [0, 1]."""
        return float(self.probs.max())

    def top(self, k: int) -> list[tuple[str, float]]:
        """The `k` most probable classes with their probabilities, the best first; ties in class order."""
        if k < 1:
            raise ConfigError(f"top takes 1 class or more; it got {k}.")
        order = np.argsort(-self.probs, kind="stable")[:k]
        return [(self.class_names[i], float(self.probs[i])) for i in order]


@dataclass(frozen=True, kw_only=True)
class Answers:
    """For a batch of B images: what the network says, and what the calibration makes of it."""

    logits: NDArray[np.float32]  # [B, K]
    probs: NDArray[np.float64]  # [B, K]
    sets: NDArray[np.bool_] | None  # [B, K]


class Predictor:
    """A bundle that is ready to answer. `engine` may be any Engine of the same network."""

    def __init__(self, *, manifest: Manifest, calibration: Calibration, engine: Engine) -> None:
        self.manifest = manifest
        self.class_names = manifest.class_names
        self.preprocess = manifest.preprocess
        self.calibration = calibration
        self.engine = engine

    @overload
    def predict(self, source: list[ImageSource]) -> list[Prediction]: ...
    @overload
    def predict(self, source: ImageSource) -> Prediction: ...

    def predict(self, source: ImageSource | list[ImageSource]) -> Prediction | list[Prediction]:
        """Answer for a path, bytes, open file, PIL image or array uint8 [H, W, C].

        A list gives a list, and so does a folder's path.

        Raises BadImage for an image that cannot be used; `predict_each` reports it in place instead.
        """
        if isinstance(source, (str, Path)) and os.path.isdir(source):
            return self.predict(list[ImageSource](list_images(Path(source))))
        answers = [_or_raise(a) for a in self.predict_each(source if isinstance(source, list) else [source])]
        return answers if isinstance(source, list) else answers[0]

    def predict_each(
        self, sources: Iterable[ImageSource], *, batch_size: int = BATCH_SIZE
    ) -> Iterator[Prediction | BadImage]:
        """Per source, in order: its Prediction, or the BadImage that says why there is none."""
        if batch_size < 1:
            raise ConfigError(f"batch_size is {batch_size}; it must be 1 or more.")
        pending = iter(sources)
        with ThreadPoolExecutor(num_cores()) as pool:
            while chunk := list(islice(pending, batch_size)):
                yield from self._answer(list(pool.map(self._read, chunk)), chunk)

    def _read(self, source: ImageSource) -> NDArray[np.uint8] | BadImage:
        try:
            return self.preprocess.read(source, name=_name_of(source))
        except BadImage as error:
            return error

    def _answer(
        self, images: list[NDArray[np.uint8] | BadImage], sources: list[ImageSource]
    ) -> Iterator[Prediction | BadImage]:
        good = [image for image in images if not isinstance(image, BadImage)]
        if not good:
            yield from (image for image in images if isinstance(image, BadImage))
            return
        answers = self.predict_batch(np.stack(good))
        row = 0
        for image, source in zip(images, sources, strict=True):
            if isinstance(image, BadImage):
                yield image
                continue
            yield Prediction(
                name=_name_of(source),
                class_names=self.class_names,
                probs=answers.probs[row],
                logits=answers.logits[row],
                in_set=None if answers.sets is None else answers.sets[row],
            )
            row += 1

    def predict_batch(self, images: NDArray[np.uint8]) -> Answers:
        """Answer for images uint8 [B, H, W, C], as Preprocess gives them."""
        logits = self.engine(images).logits
        probs = self.calibration.apply(logits)
        sets = self.calibration.sets
        return Answers(logits=logits, probs=probs, sets=None if sets is None else sets.sets(probs, image_coins(images)))


def load(bundle: str | Path, *, num_threads: int | None = None) -> Predictor:
    """The Predictor of a bundle folder, a run folder or a run's name.

    The files that are read are checked against the manifest's hashes, and what stands twice against itself.
    """
    folder = find_bundle(bundle)
    manifest = read_manifest(folder)
    check_files(folder, manifest, (CONFIG, CALIBRATION, ONNX))
    check_facts(manifest, read_json(folder / CONFIG))
    engine = OnnxEngine(folder / ONNX, num_threads=num_threads)
    _check_engine(engine, manifest, folder)
    calibration = Calibration.from_dict(read_json(folder / CALIBRATION))
    calibration.check_classes(len(manifest.class_names))
    return Predictor(manifest=manifest, calibration=calibration, engine=engine)


def _check_engine(engine: OnnxEngine, manifest: Manifest, folder: Path) -> None:
    preprocess, names = manifest.preprocess, manifest.class_names
    pairs = {
        "class names": (engine.class_names, names),
        "number of classes": (engine.num_classes, len(names)),
        "image shape": (engine.image_shape, (*preprocess.image_size, preprocess.channels)),
    }
    for fact, (in_onnx, in_manifest) in pairs.items():
        if in_onnx != in_manifest:
            raise BundleError(
                f"{folder}: {ONNX} and {MANIFEST} disagree on the {fact}: {in_onnx!r} and {in_manifest!r}; the bundle is "
                "not used."
            )


def list_images(folder: Path) -> list[Path]:
    """Every file below `folder` whose name says image, in natural order; DataError where there is none."""
    files = [path for path in walk_folder(folder).files if path.suffix.lower() in IMAGE_SUFFIXES]
    if not files:
        raise DataError(f"{folder} holds no image file.")
    return files


def _name_of(source: ImageSource) -> str:
    if isinstance(source, (str, Path)):
        return str(source)
    return {bytes: "<bytes>", np.ndarray: "<array>"}.get(type(source), "<image>")


def _or_raise(answer: Prediction | BadImage) -> Prediction:
    if isinstance(answer, BadImage):
        raise answer
    return answer
