"""Facts about the measured images (dataset, split, exclusions, overlap with training) and the training of the network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from recog.core.errors import ConfigError, DataError
from recog.core.records import convert_record

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
