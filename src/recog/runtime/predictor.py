"""Predicts image files with a bundle: the one implementation that every command and service shares. No torch."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeGuard, TypeVar, cast, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from recog.bundle.manifest import MANIFEST, Manifest, find_bundle, read_bundle_json, read_manifest
from recog.bundle.reference import FEATURES, read_features
from recog.bundle.seal import (
    CALIBRATION,
    CONFIG,
    ONNX,
    Verification,
    check_facts,
    check_files,
    read_network_config,
    verify_bundle,
)
from recog.core import notebook
from recog.core.errors import BadImage, BundleError, ConfigError
from recog.core.hardware import num_cores
from recog.core.images.decode import Readable
from recog.core.task import Task
from recog.evaluation.trust.calibration import Calibration
from recog.evaluation.trust.conformal import image_coins
from recog.evaluation.trust.unknown import FeatureStatistics, UnknownRule
from recog.runtime.engine import (
    REFERENCE_ENGINE,
    Engine,
    check_engine,
    check_engine_name,
    images_at_once,
    open_engine,
)
from recog.runtime.folders import list_images
from recog.runtime.prediction import Answers, Prediction, mapped_classes
from recog.runtime.views import Views, ViewsEngine, open_views

if TYPE_CHECKING:
    from recog.runtime.class_maps import MapMaker

ImageSource = str | Path | bytes | Image.Image | NDArray[np.uint8] | Readable
_Batch = tuple[list[ImageSource], list[NDArray[np.uint8] | BadImage]]

BATCH_SIZE = 32
MIN_THREADED_S = 1e-3  # of reading one image; of less, handing it to a thread is most of the work
_WITHOUT_UNKNOWN: Mapping[Task, str] = MappingProxyType(
    {
        "multiclass": "it was trained without",
        "multilabel": "labels that do not exclude each other have no such rule",
    }
)
T = TypeVar("T")


class Predictor:
    """A bundle that is ready to answer. `engine` may be any Engine of the same network.

    One that `load` made can be pickled and deep-copied, for other processes: the copy loads the bundle from its folder.
    """

    def __init__(
        self,
        *,
        manifest: Manifest,
        calibration: Calibration,
        engine: Engine,
        read_statistics: Callable[[], FeatureStatistics] | None = None,
        num_threads: int | None = None,
        folder: Path | None = None,
        engine_name: str = "",
    ) -> None:
        self.manifest = manifest
        self.class_names = manifest.class_names
        self.preprocess = manifest.preprocess
        self.calibration = calibration
        self.engine = engine
        self._num_threads = num_threads  # that read images; None: one per core
        self.engine_name = engine_name  # of ENGINES; empty for an Engine of your own
        self._folder = folder  # of the bundle, resolved; None if it was not loaded from one
        self._read_statistics = read_statistics  # called when they are first needed, as most uses never do

    def __repr__(self) -> str:
        height, width = self.preprocess.image_size
        return (
            f"Predictor(task={self.manifest.task!r}, num_classes={len(self.class_names)}, "
            f"image_size=({height}, {width}), channels={self.preprocess.channels})"
        )

    def _repr_html_(self) -> str:
        height, width = self.preprocess.image_size
        data = self.manifest.data
        rows = [
            ("Network", self.manifest.architecture),
            ("Input", f"{width} x {height} pixels, {self.preprocess.channels} channels"),
            ("Trained on", f"{data.name}, {sum(data.num_images.values()):,} images"),
            (
                "Probabilities",
                "not calibrated" if self.calibration.method == "none" else f"calibrated ({self.calibration.method})",
            ),
            ("Classes", ", ".join(self.class_names[:20]) + (", ..." if len(self.class_names) > 20 else "")),
        ]
        return notebook.card(
            f"Predictor, {len(self.class_names)} classes", self.manifest.task, notebook.table((), rows)
        )

    def __reduce__(self) -> tuple[Any, ...]:
        if self._folder is None:
            raise ConfigError(
                "this Predictor was not loaded from a bundle and cannot be copied; use recog.load(BUNDLE)."
            )
        views = self.engine.views if isinstance(self.engine, ViewsEngine) else "one"
        return _load_same, (self._folder, dict(self.manifest.files), self._num_threads, self.engine_name, views)

    @property
    def can_reject(self) -> bool:
        """Whether the bundle tells what is unknown."""
        return self.calibration.unknown is not None and self.calibration.unknown.threshold is not None

    @cached_property
    def map_maker(self) -> MapMaker:
        """Makes maps of where images count; ConfigError where the bundle carries no feature map."""
        from recog.runtime.class_maps import MapMaker  # only where maps are asked for, to start sooner

        return MapMaker(self.engine, self._folder, self.manifest)

    @cached_property
    def _statistics(self) -> FeatureStatistics | None:
        return None if self._read_statistics is None else self._read_statistics()

    @overload
    def predict(  # type: ignore[overload-overlap]
        self, source: ImageSource, *, reject: bool = False, explain: bool = False
    ) -> Prediction: ...
    @overload
    def predict(  # type: ignore[overload-overlap]
        self, source: Iterator[ImageSource], *, reject: bool = False, explain: bool = False
    ) -> Iterator[Prediction]: ...
    @overload
    def predict(
        self, source: Iterable[ImageSource], *, reject: bool = False, explain: bool = False
    ) -> list[Prediction]: ...

    def predict(
        self, source: ImageSource | Iterable[ImageSource], *, reject: bool = False, explain: bool = False
    ) -> Prediction | Iterator[Prediction] | list[Prediction]:
        """Answer for a path, bytes, open file, PIL image or array uint8 [H, W] or [H, W, C].

        A list, tuple, array uint8 [N, H, W, C] or other collection gives a list, and so does a folder's path. An iterator is
        answered lazily, in batches. `reject` answers 'unknown' for images unlike every class; `explain` adds maps of where the
        image counts for the answer, without torch, if the bundle carries a feature map.

        Raises BadImage for an image that cannot be used; `predict_each` reports it in place instead.
        """
        if isinstance(source, (str, Path)) and os.path.isdir(source):
            images = list[ImageSource](list_images(Path(source)).images)
            return self.predict(images, reject=reject, explain=explain)
        if _is_one(source):
            (answer,) = self.predict_each([source], reject=reject, explain=explain)
            return replace(_or_raise(answer), source=source)
        sources = cast("Iterable[ImageSource]", source)
        answers = map(_or_raise, self.predict_each(sources, reject=reject, explain=explain))
        return answers if isinstance(source, Iterator) else list(answers)

    def predict_proba(self, sources: Iterable[ImageSource]) -> NDArray[np.float64]:
        """Calibrated probabilities [N, K] over `class_names`. Raises BadImage for an image that cannot be used."""
        rows = [_or_raise(answer).probs for answer in self.predict_each(_several(sources))]
        return np.array(rows, np.float64).reshape(len(rows), len(self.class_names))

    def embed(self, sources: Iterable[ImageSource], *, batch_size: int | None = None) -> NDArray[np.float32]:
        """Features [N, D] of the network before its last layer, for search and clustering.

        Raises BadImage for an image that cannot be used.
        """
        none = np.zeros((1, *self.preprocess.image_size, self.preprocess.channels), np.uint8)
        batches = [self.engine(none).features[:0]]  # so that no source gives [0, D]
        for _, images in self._read_batches(_several(sources), self._checked(batch_size), folder=_working_folder()):
            batches.append(self.engine(np.stack([_or_raise(image) for image in images])).features)
        return np.concatenate(batches)

    def predict_each(
        self,
        sources: Iterable[ImageSource],
        *,
        batch_size: int | None = None,
        reject: bool = False,
        explain: bool = False,
    ) -> Iterator[Prediction | BadImage]:
        """Per source, in order: its Prediction, or the BadImage with the reason.

        Sources are taken as answers are asked for; relative paths mean what they mean at this call.
        ConfigError at this call where `batch_size`, `reject` or `explain` is not possible.
        """
        batch_size = self._checked(batch_size)
        if reject and self._check_reject().needs_features:
            _ = self._statistics  # read, so that a damaged file is found before the first answer
        if explain:
            _ = self.map_maker
        batches = self._read_batches(sources, batch_size, folder=_working_folder())
        return self._answer_all(batches, partial(self.predict_batch, reject=reject, explain=explain))

    def _answer_all(
        self, batches: Iterator[_Batch], answer_batch: Callable[[NDArray[np.uint8]], Answers]
    ) -> Iterator[Prediction | BadImage]:
        for chunk, images in batches:
            good = [image for image in images if not isinstance(image, BadImage)]
            answers = answer_batch(np.stack(good)) if good else None
            rows = iter(range(len(good)))
            for image, source in zip(images, chunk, strict=True):
                if isinstance(image, BadImage):
                    yield image
                elif answers is not None:
                    task, name, names = self.manifest.task, _name_of(source), self.class_names
                    yield answers.prediction(next(rows), image, task=task, name=name, class_names=names)

    def _read_batches(self, sources: Iterable[ImageSource], batch_size: int, *, folder: str) -> Iterator[_Batch]:
        """Batches of sources and their images. Of a collection the next batch is read while the caller works on this one.

        An iterator is not asked for sources before they are needed, as it may wait for them.
        """
        pending = iter(sources)
        pool = ThreadPoolExecutor(self._num_threads or num_cores())
        at_once = 1

        def read(part: list[ImageSource]) -> tuple[list[NDArray[np.uint8] | BadImage], float]:
            begun = time.perf_counter()
            return [self._read(source, folder=folder) for source in part], time.perf_counter() - begun

        def begin() -> tuple[list[ImageSource], list[Future[tuple[list[NDArray[np.uint8] | BadImage], float]]]]:
            chunk = list(islice(pending, batch_size))
            return chunk, [pool.submit(read, chunk[i : i + at_once]) for i in range(0, len(chunk), at_once)]

        try:
            chunk, parts = begin()
            while chunk:
                following = None if isinstance(sources, Iterator) else begin()
                found = [part.result() for part in parts]
                # small images: threads would wait for each other within Python's lock
                is_quick = sum(seconds for _, seconds in found) < MIN_THREADED_S * len(chunk)
                at_once = batch_size if is_quick else 1
                yield chunk, [image for images, _ in found for image in images]
                chunk, parts = following or begin()
        finally:
            pool.shutdown(cancel_futures=True)

    def _checked(self, batch_size: int | None) -> int:
        if batch_size is not None and batch_size < 1:
            raise ConfigError(f"batch_size is {batch_size}; it must be 1 or more.")
        return batch_size or images_at_once(self.preprocess.image_size)

    def _read(self, source: ImageSource, *, folder: str) -> NDArray[np.uint8] | BadImage:
        file = os.path.join(folder, source) if isinstance(source, (str, Path)) else source
        try:
            return self.preprocess.read(file, name=_name_of(source))
        except BadImage as error:
            return error

    def predict_batch(self, images: NDArray[np.uint8], *, reject: bool = False, explain: bool = False) -> Answers:
        """Answer for images uint8 [B, H, W, C], as Preprocess gives them."""
        maker = self.map_maker if explain else None
        outputs = self.engine(images) if maker is None else maker.run(images)
        probs = self.calibration.apply(outputs.logits)
        answers = Answers(
            logits=outputs.logits,
            probs=probs,
            sets=None
            if self.calibration.sets is None
            else self.calibration.prediction_sets(probs, image_coins(images)),
            preds=self.calibration.preds(probs),
        )
        if maker is not None:
            classes = [mapped_classes(*row) for row in zip(probs, answers.preds, strict=True)]
            answers = replace(answers, maps=tuple(maker.maps(outputs, i, found) for i, found in enumerate(classes)))
        if not reject:
            return answers
        unknown = self._check_reject()
        statistics = self._statistics if unknown.needs_features else None
        scores = unknown.scores(outputs.logits, outputs.features, statistics)
        return replace(answers, unknown_scores=scores, is_unknown=unknown.is_unknown(scores))

    def _check_reject(self) -> UnknownRule:
        rule = self.calibration.unknown
        if rule is None or rule.threshold is None:
            why = rule.reason if rule else _WITHOUT_UNKNOWN[self.manifest.task]
            remedy = " Train on more images, or allow more false alarms (calibration.false_alarm_rate)." if rule else ""
            raise ConfigError(f"this bundle does not tell what is unknown: {why}.{remedy}")
        return rule


def load(
    bundle: str | Path, *, num_threads: int | None = None, engine: str = REFERENCE_ENGINE, views: Views = "one"
) -> Predictor:
    """The Predictor of a bundle folder, a run folder or a run's name, on `num_threads` threads, by default one per core.

    `engine` is one of ENGINES, or 'auto': the one that `recog bench` has found to be the fastest for this bundle on this machine,
    if it was run. `views` is one of VIEWS. The files that are read are checked against the manifest's hashes.
    """
    folder = find_bundle(bundle)
    manifest = read_manifest(folder)
    check_files(folder, manifest, (CONFIG, CALIBRATION, ONNX))
    check_facts(manifest, read_network_config(folder))
    name = _chosen_engine(manifest, num_threads) if engine == "auto" else check_engine_name(engine)
    opened = open_engine(folder / ONNX, name, num_threads=num_threads)
    check_engine(opened, manifest, folder / ONNX)
    calibration = Calibration.from_dict(read_bundle_json(folder / CALIBRATION))
    calibration.check_classes(len(manifest.class_names))
    if manifest.task != calibration.task:
        raise BundleError(
            f"{folder}: the task is {manifest.task} in {MANIFEST} and {calibration.task} in {CALIBRATION}, by its label "
            "thresholds; the bundle is not used."
        )
    lasting = folder.resolve()  # read_statistics is called later, when the working folder may be another one

    def read_statistics() -> FeatureStatistics:
        check_files(lasting, manifest, (FEATURES,))
        return FeatureStatistics.from_tensors(read_features(lasting))

    return Predictor(
        manifest=manifest,
        calibration=calibration,
        engine=opened if views == "one" else open_views(opened, views, folder, manifest, calibration),
        read_statistics=read_statistics,
        num_threads=num_threads,
        folder=lasting,
        engine_name=name,
    )


def _load_same(folder: Path, files: dict[str, str], num_threads: int | None, engine: str, views: Views) -> Predictor:
    """A copy of a Predictor; BundleError where the bundle in `folder` is another one by now."""
    predictor = load(folder, num_threads=num_threads, engine=engine, views=views)
    if dict(predictor.manifest.files) != files:
        raise BundleError(f"{folder} holds another bundle than when this Predictor was loaded; load it again.")
    return predictor


def _chosen_engine(manifest: Manifest, num_threads: int | None) -> str:
    from recog.runtime.engine_choice import chosen_engine  # only where it is asked for, to start sooner

    return chosen_engine(manifest, num_threads)


def _working_folder() -> str:
    try:
        return os.getcwd()
    except OSError:  # it was removed; absolute paths can still be read
        return ""


def _name_of(source: ImageSource) -> str:
    if isinstance(source, (str, Path)):
        return str(source)
    return {bytes: "<bytes>", np.ndarray: "<array>"}.get(type(source), "<image>")


def _is_one(source: ImageSource | Iterable[ImageSource]) -> TypeGuard[ImageSource]:
    """Whether `source` is one image, and not several."""
    if isinstance(source, np.ndarray):
        return source.ndim < 4 and source.dtype.kind not in "OUS"  # objects and texts: several paths or images
    return isinstance(source, (str, bytes, os.PathLike, Image.Image)) or hasattr(source, "read")


def _several(sources: Iterable[ImageSource]) -> Iterable[ImageSource]:
    """`sources`; ConfigError for one image in their place, such as a path, whose letters would be taken for paths."""
    if _is_one(sources):
        raise ConfigError("a list of images is expected, and this is one image. Put it into a list: [image].")
    return sources


def _or_raise(answer: T | BadImage) -> T:
    if isinstance(answer, BadImage):
        raise answer
    return answer


def verify(bundle: str | Path) -> Verification:
    """Check a bundle, run folder or run's name. Raises BundleError with what differs and by how much."""
    folder = find_bundle(bundle)
    predictor = load(folder)

    def predict_probs(files: Sequence[bytes]) -> NDArray[np.float64]:
        return np.stack([prediction.probs for prediction in predictor.predict(list(files))])

    return verify_bundle(folder, predict_probs)
