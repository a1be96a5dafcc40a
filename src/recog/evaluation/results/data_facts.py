"""Facts about the measured images: dataset, split, exclusions, overlap with training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from recog.core.errors import ConfigError, DataError

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
