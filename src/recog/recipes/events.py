"""The events that training yields, and the scores on held-out images that they report."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from recog.core.errors import TrainingError
from recog.core.text import plural
from recog.evaluation.measures.task import task_of
from recog.evaluation.results.facts import CrossValidation
from recog.training.config import HeadMethod
from recog.training.fit import EpochLog, SkippedStep, StepLog
from recog.training.head import FEW_IMAGES
from recog.training.schedule import EarlyStopped, Measure


@dataclass(frozen=True, kw_only=True)
class ValScores:
    accuracy: float  # multilabel: share of images with all labels right at a probability of 0.5
    nll: float  # multilabel: the mean BCE
    selection: float  # what chooses among epochs and heads: the accuracy, or of multilabel data the mAP
    score_name: str = "accuracy"  # of that
    mean_average_precision: float | None = None  # multilabel only
    confusion: NDArray[np.int64] | None = field(default=None, compare=False)  # [K, K], row = true; multiclass only

    @property
    def rank(self) -> tuple[float, float]:
        """The greater, the better; of equals the lower NLL."""
        return self.selection, -self.nll


def score_answers(logits: NDArray[np.float32], targets: NDArray[np.generic]) -> ValScores:
    """Scores of `logits` float [N, K] by labels int64 [N], or multilabel `targets` float32 [N, K] of 0 and 1.

    TrainingError where the network has diverged.
    """
    if not np.isfinite(logits).all():
        raise TrainingError(
            "the network's logits on the validation split are not finite: training has diverged. "
            "A lower learning rate usually helps: --set optim.lr=..."
        )
    measures = task_of(targets)
    return ValScores(
        accuracy=measures.accuracy(logits, targets),
        nll=measures.nll(logits, targets),
        selection=measures.selection_score(logits, targets),
        score_name=measures.score_name,
        mean_average_precision=measures.mean_average_precision(logits, targets),
        confusion=measures.confusion(logits, targets),
    )


@dataclass(frozen=True, kw_only=True)
class FeatureTime:
    """The expected time of the features of all images, from one measured batch."""

    num_images: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class _OnVal:
    """What is measured on the validation split."""

    val_accuracy: float  # multi-label: of whole images at a probability of 0.5
    val_nll: float  # of a head: calibrated by a temperature
    val_map: float | None = None  # multi-label only
    score_name: str = "accuracy"  # of the measure that chooses among epochs and heads: accuracy or mAP

    @property
    def val_score(self) -> tuple[str, float]:
        """The measure that chooses, and its value."""
        return self.score_name, {"accuracy": self.val_accuracy, "mAP": self.val_map or 0.0}[self.score_name]

    @property
    def quality(self) -> str:
        return "{} {:.1%}".format(*self.val_score)


def scaled_nll(nll: float) -> str:
    """The NLL of a head that was tried, whose logits are divided by their best temperature; the calibration is fitted later."""
    return f"NLL {nll:.3f} (temperature-scaled)"


@dataclass(frozen=True, kw_only=True)
class HeadLog(_OnVal):
    """One head tried, measured on the validation split or by cross-validation over train and val."""

    trial: int  # from 1
    l2: float
    method: HeadMethod = "logistic"
    is_best: bool = False  # the lowest product of error rate and NLL
    num_folds: int = 0  # 0: the validation split
    num_repeats: int = 0
    accuracy_std: float = 0.0  # over the repeats


def describe_cross_validation(found: CrossValidation) -> str:
    several = found.mean_average_precision
    kind, measured = "class", f"accuracy {found.accuracy:.1%}"
    if several is not None:
        kind, measured = "label", f"mAP {several:.1%}, all labels correct on {found.accuracy:.1%}"
    has_few, std = "", ""
    if found.smallest_class < FEW_IMAGES:
        has_few = f"the rarest {kind} has only {found.smallest_class} images to train and validate with, too few for one split: "
    if found.num_repeats > 1:
        std = f" (std {found.accuracy_std:.1%} over the repeats)"
    return (
        f"{has_few}{found.num_repeats} x {found.num_folds}-fold stratified cross-validation on all {found.num_images} images "
        f"chose the {found.method} head with L2 {found.l2:g}: {measured}{std}, "
        f"{scaled_nll(found.nll)}; "
        f"{found.bias}"
    )


@dataclass(frozen=True, kw_only=True)
class EpochResult(_OnVal):
    """An epoch, measured on the validation split."""

    log: EpochLog
    is_best: bool
    confusion: NDArray[np.int64] | None = field(default=None, compare=False)  # [K, K], row = true; of single labels
    notes: tuple[str, ...] = ()  # for the user

    @classmethod
    def of(cls, log: EpochLog, scores: ValScores, *, is_best: bool, notes: tuple[str, ...] = ()) -> EpochResult:
        return cls(
            log=log,
            val_accuracy=scores.accuracy,
            val_nll=scores.nll,
            is_best=is_best,
            val_map=scores.mean_average_precision,
            score_name=scores.score_name,
            confusion=scores.confusion,
            notes=notes,
        )

    def measure(self, name: Measure) -> float:
        values = {
            "val_accuracy": self.val_accuracy,
            "val_nll": self.val_nll,
            "val_map": self.val_map or 0.0,
            "train_loss": self.log.train_loss,
        }
        return values[name]


@dataclass(frozen=True, kw_only=True)
class Suspect:
    """A training image whose label looks wrong; `suspicion` in [0, 1], 1 is the most suspicious of all images."""

    name: str
    label: str
    looks_like: str
    suspicion: float


@dataclass(frozen=True, kw_only=True)
class PrunedLabels:
    """The training images that --noisy-labels leaves out, the most suspicious first. Other splits are not touched."""

    num_images: int  # of the training split, before
    suspects: tuple[Suspect, ...]
    is_judged: bool = True

    def __str__(self) -> str:
        if not self.is_judged:
            return "noisy labels: the labels cannot be judged, as fewer than two classes have two different images"
        share = len(self.suspects) / self.num_images
        return (
            f"noisy labels: {len(self.suspects):,} of {plural(self.num_images, 'training image')} ({share:.1%}) left out, as "
            "their labels look wrong; pruned.csv in the run's folder lists them"
        )


@dataclass(frozen=True, kw_only=True)
class HeadChoice:
    """Which last layer a continued network begins with: the parent's, or the one fitted on its features."""

    keeps_parent: bool
    parent_score: float  # on the validation split: accuracy, or mAP of multi-label images
    fitted_score: float

    def __str__(self) -> str:
        chosen, other = ("the parent's", "a new") if self.keeps_parent else ("a new", "the parent's")
        if self.parent_score == self.fitted_score:
            score = f"val {self.parent_score:.1%}"
            return f"training begins with {chosen} last layer: {other} one has {score} too, but no lower NLL"
        best, worst = max(self.parent_score, self.fitted_score), min(self.parent_score, self.fitted_score)
        return f"training begins with {chosen} last layer: val {best:.1%}; {other} one has {worst:.1%}"


@dataclass(frozen=True, kw_only=True)
class HeadFitted:
    """The head that was chosen."""

    method: HeadMethod
    l2: float

    def __str__(self) -> str:
        return f"the {self.method} head with L2 {self.l2:g} is chosen: the lowest product of error rate and this NLL"


@dataclass(frozen=True, kw_only=True)
class StartKept:
    """No epoch was better on the validation split than the weights that the epochs began with, which are kept."""

    num_epochs: int
    score: float  # of the weights that are kept: accuracy, or mAP of multi-label images
    nll: float


@dataclass(frozen=True, kw_only=True)
class CutShort:
    """Training ended before its last planned step: by `stop.max_steps`, or, where that is not set, by the time budget."""

    step: int  # the last that was taken, from 1
    num_steps: int  # that were planned

    def __str__(self) -> str:
        return (
            f"training ended after step {self.step:,} of {self.num_steps:,}, where its time was up; run.toml has "
            f"stop.max_steps = {self.step} to repeat it"
        )


@dataclass(frozen=True, kw_only=True)
class FirstBatch:
    """What the network sees first, augmented: images uint8 [B, H, W, C]."""

    step: int  # since the start of training, from 1
    images: NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class TrainingSummary:
    """The whole training, including the steps before it was resumed."""

    num_epochs: int = 0
    best_epoch: int = 0  # whose weights the network has; 0: those that it started with
    num_steps: int = 0
    cross_validation: CrossValidation | None = None  # of the head, if images were few
    num_val_images: int | None = None  # that the head was fitted on in the end, if any
    cut_at_step: int | None = None  # as of CutShort
    num_pruned: int = 0  # training images that --noisy-labels left out


LearnEvent = (
    CutShort
    | FirstBatch
    | StepLog
    | SkippedStep
    | EpochResult
    | FeatureTime
    | PrunedLabels
    | HeadFitted
    | HeadLog
    | StartKept
    | HeadChoice
    | CrossValidation
    | EarlyStopped
)


def warnings_of(event: LearnEvent) -> tuple[str, ...]:
    """What the event has to report on skipped steps and unusual data."""
    if isinstance(event, SkippedStep):
        return (str(event),)
    if isinstance(event, EpochResult) and event.log.num_skipped:
        skipped = plural(event.log.num_skipped, "step")
        return (f"warning: skipped {skipped} of epoch {event.log.epoch}: loss or gradient not finite", *event.notes)
    return event.notes if isinstance(event, StepLog | EpochResult) else ()
