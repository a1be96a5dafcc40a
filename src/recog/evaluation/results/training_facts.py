"""How the network that a report measures came to be, as `report.json` says it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from recog.core.records import convert_record

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
    """Counts are 0 where nothing is learnt by steps.

    `duration_s`, `is_resumed` and `budget_s` belong to one run: a bundle, which equal runs write equally, has none of them.
    """

    network: str
    recipe: str
    num_images: int  # of the training split
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
    cut_at_step: int | None = None  # where training ended before its last planned step, by stop.max_steps or the budget

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"class_weights": list(self.class_weights)}


def parse_training(table: object) -> TrainingFacts | None:
    """From `report.json`; None where the file has no training. BundleError where a field is missing or of another type."""
    return None if table is None else convert_record(table, TrainingFacts, where="report.json: training")
