"""`recog bench`: the engines that can run a bundle on this machine, their speed, and whether they predict alike."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from recog.bundle.manifest import find_bundle
from recog.bundle.reference import read_reference, synthetic_images
from recog.bundle.seal import ONNX
from recog.core.errors import BadImage, ConfigError, RecogError, missing_extra
from recog.core.hardware import cpu_name, num_cores
from recog.data.dataset import targets_of
from recog.data.lists.label_format import AS_FOUND
from recog.data.sources import Source
from recog.deployment.parity import compare_engines
from recog.evaluation.measures.task import TASK_MEASURES, is_correct
from recog.runtime.engine import ENGINES, REFERENCE_ENGINE, FileEngine, open_engine
from recog.runtime.engine_choice import record_engine, runtime_versions
from recog.runtime.predictor import BATCH_SIZE, ImageSource, Predictor, load
from recog.runtime.speed import Speed, measure_speed
from recog.verbs.eligible import Side, choose_samples, open_as_trained, with_classes_of

if TYPE_CHECKING:
    from recog.models.listing import NetworkFacts

MAX_IMAGES = 1000  # of labelled data; some 150 MB at 224 px
MIN_LABELLED = 200  # below, one image is more than the half percent of labels that may differ
MIN_LABEL_AGREEMENT = 0.995
MAX_ACCURACY_DIFFERENCE = 0.002
NETWORK_S = 0.25  # of measuring one network of the table


@dataclass(frozen=True, kw_only=True)
class EngineRow:
    """One engine on this machine. What needs predictions is None where it cannot run, with `reason`."""

    engine: str
    precision: str
    speeds: Mapping[int, Speed]  # by batch size
    max_prob_difference: float | None = None  # to the reference engine
    label_agreement: float | None = None  # share of images with the same labels, in [0, 1]
    accuracy_difference: float | None = None  # to the reference engine's, on labelled images; None without these
    is_eligible: bool = False
    reason: str = ""  # why it is not eligible


@dataclass(frozen=True, kw_only=True)
class BenchReport:
    """Engines in the order of ENGINES, and the one that was chosen: the fastest eligible one at the largest batch."""

    bundle: str
    cpu: str
    num_threads: int
    versions: Mapping[str, str]
    num_images: int  # that predictions were compared on
    num_labelled: int  # of these with a label, from the data that were given
    rows: tuple[EngineRow, ...]
    chosen: str
    recorded_in: str | None  # file in the user's cache; None where it was not to be recorded
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"BenchReport(bundle={self.bundle!r}, engines={len(self.rows)}, chosen={self.chosen!r})"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        table = asdict(self)
        for row in table["rows"]:
            row["speeds"] = {str(size): speed for size, speed in row["speeds"].items()}
        return table


def bench(  # noqa: PLR0913  keywords of a public verb
    bundle: str | Path,
    source: Source | None = None,
    *,
    batch_sizes: Sequence[int] = (1, BATCH_SIZE),
    num_threads: int | None = None,
    seconds: float = 2.0,
    record: bool = True,
) -> BenchReport:
    """Measure every engine on a bundle, run folder or run's name, and record the fastest for `load(engine='auto')`.

    Predictions are compared on the bundle's reference images, and on up to 1,000 labelled images of `source`, read as the
    training data were, without those that the run was trained with. float32 engines must agree to 1e-4 in probability and in
    every label that is not a tie; bfloat16 needs at least 200 labelled images, 99.5 % equal labels and an accuracy within 0.2
    points. `seconds` is the time for each engine and batch size.
    """
    if not batch_sizes or min(batch_sizes) < 1:
        raise ConfigError(f"batch sizes are {list(batch_sizes)}; expected whole numbers from 1.")
    if not 0 < seconds <= 600:
        raise ConfigError(f"seconds is {seconds:g}; expected more than 0 and at most 600.")
    folder = find_bundle(bundle)
    predictor = load(folder, num_threads=num_threads)
    images, correct, notes = _images_to_compare(predictor, folder, source)
    opened = dict(_open_engines(folder, num_threads))
    engines = {name: engine for name, engine in opened.items() if not isinstance(engine, str)}
    speeds = measure_speed(engines, images, batch_sizes, seconds=seconds)
    probs = {name: _predict(engine, predictor, images) for name, engine in engines.items()}
    rows = tuple(
        EngineRow(engine=name, precision=ENGINES[name].precision, speeds={}, reason=engine)
        if isinstance(engine, str)
        else _judge(name, speeds[name], probs[name], probs[REFERENCE_ENGINE], predictor, correct)
        for name, engine in opened.items()
    )
    largest = max(batch_sizes)
    chosen = max((row for row in rows if row.is_eligible), key=lambda row: row.speeds[largest].median).engine
    return BenchReport(
        bundle=str(bundle),
        cpu=cpu_name(),
        num_threads=num_threads or num_cores(),
        versions=runtime_versions(),
        num_images=len(images),
        num_labelled=0 if correct is None else len(correct),
        rows=rows,
        chosen=chosen,
        recorded_in=str(record_engine(predictor.manifest, num_threads, chosen)) if record else None,
        notes=notes,
    )


def _open_engines(folder: Path, num_threads: int | None) -> Iterator[tuple[str, FileEngine | str]]:
    """Each engine by name, or the reason why it cannot run here."""
    for name in ENGINES:
        try:
            yield name, open_engine(folder / ONNX, name, num_threads=num_threads)
        except ModuleNotFoundError as error:
            missing = missing_extra(error)
            if missing is None:
                raise
            yield name, str(missing)
        except RecogError as error:
            if name == REFERENCE_ENGINE:
                raise
            yield name, str(error)


def _images_to_compare(
    predictor: Predictor, folder: Path, source: Source | None
) -> tuple[NDArray[np.uint8], NDArray[np.bool_] | None, tuple[str, ...]]:
    """Images uint8 [N, H, W, C] as the network takes them, of the first of these the true classes bool [M, K], and notes."""
    reference: Sequence[ImageSource] = read_reference(folder).images
    if not reference:
        reference = synthetic_images(predictor.preprocess, seed=0)
    if source is None:
        return _read(predictor, reference)[0], None, ()
    side = Side.load(folder)
    manifest = predictor.manifest
    dataset = open_as_trained(source, folder, manifest, labels=AS_FOUND)
    dataset = with_classes_of(dataset, predictor.class_names)
    chosen = choose_samples(dataset, None, [side])
    positions = np.unique(np.linspace(0, len(chosen.samples) - 1, MAX_IMAGES).astype(int))  # spread over the classes
    samples = [chosen.samples[i] for i in positions]
    opening = side.log_opening("bench", dataset, [chosen.hashes[i] for i in positions])
    images, is_good = _read(predictor, [sample.source for sample in samples])
    good = [sample for sample, usable in zip(samples, is_good, strict=True) if usable]
    targets = targets_of(good, len(predictor.class_names), dataset.task)
    is_class = TASK_MEASURES[dataset.task].is_class(targets, len(good), len(predictor.class_names))
    bad = f"{len(samples) - len(good)} of {len(samples)} images cannot be read and were left out"
    notes = (*chosen.notes, opening.note if opening else None, bad if len(good) < len(samples) else None)
    return np.concatenate([images, _read(predictor, reference)[0]]), is_class, tuple(filter(None, notes))


def _read(predictor: Predictor, sources: Sequence[ImageSource]) -> tuple[NDArray[np.uint8], list[bool]]:
    """The readable images uint8 [N, H, W, C], and of each source whether it is one."""

    def read(source: ImageSource) -> NDArray[np.uint8] | None:
        try:
            return predictor.preprocess.read(source)
        except BadImage:
            return None

    with ThreadPoolExecutor(num_cores()) as pool:
        images = list(pool.map(read, sources))
    good = [image for image in images if image is not None]
    shape = (*predictor.preprocess.image_size, predictor.preprocess.channels)
    return np.array(good, np.uint8).reshape(len(good), *shape), [image is not None for image in images]


def _predict(engine: FileEngine, predictor: Predictor, images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Calibrated probabilities [N, K]."""
    batches = (images[i : i + BATCH_SIZE] for i in range(0, len(images), BATCH_SIZE))
    return np.concatenate([predictor.calibration.apply(engine(batch).logits) for batch in batches])


def _judge(  # noqa: PLR0913, PLR0917  one engine against the reference
    name: str,
    speeds: Mapping[int, Speed],
    probs: NDArray[np.float64],
    reference: NDArray[np.float64],
    predictor: Predictor,
    is_class: NDArray[np.bool_] | None,
) -> EngineRow:
    precision, calibration = ENGINES[name].precision, predictor.calibration
    preds, expected = calibration.preds(probs), calibration.preds(reference)
    parity = compare_engines(reference, probs, task=calibration.task, thresholds=calibration.threshold_values)
    agreement = float((preds == expected).all(axis=1).mean())
    gain = None
    if is_class is not None:
        right, was_right = (is_correct(answer[: len(is_class)], is_class).mean() for answer in (preds, expected))
        gain = float(right - was_right)
    reason = ""
    if precision == "float32":
        if not parity.agrees:
            reason = f"probabilities differ by up to {parity.max_prob_difference:.2g}"
    elif is_class is None or len(is_class) < MIN_LABELLED:
        found = 0 if is_class is None else len(is_class)
        reason = (
            f"{precision} needs {MIN_LABELLED} labelled images to be compared on, found {found}: recog bench RUN DATA"
        )
    elif agreement < MIN_LABEL_AGREEMENT:
        reason = f"{agreement:.1%} of the labels are equal; {MIN_LABEL_AGREEMENT:.1%} are needed"
    elif gain is not None and abs(gain) >= MAX_ACCURACY_DIFFERENCE:
        reason = f"its accuracy differs by {100 * gain:+.2f} points; less than 0.2 are allowed"
    return EngineRow(
        engine=name,
        precision=precision,
        speeds=speeds,
        max_prob_difference=parity.max_prob_difference,
        label_agreement=agreement,
        accuracy_difference=gain,
        is_eligible=not reason,
        reason=reason,
    )


def measure_networks(networks: Iterable[NetworkFacts], *, num_threads: int) -> Iterator[NetworkFacts]:
    """Each of `networks` with its milliseconds per image at its input size, which do not depend on its weights.

    They are those of the fastest round, as other programs only slow it down; None where it cannot be exported to ONNX.

    ConfigError for more than 50 networks, as each takes seconds.
    """
    from recog.models.listing import MAX_COUNTED

    chosen = list(networks)
    if len(chosen) > MAX_COUNTED:
        raise ConfigError(
            f"--measure takes up to {MAX_COUNTED} networks; the pattern matches {len(chosen):,}. Narrow it."
        )
    for facts in chosen:
        yield replace(facts, ms=_measure(facts, num_threads=num_threads))


def _measure(facts: NetworkFacts, *, num_threads: int) -> float | None:
    from recog.deployment.onnx import export_onnx
    from recog.models.build import build_model
    from recog.models.config import ModelConfig

    try:
        model = build_model(ModelConfig(name=facts.name, weights="none"), num_classes=2)
    except ConfigError:
        return None  # recog cannot train it either
    size, channels = model.preprocess.image_size, model.preprocess.channels
    with tempfile.TemporaryDirectory(prefix="recog-") as folder:
        path = Path(folder) / "network.onnx"
        try:
            export_onnx(model.classifier, path, image_size=size, channels=channels, class_names=("a", "b"))
        except RuntimeError:
            return None
        engine = open_engine(path, num_threads=num_threads)
        image = np.full((1, *size, channels), 127, dtype=np.uint8)
        return 1000 / measure_speed({"": engine}, image, (1,), seconds=NETWORK_S)[""][1].most
