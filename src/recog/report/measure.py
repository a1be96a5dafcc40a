"""Evaluation of a Predictor on image files, for the end of training and for `recog evaluate`, with accuracy by slice."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recog.core.config import did_you_mean
from recog.core.errors import BadImage, ConfigError, DataError
from recog.core.hardware import num_cores
from recog.core.images.decode import ImageLimits, decode, probe
from recog.core.preprocess import Preprocess
from recog.core.task import Task
from recog.data.dataset import Dataset, Sample, Targets, targets_of
from recog.data.store import BadImagePolicy, exclude_bad
from recog.evaluation.measures.task import TASK_MEASURES
from recog.evaluation.results.evaluate import evaluate
from recog.evaluation.results.facts import DataFacts, measure_sets, measure_trust, measure_unknown
from recog.evaluation.results.report import Report
from recog.evaluation.results.rows import Predictions
from recog.evaluation.results.slices import NOT_STATED, Slicing, slice_by_name, slice_by_value
from recog.evaluation.trust.calibration import Calibration
from recog.report.html import render_html
from recog.report.page.facts import PageFacts
from recog.report.page.gallery import Gallery, build_gallery
from recog.runtime.engine import images_at_once
from recog.runtime.prediction import Prediction
from recog.runtime.predictor import Predictor

SLICE_BY = ("size", "brightness", "source-folder")
_NO_MAPS: Mapping[str, str] = MappingProxyType({})
_NOTHING = frozenset({"", "nan", "<na>", "null", "none"})  # empty cells as pandas and others write them
MAX_NAMED_NUMBERS = 8  # a column with at most this many different numbers has a slice for each
_BRIGHTNESS_SIDE = 64  # px: a JPEG decoder may reduce down to here, which keeps the mean


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A report, the samples it was computed from and how they were read."""

    report: Report
    results: Predictions  # of each image, as `report.predictions`
    preprocess: Preprocess
    samples: Mapping[str, Sample]  # by name, in the order they were measured in

    def html(
        self, facts: PageFacts, *, with_pictures: bool = True, maps: Mapping[str, str] = _NO_MAPS, maps_note: str = ""
    ) -> str:
        """The report page, with thumbnails unless the data are private or none are wanted; `maps` are those of Gallery."""
        gallery = Gallery()
        if with_pictures:
            gallery = build_gallery(
                self.report, self.results, self.samples, limits=self.preprocess.limits, data=facts.data
            )
        return render_html(self.report, replace(gallery, maps=maps, maps_note=maps_note), facts)


def measure(
    predictor: Predictor,
    dataset: Dataset,
    samples: Sequence[Sample],
    *,
    policy: BadImagePolicy,
    facts: DataFacts,
) -> Measured:
    """Predict `samples` of `dataset`, whose labels index the predictor's classes, and evaluate the predictions.

    Bad images are listed in the report. DataError if the policy refuses them or none is left.
    """
    answers = predictor.predict_each(
        [sample.source for sample in samples],
        batch_size=images_at_once(predictor.preprocess.image_size),
        reject=predictor.can_reject,
    )
    good, (predictions,), bad = sort_answers(dataset, samples, answers, policy=policy)
    facts = replace(facts, excluded=(*facts.excluded, *((error.name, error.reason) for error in bad)))
    targets = targets_of(good, len(predictor.class_names), dataset.task)
    is_class = TASK_MEASURES[dataset.task].is_class(targets, len(good), len(predictor.class_names))
    results = _results(dataset.task, good, predictions, is_class)
    logits = np.stack([answer.logits for answer in predictions])
    report = evaluate(
        logits,
        targets,
        class_names=predictor.class_names,
        names=[sample.name for sample in good],
        data=facts,
        calibration=predictor.calibration,
    )
    report = replace(report, predictions=results, **_evidence(predictor.calibration, logits, targets, results))
    return Measured(
        report=report,
        results=results,
        preprocess=predictor.preprocess,
        samples={sample.name: sample for sample in good},
    )


def measure_logits(
    predictor: Predictor,
    samples: Sequence[Sample],
    logits: NDArray[np.float32],
    targets: Targets,
    *,
    uniforms: NDArray[np.float64],
    facts: DataFacts,
) -> Measured:
    """Evaluate `logits` [N, K] for `samples` that models like the predictor's gave, by its calibration.

    `uniforms` [N] are those of `image_coins`. The prediction sets and 'unknown' were fitted on these answers, so they are not
    measured.
    """
    calibration, task = predictor.calibration, predictor.manifest.task
    probs = calibration.apply(logits)
    names = tuple(sample.name for sample in samples)
    results = Predictions(
        task=task,
        paths=names,
        class_names=predictor.class_names,
        is_class=TASK_MEASURES[task].is_class(targets, *logits.shape),
        preds=calibration.preds(probs),
        probs=probs,
        in_set=calibration.prediction_sets(probs, uniforms),
    )
    report = evaluate(
        logits, targets, class_names=predictor.class_names, names=names, data=facts, calibration=calibration
    )
    return Measured(
        report=replace(report, predictions=results),
        results=results,
        preprocess=predictor.preprocess,
        samples={sample.name: sample for sample in samples},
    )


def sort_answers(
    dataset: Dataset, samples: Sequence[Sample], *answers: Iterable[Prediction | BadImage], policy: BadImagePolicy
) -> tuple[list[Sample], list[list[Prediction]], list[BadImage]]:
    """The samples that each of several models could read, the predictions of each model, and the bad images.

    `answers` are those of each model on `samples` of `dataset`. DataError if `policy` refuses bad images or all are bad.
    """
    good: list[Sample] = []
    predictions: list[list[Prediction]] = [[] for _ in answers]
    bad = []
    for sample, *each in zip(samples, *answers, strict=True):
        usable = [answer for answer in each if isinstance(answer, Prediction)]
        if len(usable) == len(each):
            good.append(sample)
            for of_model, prediction in zip(predictions, usable, strict=True):
                of_model.append(prediction)
        else:
            error = next(answer for answer in each if isinstance(answer, BadImage))
            bad.append(BadImage(sample.name, error.reason, error.remedy))
    exclude_bad(dataset, bad, policy=policy)
    if not good:
        raise DataError(f"{dataset.name} has no usable image to evaluate.")
    return good, predictions, bad


def _results(
    task: Task, samples: Sequence[Sample], answers: Sequence[Prediction], is_class: NDArray[np.bool_]
) -> Predictions:
    in_set = [answer.in_set for answer in answers if answer.in_set is not None]
    is_unknown = [answer.is_unknown for answer in answers if answer.is_unknown is not None]
    return Predictions(
        task=task,
        paths=tuple(sample.name for sample in samples),
        class_names=answers[0].class_names,
        is_class=is_class,
        preds=np.stack([answer.preds for answer in answers]),
        probs=np.stack([answer.probs for answer in answers]),
        in_set=np.stack(in_set) if in_set else None,
        is_unknown=np.array(is_unknown) if is_unknown else None,
    )


def _evidence(
    calibration: Calibration, logits: NDArray[np.float32], targets: Targets, results: Predictions
) -> dict[str, Any]:
    """Results of the prediction sets and of 'unknown' for the report, where the bundle has them."""
    if calibration.sets is None and calibration.unknown is None:
        return {}
    trust = measure_trust(calibration, logits, targets.astype(np.int64))
    if calibration.sets is not None and results.in_set is not None:
        trust = replace(trust, sets=measure_sets(calibration.sets, results.in_set, targets.astype(np.int64)))
    if calibration.unknown is not None and results.is_unknown is not None:
        unknown = measure_unknown(calibration.unknown, results.is_unknown, results.is_correct)
        trust = replace(trust, unknown=unknown)
    return {"trust": trust}


def check_slice_by(by: Sequence[str], dataset: Dataset) -> None:
    """ConfigError unless each of `by` is one of SLICE_BY or, ignoring case, a column of the data."""
    columns = slice_columns(dataset)
    for name in by:
        if name not in SLICE_BY and name.lower() not in map(str.lower, columns):
            raise ConfigError(f"images cannot be sliced by '{name}'.{did_you_mean(name, [*SLICE_BY, *columns])}")
        if name in SLICE_BY and name in columns:
            raise ConfigError(f"'{name}' is both a column of the data and an image property; rename the column.")


def slice_columns(dataset: Dataset) -> tuple[str, ...]:
    """The further columns of the image list, including the group."""
    has_groups = any(sample.group is not None for sample in dataset.samples)
    return (*dataset.column_names, *(("group",) if has_groups else ()))


def add_slices(measured: Measured, by: Sequence[str]) -> Measured:
    """`measured` with its report sliced by each of `by`, in that order, without repeats."""
    slicings = tuple(_slicing(measured, name) for name in dict.fromkeys(by))
    return replace(measured, report=replace(measured.report, slices=slicings))


def _slicing(measured: Measured, by: str) -> Slicing:
    samples = list(measured.samples.values())
    if by == "source-folder":
        return slice_by_name(by, [_folder(sample) for sample in samples], measured.results.is_correct)
    if by == "size":
        return slice_by_value(
            by,
            _each(samples, lambda sample: _size(sample, measured.preprocess.limits)),
            measured.results.is_correct,
            unit="px",
        )
    if by == "brightness":
        values = _each(samples, lambda sample: _brightness(sample, measured.preprocess))
        return slice_by_value(by, values, measured.results.is_correct, unit="of 255")
    return _by_cells(by, [_cell(sample, by) for sample in samples], measured.results.is_correct)


def _cell(sample: Sample, column: str) -> str:
    cells = {name.lower(): cell for name, cell in sample.columns}
    cell = cells.get(column.lower(), (sample.group or "") if column.lower() == "group" else "")
    return "" if cell.lower() in _NOTHING else cell


def _by_cells(by: str, cells: Sequence[str], is_correct: NDArray[np.bool_]) -> Slicing:
    """By value if the cells are more than a few different numbers; otherwise by name (such as cameras 1, 2, 3)."""
    stated = {cell for cell in cells if cell}
    numbers = {cell: number for cell in stated if (number := _float(cell)) is not None}
    if len(stated) > MAX_NAMED_NUMBERS and len(numbers) == len(stated):
        return slice_by_value(by, np.array([numbers.get(cell, np.nan) for cell in cells]), is_correct)
    return slice_by_name(by, [cell or NOT_STATED for cell in cells], is_correct)


def _float(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if np.isfinite(number) else None


def _each(samples: Sequence[Sample], value: Callable[[Sample], float]) -> NDArray[np.float64]:
    with ThreadPoolExecutor(num_cores()) as pool:
        return np.array(list(pool.map(value, samples)), dtype=np.float64)


def _size(sample: Sample, limits: ImageLimits) -> float:
    """Width x height of the file, in px."""
    info = probe(sample.source, name=sample.name, limits=limits)
    return float(info.width * info.height)


def _brightness(sample: Sample, preprocess: Preprocess) -> float:
    """Mean grey level, 0 black to 255 white."""
    image = decode(
        sample.source,
        name=sample.name,
        channels=1,
        min_side=_BRIGHTNESS_SIDE,
        grey16_max=preprocess.grey16_max,
        limits=preprocess.limits,
    )
    return float(image.mean())


def _folder(sample: Sample) -> str:
    parent = PurePosixPath(sample.name).parent
    return str(parent) if parent.name else "(top)"
