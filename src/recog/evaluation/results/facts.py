"""Facts about the measured images (dataset, split, exclusions, overlap with training) and the training of the network, and
evidence on the bundle's calibration: scaling before and after, prediction sets, the unknown answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recog.core.errors import ConfigError, DataError
from recog.core.records import convert_record
from recog.evaluation.measures.arrays import FloatArray, IntArray
from recog.evaluation.measures.counts import wilson_interval
from recog.evaluation.measures.probability import ece_equal_width, nll, softmax
from recog.evaluation.trust.calibration import Calibration
from recog.evaluation.trust.conformal import ConformalSets
from recog.evaluation.trust.scaling import ScalingFit
from recog.evaluation.trust.thresholds import DecisionThreshold
from recog.evaluation.trust.unknown import UnknownRule

MAX_ERRORS = 100
CROSS_VALIDATED = "cross-validated"  # the split of a report on answers out of fold to all images


@dataclass(frozen=True, kw_only=True)
class DataFacts:
    """Which images were measured, and what a reader must know of them to trust the numbers."""

    name: str
    split: str | None = None  # 'train', 'val', 'test' or CROSS_VALIDATED; None where the images belong to none
    excluded: tuple[tuple[str, str], ...] = ()  # (name, reason) of what was found and could not be used
    num_seen_in_training: int | None = None  # measured images that the run trained on, by content; None: not known
    num_seen_in_selection: int | None = None  # measured images that selected or calibrated the model; None: not known
    num_left_out_as_seen: int = (
        0  # images that were not measured because the run trained, selected or calibrated with them
    )
    test_openings: int | None = None  # how often the test split was opened, this time included; None: not known
    views: str = "one"  # of each image that the answers are averages over

    def __post_init__(self) -> None:
        counts = (self.num_seen_in_training, self.num_seen_in_selection, self.num_left_out_as_seen, self.test_openings)
        if min(count or 0 for count in counts) < 0:
            raise ConfigError("'data' has a count below 0.")

    @property
    def is_cross_validated(self) -> bool:
        """Whether the answers are of models fitted without the image, and not of the one that was sealed."""
        return self.split == CROSS_VALIDATED

    @property
    def split_text(self) -> str:
        """'test split', 'cross-validated'; empty where the images belong to no split."""
        return f"{self.split} split" if self.split and not self.is_cross_validated else self.split or ""


def check_names(names: Sequence[str], expected: int, what: str, of: str) -> None:
    if len(names) != expected:
        raise DataError(f"{what} has {len(names)} entries for {expected} {of}; expected one each.")
    if len(set(names)) != expected:
        twice, _ = Counter(names).most_common(1)[0]
        raise DataError(f"{what} holds {twice!r} more than once; the {of} could not be told apart in the report.")


FEW_FOLDS = 5  # below, a head is fitted on far fewer images than the finished one


@dataclass(frozen=True, kw_only=True)
class CrossValidation:
    """What repeated stratified cross-validation found where images were few; each is held out once in a repeat."""

    num_images: int  # of train and val together
    smallest_class: int  # images of it
    num_folds: int
    num_repeats: int
    l2: float  # the strength that it chose
    method: str = "logistic"  # and the kind of head
    accuracy: float
    accuracy_std: float  # over the repeats
    nll: float
    mean_average_precision: float | None = None  # multi-label; accuracy is then of whole images

    @property
    def bias(self) -> str:
        """How the numbers differ from those on new images, and why."""
        text = "slightly optimistic, as the head was chosen on the same images"
        if self.num_folds < FEW_FOLDS:
            text += f", but also pessimistic, as each was fitted on {1 - 1 / self.num_folds:.0%} of them"
        return text


@dataclass(frozen=True, kw_only=True)
class TrainingFacts:
    """Counts are 0 where no gradient steps are taken.

    `duration_s`, `is_resumed` and `budget_s` belong to one run: a bundle, which equal runs write equally, has none of them.
    """

    network: str
    recipe: str
    num_images: int  # of the training split, before any are pruned
    num_epochs: int
    num_planned_epochs: int
    best_epoch: int  # whose weights were kept; 0: those that the epochs began with
    num_steps: int
    batch_size: int  # images of a step
    balance: str  # auto, none, weights or sampler
    balance_effect: str = ""  # what it did, in a sentence; empty where it did nothing
    class_weights: tuple[float, ...] = ()  # in the order of the class names; empty where none were used
    cross_validation: CrossValidation | None = None
    num_val_images: int | None = None  # of the validation split that the finished head was fitted on too, if any
    duration_s: float | None = None  # from the command to the sealed bundle
    is_resumed: bool = False  # duration_s is then of the last part
    budget_s: float | None = None  # the time that the run was planned to end within; of one run too
    num_pruned: int = 0  # training images that --noisy-labels left out, as their labels look wrong
    cut_at_step: int | None = None  # where training ended before its last planned step, by stop.max_steps or the budget

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"class_weights": list(self.class_weights)}


def parse_training(table: object) -> TrainingFacts | None:
    """From `report.json`; None where the file has no training. BundleError where a field is missing or of another type."""
    return None if table is None else convert_record(table, TrainingFacts, where="report.json: training")


@dataclass(frozen=True, kw_only=True)
class ScalingEvidence:
    """The softmax as the network gives it, on the images measured; the report's own NLL and ECE are after scaling."""

    nll_before: float
    ece_before: float
    fit: ScalingFit | None  # on the calibration images; None where nothing was fitted


@dataclass(frozen=True, kw_only=True)
class SetEvidence:
    """The prediction sets of the images measured, held against the truth."""

    method: str
    alpha: float
    data: str  # of calibration, in words
    num_calibration_images: int
    num_own_classes: int  # with a quantile of their own
    num_refused_classes: int  # that were to have one and have too few calibration images
    num_images: int
    num_covered: int  # whose set holds the true class
    sizes: tuple[tuple[int, int], ...]  # (classes in the set, images with such a set), ascending

    @property
    def coverage(self) -> float:
        return self.num_covered / self.num_images

    @property
    def coverage_ci95(self) -> tuple[float, float]:
        """Wilson's."""
        return wilson_interval(self.num_covered, self.num_images)

    @property
    def mean_size(self) -> float:
        return sum(size * count for size, count in self.sizes) / self.num_images

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {
            "sizes": [list(pair) for pair in self.sizes],
            "coverage": self.coverage,
            "coverage_ci95": list(self.coverage_ci95),
            "mean_size": self.mean_size,
        }


@dataclass(frozen=True, kw_only=True)
class UnknownEvidence:
    """How many of the images measured, all of known classes, are called unknown; `rule` names the score."""

    rule: UnknownRule
    num_images: int
    num_rejected: int
    num_errors: int  # misclassified images, rejected or not
    num_rejected_errors: int

    @property
    def reject_rate(self) -> float:
        return self.num_rejected / self.num_images

    @property
    def reject_rate_ci95(self) -> tuple[float, float]:
        """Wilson's."""
        return wilson_interval(self.num_rejected, self.num_images)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {
            "rule": self.rule.to_dict(),
            "reject_rate": self.reject_rate,
            "reject_rate_ci95": list(self.reject_rate_ci95),
        }


@dataclass(frozen=True, kw_only=True)
class Trust:
    scaling: ScalingEvidence
    sets: SetEvidence | None = None
    unknown: UnknownEvidence | None = None
    decision: DecisionThreshold | None = None  # of two classes; None where the most probable class is predicted

    def to_dict(self) -> dict[str, Any]:
        return {
            "scaling": asdict(self.scaling),
            "sets": self.sets.to_dict() if self.sets else None,
            "unknown": self.unknown.to_dict() if self.unknown else None,
            "decision": self.decision.to_dict() if self.decision else None,
        }


def measure_sets(rule: ConformalSets, sets: NDArray[np.bool_], labels: IntArray) -> SetEvidence:
    """From the `sets` bool [N, K] that `rule` gave and `labels` int [N]."""
    sizes, counts = np.unique(sets.sum(axis=1), return_counts=True)
    return SetEvidence(
        method=rule.method,
        alpha=rule.alpha,
        data=rule.data,
        num_calibration_images=rule.num_images,
        num_own_classes=len(rule.class_quantiles) - len(rule.refused) if rule.class_quantiles else 0,
        num_refused_classes=len(rule.refused),
        num_images=len(labels),
        num_covered=int(sets[np.arange(len(labels)), labels].sum()),
        sizes=tuple(zip(sizes.tolist(), counts.tolist(), strict=True)),
    )


def measure_unknown(rule: UnknownRule, is_unknown: NDArray[np.bool_], is_correct: NDArray[np.bool_]) -> UnknownEvidence:
    """From what `rule` called unknown, bool [N], and whether the predicted class is right, bool [N]."""
    return UnknownEvidence(
        rule=rule,
        num_images=len(is_unknown),
        num_rejected=int(is_unknown.sum()),
        num_errors=int((~is_correct).sum()),
        num_rejected_errors=int((is_unknown & ~is_correct).sum()),
    )


def measure_trust(calibration: Calibration, logits: FloatArray, labels: IntArray) -> Trust:
    """From the network's `logits` float [N, K] and `labels` int [N]."""
    preds = calibration.preds(calibration.apply(logits))
    return Trust(
        scaling=ScalingEvidence(
            nll_before=nll(logits, labels),
            ece_before=ece_equal_width(softmax(logits), labels, preds=preds),
            fit=calibration.scaling.fit,
        ),
        decision=calibration.decision,
    )


def parse_trust(table: object) -> Trust:
    """From `report.json`; BundleError where a field is missing or of another type, ValueError where a number is impossible."""
    trust = convert_record(table, Trust, where="report.json: trust")
    rates = [trust.scaling.ece_before]
    losses = [trust.scaling.nll_before]
    if (fit := trust.scaling.fit) is not None:
        rates += [fit.ece_before, fit.ece_after]
        losses += [fit.nll_before, fit.nll_after]
    if not all(0 <= rate <= 1 + 1e-9 for rate in rates) or not all(isfinite(loss) and loss >= 0 for loss in losses):
        raise ValueError("'trust' has an impossible NLL or ECE.")
    if trust.sets is not None:
        _check_sets(trust.sets)
    if trust.unknown is not None:
        _check_unknown(trust.unknown)
    return trust


def _check_sets(evidence: SetEvidence) -> None:
    counts_fit = sum(count for _, count in evidence.sizes) == evidence.num_images > 0
    if not counts_fit or not 0 <= evidence.num_covered <= evidence.num_images:
        raise ValueError("'trust.sets' has impossible counts.")


def _check_unknown(evidence: UnknownEvidence) -> None:
    fewest = max(0, evidence.num_rejected + evidence.num_errors - evidence.num_images)
    counts_fit = fewest <= evidence.num_rejected_errors <= min(evidence.num_rejected, evidence.num_errors)
    if not counts_fit or not max(evidence.num_rejected, evidence.num_errors) <= evidence.num_images > 0:
        raise ValueError("'trust.unknown' has impossible counts.")
