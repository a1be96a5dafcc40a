"""What the page tells beyond the report: how the training went, the data, where the result comes from, speed and size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from recog.data.dataset import Dataset, Sample

MAX_STRIP_CLASSES = 25
STRIP_IMAGES = 8  # of a class, where classes are few
MAX_STRIP_IMAGES = 160


class _Scored:
    """What is measured of an epoch or a head, which name its fields in the order of results.csv."""

    val_accuracy: float
    val_map: float | None

    @property
    def score(self) -> tuple[str, float]:
        """The name and value of the measure that chooses."""
        measures = (("mAP", self.val_map), ("accuracy", self.val_accuracy))
        return next((name, value) for name, value in measures if value is not None)  # the first that was recorded


@dataclass(frozen=True, kw_only=True)
class EpochRow(_Scored):
    """One epoch of metrics.jsonl and results.csv."""

    epoch: int
    train_loss: float
    val_accuracy: float  # multi-label: of whole images
    val_nll: float
    val_map: float | None = None  # multi-label only
    images_per_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class HeadRow(_Scored):
    """One head that was tried."""

    trial: int
    method: str
    l2: float
    val_accuracy: float
    val_nll: float
    val_map: float | None = None
    num_folds: int | None = None  # of the cross-validation that measured it; 0: the validation split

    @property
    def measured(self) -> str:
        return "cross-validated" if self.num_folds else "val"


@dataclass(frozen=True, kw_only=True)
class History:
    """What a training recorded: epochs, or heads, or both."""

    epochs: tuple[EpochRow, ...] = ()
    heads: tuple[HeadRow, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ClassImages:
    """Images of one class by split, and some of them to look at."""

    name: str
    counts: tuple[int, ...]  # in the order of DataOverview.splits
    samples: tuple[Sample, ...] = field(default=(), compare=False)


@dataclass(frozen=True, kw_only=True)
class DataOverview:
    """What the data were, and what was wrong with them."""

    splits: tuple[str, ...]
    classes: tuple[ClassImages, ...]
    excluded: tuple[tuple[str, str], ...] = ()  # (name, reason)
    remarks: tuple[str, ...] = ()  # what was noticed while reading

    @property
    def num_images(self) -> tuple[int, ...]:
        """Per split. An image with several labels counts under each."""
        return tuple(sum(row.counts[i] for row in self.classes) for i in range(len(self.splits)))


@dataclass(frozen=True, kw_only=True)
class PageFacts:
    """Each part may be missing, and is then not on the page."""

    run: str = "RUN"  # what the commands on the page name
    history: History = field(default_factory=History)
    data: DataOverview | None = None
    provenance: tuple[tuple[str, str], ...] = ()  # (name, value)
    speed: tuple[tuple[str, str], ...] = ()
    commands: tuple[tuple[str, str], ...] = ()  # (what it does, command)
    num_openings: int | None = None  # of the test split


def overview(dataset: Dataset, *, remarks: Sequence[str] = (), strip_of: str = "train") -> DataOverview:
    """The images of `dataset` by class and split, with some of the split `strip_of`, or of all if it has none, to look at."""
    splits = dataset.given_splits or ("all",)
    counts = [[0] * len(splits) for _ in dataset.class_names]
    shown: list[list[Sample]] = [[] for _ in dataset.class_names]
    for sample in dataset.samples:
        for label in sample.labels:
            counts[label][splits.index(sample.split) if sample.split in splits else 0] += 1
            if sample.split == strip_of or strip_of not in splits:
                shown[label].append(sample)
    num_shown = min(STRIP_IMAGES, max(1, MAX_STRIP_IMAGES // len(dataset.class_names)))
    return DataOverview(
        splits=splits,
        classes=tuple(
            ClassImages(
                name=name,
                counts=tuple(counts[k]),
                samples=spread(shown[k], num_shown) if k < MAX_STRIP_IMAGES else (),
            )
            for k, name in enumerate(dataset.class_names)
        ),
        excluded=tuple((exclusion.name, exclusion.reason) for exclusion in dataset.exclusions),
        remarks=tuple(remarks),
    )


def spread(samples: Sequence[Sample], number: int) -> tuple[Sample, ...]:
    """At most `number` of `samples`, evenly spaced."""
    step = max(1.0, len(samples) / number)
    return tuple(samples[int(i * step)] for i in range(min(number, len(samples))))
