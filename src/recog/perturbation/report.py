"""The result of `recog robustness`: accuracy, calibration and 'unknown' by corruption and severity, and attacks."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from recog.core import notebook
from recog.core.task import Task
from recog.evaluation.measures.counts import Hits, Interval
from recog.evaluation.measures.resampling import mean_interval
from recog.perturbation.corruptions import CORRUPTIONS, GROUPS, Group
from recog.perturbation.measure import Condition

if TYPE_CHECKING:
    from recog.perturbation.attack_suite import AttackReport

FORMAT_VERSION = 2  # 2: data_digest, and which images are right
NUM_WORST = 5


@dataclass(frozen=True, kw_only=True)
class ShiftRow:
    """One corruption at one severity. Rates are in [0, 1]."""

    corruption: str
    group: str
    severity: int
    hits: Hits
    confidence: float
    nll: float
    ece: float
    unknown_rate: float | None
    sample_sha256: str
    correct: str  # which images are right, see `pack_bits`

    @property
    def accuracy(self) -> float:
        return self.hits.accuracy

    def to_dict(self) -> dict[str, Any]:
        low, high = self.hits.accuracy_ci95
        table = {name: value for name, value in asdict(self).items() if name != "hits"}
        return {**table, "num_images": self.hits.num_images, "accuracy": self.accuracy, "accuracy_ci95": [low, high]}


@dataclass(frozen=True, kw_only=True)
class MeanAccuracy:
    """Mean accuracy over the conditions of a group; its interval takes the images as the sample, not the conditions."""

    group: Group
    num_corruptions: int
    num_known: int  # corruptions that the group has
    num_conditions: int
    accuracy: float
    accuracy_ci95: Interval | None
    relative_drop: float | None  # share of the clean accuracy that is lost; None where that is 0

    @property
    def title(self) -> str:
        """Such as "ImageNet-C's corruptions (5 of 15)"."""
        count = "" if self.num_corruptions == self.num_known else f"{self.num_corruptions} of "
        return f"{GROUPS[self.group]} ({count}{self.num_known})"


@dataclass(frozen=True, kw_only=True)
class ClassShift:
    """The share of a class's images that were recognised: as they are, and on average under the corruptions."""

    name: str
    num_images: int
    clean_recall: float
    mean_recall: float


@dataclass(frozen=True, kw_only=True)
class CorruptionReport:
    """All conditions of one measurement. `constants` are those of CIFAR-10-C or ImageNet-C, by the size of the images."""

    clean: ShiftRow
    rows: tuple[ShiftRow, ...]
    means: tuple[MeanAccuracy, ...]
    classes: tuple[ClassShift, ...]  # the one that loses most first
    constants: str

    @property
    def by_name(self) -> dict[str, dict[int, ShiftRow]]:
        """{corruption: {severity: row}}."""
        table: dict[str, dict[int, ShiftRow]] = {}
        for row in self.rows:
            table.setdefault(row.corruption, {})[row.severity] = row
        return table

    @property
    def mean_by_name(self) -> dict[str, float]:
        """{corruption: mean accuracy over its severities}, lowest first."""
        means = {name: float(np.mean([row.accuracy for row in rows.values()])) for name, rows in self.by_name.items()}
        return dict(sorted(means.items(), key=lambda item: item[1]))

    def to_dict(self) -> dict[str, Any]:
        return {
            "constants": self.constants,
            "clean": self.clean.to_dict(),
            "rows": [row.to_dict() for row in self.rows],
            "means": [asdict(mean) for mean in self.means],
            "classes": [asdict(row) for row in self.classes],
        }


@dataclass(frozen=True, kw_only=True)
class RobustnessReport:
    """What was measured, on what, and how."""

    bundle: str
    data: str
    split: str | None
    task: Task
    num_images: int
    image_size: tuple[int, int]
    engine: str
    seed: int
    data_digest: str  # of the images and their labels
    num_seen: int | None  # of the images, those that the run trained, selected or calibrated with; None: not known
    versions: Mapping[str, str]
    corruptions: CorruptionReport | None  # None: not measured
    attacks: AttackReport | None

    def __repr__(self) -> str:
        return f"RobustnessReport(bundle={self.bundle!r}, data={self.data!r}, num_images={self.num_images})"

    def _repr_html_(self) -> str:
        rows: list[tuple[str, float, str]] = []
        if self.corruptions is not None:
            clean, means = self.corruptions.clean.accuracy, self.corruptions.mean_by_name
            rows += [
                ("as they are", clean, f"{clean:.1%}"),
                *((name, mean, f"{mean:.1%}") for name, mean in means.items()),
            ]
        if self.attacks is not None:
            rows += [
                (f"after {row.name}", row.robust.accuracy, f"{row.robust.accuracy:.1%}") for row in self.attacks.rows
            ]
        return notebook.card(f"Robustness on {self.data}", f"{self.num_images:,} images", notebook.bars(rows))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "format_version": FORMAT_VERSION,
            "bundle": self.bundle,
            "data": self.data,
            "split": self.split,
            "task": self.task,
            "num_images": self.num_images,
            "image_size": list(self.image_size),
            "engine": self.engine,
            "seed": self.seed,
            "data_digest": self.data_digest,
            "num_seen": self.num_seen,
            "versions": dict(self.versions),
            "corruptions": None if self.corruptions is None else self.corruptions.to_dict(),
            "attacks": None if self.attacks is None else self.attacks.to_dict(),
        }


def corruption_report(
    conditions: Sequence[Condition], is_class: NDArray[np.bool_], class_names: Sequence[str], *, constants: str
) -> CorruptionReport:
    """`conditions`, the clean one first, of the images with `is_class` bool [N, K]."""
    num_images = len(is_class)
    correct = np.stack([condition.is_correct(num_images) for condition in conditions])
    rows = tuple(_row(condition, bits) for condition, bits in zip(conditions, correct, strict=True))
    groups = [row.group for row in rows[1:]]
    return CorruptionReport(
        clean=rows[0],
        rows=rows[1:],
        means=tuple(
            _mean(
                group, {row.corruption for row in rows[1:]}, correct[1:][[g == group for g in groups]], rows[0].accuracy
            )
            for group in GROUPS
            if group in groups
        ),
        classes=_classes(conditions, is_class, class_names),
        constants=constants,
    )


def _row(condition: Condition, correct: NDArray[np.bool_]) -> ShiftRow:
    return ShiftRow(
        corruption=condition.name,
        group=CORRUPTIONS[condition.name].group if condition.severity else "",
        severity=condition.severity,
        hits=Hits(num_images=len(correct), num_correct=int(correct.sum())),
        confidence=condition.confidence,
        nll=condition.nll,
        ece=condition.ece,
        unknown_rate=condition.unknown_rate,
        sample_sha256=condition.sample_sha256,
        correct=condition.correct,
    )


def _mean(group: Group, names: set[str], correct: NDArray[np.bool_], clean: float) -> MeanAccuracy:
    known = {name for name, corruption in CORRUPTIONS.items() if corruption.group == group}
    per_image = correct.mean(axis=0)  # one image's answers under all conditions belong together
    accuracy = float(per_image.mean())
    return MeanAccuracy(
        group=group,
        num_corruptions=len(known & names),
        num_known=len(known),
        num_conditions=len(correct),
        accuracy=accuracy,
        accuracy_ci95=mean_interval(per_image),
        relative_drop=(clean - accuracy) / clean if clean else None,
    )


def _classes(
    conditions: Sequence[Condition], is_class: NDArray[np.bool_], class_names: Sequence[str]
) -> tuple[ClassShift, ...]:
    counts = is_class.sum(axis=0)
    recalls = np.array([condition.found for condition in conditions]) / np.maximum(counts, 1)
    rows = [
        ClassShift(
            name=name,
            num_images=int(counts[k]),
            clean_recall=float(recalls[0, k]),
            mean_recall=float(recalls[1:, k].mean()),
        )
        for k, name in enumerate(class_names)
        if counts[k] and len(conditions) > 1
    ]
    return tuple(sorted(rows, key=lambda row: row.mean_recall - row.clean_recall))


def table_of(report: CorruptionReport) -> str:
    """The clean and all other conditions as CSV."""
    text = io.StringIO()
    columns = [name for name in report.clean.to_dict() if name not in ("accuracy_ci95", "correct")]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*columns, "accuracy_low", "accuracy_high"])
    for row in (report.clean, *report.rows):
        table = row.to_dict()
        writer.writerow([*(table[name] for name in columns), *table["accuracy_ci95"]])
    return text.getvalue()
