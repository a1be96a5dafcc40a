"""Two robustness results on the same images with the same settings, image by image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from recog.core import notebook
from recog.core.errors import DataError
from recog.core.text import plural
from recog.evaluation.measures.counts import Interval
from recog.evaluation.measures.resampling import mean_interval
from recog.evaluation.results.comparison import PairedMeasure, paired_interval
from recog.perturbation.corruptions import GROUPS
from recog.perturbation.measure import CLEAN, unpack_bits


@dataclass(frozen=True, kw_only=True)
class KeptRow:
    """Of a condition, what a comparison needs."""

    corruption: str
    group: str
    severity: int
    correct: str


@dataclass(frozen=True, kw_only=True)
class KeptCorruptions:
    constants: str
    clean: KeptRow
    rows: tuple[KeptRow, ...]


@dataclass(frozen=True, kw_only=True)
class KeptAttack:
    name: str


@dataclass(frozen=True, kw_only=True)
class KeptAttacks:
    norm: str
    eps: float
    steps: int
    restarts: int
    queries: int
    num_targets: int
    rows: tuple[KeptAttack, ...]
    correct: str
    correct_robust: str

    @property
    def settings(self) -> dict[str, Any]:
        names = ("norm", "eps", "steps", "restarts", "queries", "num_targets")
        attacks = ", ".join(row.name for row in self.rows)
        return {"attacks": attacks, **{f"the attacks' {name}": getattr(self, name) for name in names}}


@dataclass(frozen=True, kw_only=True)
class KeptResult:
    """robustness.json, as far as two of them are compared."""

    data: str
    data_digest: str
    num_images: int
    image_size: tuple[int, int]
    seed: int
    corruptions: KeptCorruptions | None = None
    attacks: KeptAttacks | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """What must be equal, by name."""
        found: dict[str, Any] = {"seed": self.seed}
        if self.corruptions is not None:
            conditions = [(row.corruption, row.severity) for row in self.corruptions.rows]
            names = dict.fromkeys(name for name, _ in conditions)
            severities = sorted({severity for _, severity in conditions})
            found |= {
                "corruptions": ", ".join(names),
                "severities": severities,
                "constants": self.corruptions.constants,
            }
        return found if self.attacks is None else found | self.attacks.settings


@dataclass(frozen=True, kw_only=True)
class RobustnessComparison:
    """Of A and B on the same images. Accuracies in [0, 1]; differences are B less A, their intervals paired by image."""

    name_a: str
    name_b: str
    data: str
    num_images: int
    rows: Mapping[str, PairedMeasure] = field(default_factory=dict)  # as they are, groups of corruptions, attacks
    by_corruption: Mapping[str, PairedMeasure] = field(default_factory=dict)  # means over the severities
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"RobustnessComparison({self.name_a!r}, {self.name_b!r}, num_images={self.num_images})"

    def _repr_html_(self) -> str:
        rows = [
            (name, f"{row.a:.1%}", f"{row.b:.1%}", f"{100 * row.difference:+.1f}", _interval_text(row.difference_ci95))
            for name, row in (*self.rows.items(), *self.by_corruption.items())
        ]
        return notebook.card(
            f"Robustness of A and B on the same {self.num_images:,} images of {self.data}",
            f"A: {self.name_a}; B: {self.name_b}",
            notebook.table(("", "A", "B", "B less A, points", "95% interval"), rows),
            *(notebook.paragraph(note, soft=True) for note in self.notes),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "format_version": 1,
            "a": self.name_a,
            "b": self.name_b,
            "data": self.data,
            "num_images": self.num_images,
            "rows": {name: row.to_dict() for name, row in self.rows.items()},
            "by_corruption": {name: row.to_dict() for name, row in self.by_corruption.items()},
            "notes": list(self.notes),
        }


def _interval_text(interval: Interval | None) -> str:
    return "" if interval is None else f"{100 * interval[0]:+.1f} to {100 * interval[1]:+.1f}"


def why_not_comparable(a: KeptResult, b: KeptResult) -> str | None:
    """What differs between the two, in words; None where they can be compared."""
    if a.data_digest != b.data_digest:
        return (
            f"A was measured on {plural(a.num_images, 'image')} of {a.data} and B on {plural(b.num_images, 'image')} of "
            f"{b.data}, and these are not the same images with the same labels"
        )
    of_a, of_b = a.settings, b.settings
    for name in {**of_a, **of_b}:
        if of_a.get(name) != of_b.get(name):
            return f"{name} differ: A has {of_a.get(name, 'none')}, B {of_b.get(name, 'none')}"
    return None


def compare_results(a: KeptResult, b: KeptResult, *, name_a: str, name_b: str) -> RobustnessComparison:
    """Of two results that `why_not_comparable` has nothing against. DataError where one is damaged."""
    notes: tuple[str, ...] = ()
    if a.image_size != b.image_size:
        sizes = " and ".join(f"{width} x {height} px" for height, width in (a.image_size, b.image_size))
        notes = (
            f"images are changed at the size of each network, here {sizes}: the same severity may be weaker on one",
        )
    try:
        rows = dict(_rows(a, b))
        by_corruption = dict(_by_corruption(a, b))
    except ValueError as error:
        raise DataError(f"a robustness.json is damaged ({error}). Run recog robustness again.") from None
    return RobustnessComparison(
        name_a=name_a,
        name_b=name_b,
        data=a.data,
        num_images=a.num_images,
        rows=rows,
        by_corruption=by_corruption,
        notes=notes,
    )


def _rows(a: KeptResult, b: KeptResult) -> Iterator[tuple[str, PairedMeasure]]:
    n = a.num_images
    if a.corruptions is not None and b.corruptions is not None:
        yield "as they are", _paired(n, [a.corruptions.clean.correct], [b.corruptions.clean.correct])
        for group, title in GROUPS.items():
            of_a, of_b = (
                [row.correct for row in side if row.group == group] for side in (a.corruptions.rows, b.corruptions.rows)
            )
            if of_a:
                yield title, _paired(n, of_a, of_b)
    if a.attacks is not None and b.attacks is not None:
        if a.corruptions is None:
            yield "as they are", _paired(n, [a.attacks.correct], [b.attacks.correct])
        yield "attacks", _paired(n, [a.attacks.correct_robust], [b.attacks.correct_robust])


def _by_corruption(a: KeptResult, b: KeptResult) -> Iterator[tuple[str, PairedMeasure]]:
    if a.corruptions is None or b.corruptions is None:
        return
    for name in dict.fromkeys(row.corruption for row in a.corruptions.rows if row.corruption != CLEAN):
        sides = (
            [row.correct for row in side.rows if row.corruption == name] for side in (a.corruptions, b.corruptions)
        )
        yield name, _paired(a.num_images, *sides)


def _paired(num_images: int, of_a: Sequence[str], of_b: Sequence[str]) -> PairedMeasure:
    """Mean accuracies over conditions. An image's answers under all of them belong together, and so do both sides' answers."""
    a, b = (np.stack([unpack_bits(bits, num_images) for bits in side]).mean(axis=0) for side in (of_a, of_b))
    interval: Interval | None
    if len(of_a) == 1 or (a == b).all():
        interval = paired_interval(int((a > b).sum()), int((b > a).sum()), num_images)
    else:
        interval = mean_interval(b - a)
    return PairedMeasure(a=float(a.mean()), b=float(b.mean()), difference_ci95=interval)
