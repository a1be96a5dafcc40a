"""Evaluating a Predictor on image files, one way for training's own evidence and for `recog evaluate`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from recog.core.decode import decode
from recog.core.errors import BadImage, DataError
from recog.data.dataset import Dataset, Sample, targets_of
from recog.data.store import BadImagePolicy, exclude_bad
from recog.evaluation.measures.multilabel import is_subset_correct
from recog.evaluation.results.data_facts import DataFacts
from recog.evaluation.results.multilabel_report import evaluate_multilabel
from recog.evaluation.results.read import AnyReport
from recog.evaluation.results.report import Report, evaluate
from recog.evaluation.results.trust_evidence import measure_sets, measure_unknown
from recog.evaluation.trust.calibration import Calibration
from recog.report.html import MAX_THUMBNAILS, render_html, thumbnail
from recog.runtime.predictor import Prediction, Predictor


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A report with the samples behind its rows, so that the page can show them."""

    report: AnyReport
    samples: Mapping[str, Sample]  # by name, in the order they were measured in
    is_correct: NDArray[np.bool_]  # [N], in that order; multi-label: all labels right

    def html(self, *, with_pictures: bool = True) -> str:
        """The one-file page, with a small picture of each error that it shows unless the data are private."""
        pictures: dict[str, str] = {}
        if not with_pictures:
            return render_html(self.report, pictures)
        for error in self.report.errors[:MAX_THUMBNAILS]:
            sample = self.samples[error.name]
            pictures[error.name] = thumbnail(decode(sample.source, name=sample.name))
        return render_html(self.report, pictures)


def measure(
    predictor: Predictor,
    dataset: Dataset,
    samples: Sequence[Sample],
    *,
    policy: BadImagePolicy,
    facts: DataFacts,
) -> Measured:
    """Predict `samples` of `dataset`, whose labels index the predictor's classes, and report on them.

    Bad images are counted and named in the report; DataError by the policy or where none is left.
    """
    answers = list(predictor.predict_each((sample.source for sample in samples), reject=predictor.can_reject))
    good = [(s, a) for s, a in zip(samples, answers, strict=True) if isinstance(a, Prediction)]
    bad = [
        BadImage(s.name, a.reason, a.remedy) for s, a in zip(samples, answers, strict=True) if isinstance(a, BadImage)
    ]
    exclude_bad(dataset, bad, policy=policy)
    if not good:
        raise DataError(f"{dataset.name} has no usable image to evaluate on.")
    facts = replace(facts, excluded=(*facts.excluded, *((error.name, error.reason) for error in bad)))
    return _measure_labels(predictor, good, facts) if dataset.task == "multilabel" else _measure(predictor, good, facts)


def _measure(predictor: Predictor, good: Sequence[tuple[Sample, Prediction]], facts: DataFacts) -> Measured:
    labels = np.array([sample.label for sample, _ in good], dtype=np.int64)
    report = evaluate(
        np.stack([answer.logits for _, answer in good]),
        labels,
        class_names=predictor.class_names,
        names=[sample.name for sample, _ in good],
        data=facts,
        calibration=predictor.calibration,
    )
    report = _with_trust(report, predictor.calibration, [answer for _, answer in good], labels)
    preds = np.array([answer.probs.argmax() for _, answer in good])
    return Measured(report=report, samples={sample.name: sample for sample, _ in good}, is_correct=preds == labels)


def _measure_labels(predictor: Predictor, good: Sequence[tuple[Sample, Prediction]], facts: DataFacts) -> Measured:
    samples = [sample for sample, _ in good]
    targets = targets_of(samples, len(predictor.class_names), "multilabel")
    report = evaluate_multilabel(
        np.stack([answer.logits for _, answer in good]),
        targets,
        class_names=predictor.class_names,
        names=[sample.name for sample in samples],
        data=facts,
        calibration=predictor.calibration,
    )
    said = np.stack([answer.said for _, answer in good if answer.said is not None])
    is_correct = is_subset_correct(said, targets == 1)
    return Measured(report=report, samples={sample.name: sample for sample in samples}, is_correct=is_correct)


def _with_trust(
    report: Report, calibration: Calibration, answers: Sequence[Prediction], labels: NDArray[np.int64]
) -> Report:
    """The report with what prediction sets and 'unknown' did on its images, where the bundle has them."""
    if report.trust is None:
        return report
    trust = report.trust
    in_sets = [answer.in_set for answer in answers if answer.in_set is not None]
    if calibration.sets is not None and in_sets:
        trust = replace(trust, sets=measure_sets(calibration.sets, np.stack(in_sets), labels))
    if calibration.unknown is not None and answers[0].is_unknown is not None:
        is_unknown = np.array([bool(answer.is_unknown) for answer in answers])
        is_correct = np.array([answer.probs.argmax() for answer in answers]) == labels
        trust = replace(trust, unknown=measure_unknown(calibration.unknown, is_unknown, is_correct))
    return replace(report, trust=trust)
