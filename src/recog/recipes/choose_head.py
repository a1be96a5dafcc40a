"""Candidates for the head, logistic and ridge, compared on answers to images that their fit had not seen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from recog.core.task import Task
from recog.evaluation.measures.task import task_of
from recog.evaluation.results.rows import mean_of
from recog.evaluation.trust.scaling import fit_temperature
from recog.recipes.config import TrainConfig
from recog.recipes.events import HeadLog, score_answers
from recog.training.config import HEAD_METHODS, HeadMethod
from recog.training.head import HeadData, HeadSpec, cross_validate, deal_repeats, fit_heads
from recog.training.ridge import fit_ridge, ridge_out_of_fold

MAX_CROSS_FITTED = (
    4000  # images: beyond, fitting every candidate for every fold takes long, and a validation split tells enough
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Candidate:
    """`logits` float [R, N, K] of R repeats; the lowest `cost` is the best."""

    spec: HeadSpec
    logits: NDArray[np.float32]
    log: HeadLog
    cost: float


def methods_for(wanted: HeadMethod | None, task: Task) -> tuple[HeadMethod, ...]:
    """Those to compare."""
    return HEAD_METHODS[task] if wanted is None else (wanted,)


def try_out_of_fold(data: HeadData, plan: TrainConfig, *, num_classes: int, num_repeats: int) -> list[Candidate]:
    """Every candidate, by its answers out of fold to all images of `data`."""
    answers = _answer_out_of_fold(data, plan, num_classes, num_repeats)
    num_folds = data.num_folds(num_classes)
    return _numbered(_candidate(spec, logits, data.targets, num_folds=num_folds) for spec, logits in answers)


def try_on_val(train: HeadData, val: HeadData, plan: TrainConfig, *, num_classes: int) -> list[Candidate]:
    """Every candidate, fitted on `train`, by its answers to `val`."""
    answers = _answer_val(train, val, plan, num_classes)
    return _numbered(_candidate(spec, logits[None], val.targets, num_folds=0) for spec, logits in answers)


def _numbered(candidates: Iterator[Candidate]) -> list[Candidate]:
    return [replace(each, log=replace(each.log, trial=trial)) for trial, each in enumerate(candidates, start=1)]


def _answer_out_of_fold(
    data: HeadData, plan: TrainConfig, num_classes: int, num_repeats: int
) -> Iterator[tuple[HeadSpec, NDArray[np.float32]]]:
    config, methods = plan.head, methods_for(plan.head.method, task_of(data.targets).task)
    if "logistic" in methods:
        logits = cross_validate(data, config, num_classes=num_classes, seed=plan.seed, num_repeats=num_repeats)
        for l2, repeats in zip(config.strengths, logits, strict=True):
            yield HeadSpec(l2=l2), repeats
    if "ridge" in methods:
        folds = deal_repeats(data, num_classes=num_classes, seed=plan.seed, num_repeats=num_repeats)
        strengths = config.ridge_strengths
        answers = ridge_out_of_fold(data, strengths, folds, num_classes=num_classes)
        for l2, each in zip(strengths, answers, strict=True):
            yield HeadSpec(l2=l2, method="ridge"), each.astype(np.float32)


def _answer_val(
    train: HeadData, val: HeadData, plan: TrainConfig, num_classes: int
) -> Iterator[tuple[HeadSpec, NDArray[np.float32]]]:
    config, methods = plan.head, methods_for(plan.head.method, task_of(train.targets).task)
    if "logistic" in methods:
        weights = train.weights
        for head in fit_heads(train.features, train.targets, config, num_classes=num_classes, weights=weights):
            yield HeadSpec(l2=head.l2), head(val.features)
    if "ridge" in methods:
        for l2 in config.ridge_strengths:
            spec = HeadSpec(l2=l2, method="ridge")
            yield spec, fit_ridge(train, spec, num_classes=num_classes)(val.features)


def _candidate(
    spec: HeadSpec, logits: NDArray[np.float32], targets: NDArray[np.generic], *, num_folds: int
) -> Candidate:
    scores = [score_answers(rows, targets) for rows in logits]
    nll = float(np.mean([fit_temperature(rows, targets).nll_after for rows in logits]))
    accuracies = [score.accuracy for score in scores]
    log = HeadLog(
        trial=0,
        l2=spec.l2,
        method=spec.method,
        val_accuracy=float(np.mean(accuracies)),
        val_nll=nll,
        num_folds=num_folds,
        num_repeats=len(scores) if num_folds else 0,
        accuracy_std=float(np.std(accuracies)),
        val_map=mean_of([score.mean_average_precision for score in scores]),
        score_name=scores[0].score_name,
    )
    error = 1 - float(np.mean([score.selection for score in scores]))
    return Candidate(spec=spec, logits=logits, log=log, cost=(error + 1 / len(targets)) * nll)


def choose(candidates: Sequence[Candidate]) -> Candidate:
    """The lowest product of error rate and calibrated NLL: each counts by its relative change, whatever its size.

    The error is that of accuracy, of multi-label images of mAP; one image more is counted wrong, so that no error is 0.
    """
    return min(candidates, key=lambda candidate: candidate.cost)
