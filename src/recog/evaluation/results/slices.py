"""Accuracy on parts of the images, the worst first: a good mean may hide small, dark or foreign images that fail."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recog.core.errors import DataError
from recog.core.records import convert_record
from recog.evaluation.measures.counts import Hits

SMALL_SLICE = 10  # images; below, slices by a number are merged, and slices by a name are marked
NOT_STATED = "(not stated)"
_NUM_SLICES = 4


@dataclass(frozen=True, kw_only=True)
class Slice(Hits):
    name: str

    @property
    def is_small(self) -> bool:
        return self.num_images < SMALL_SLICE

    def to_dict(self) -> dict[str, Any]:
        derived = {"accuracy": self.accuracy, "accuracy_ci95": list(self.accuracy_ci95), "is_small": self.is_small}
        return asdict(self) | derived


@dataclass(frozen=True, kw_only=True)
class Slicing:
    """All measured images, each in one slice; the slices from the worst on."""

    by: str
    slices: tuple[Slice, ...]

    def to_dict(self) -> dict[str, Any]:
        return {"by": self.by, "slices": [part.to_dict() for part in self.slices]}


def slice_by_value(by: str, values: NDArray[np.float64], is_correct: NDArray[np.bool_], *, unit: str = "") -> Slicing:
    """Up to four slices of about equally many images by `values` float64 [N], from `is_correct` bool [N].

    Equal values share a slice; slices under SMALL_SLICE images are merged with a neighbour while more than two are left.
    Images without a value (NaN) are a slice of their own. DataError where all values are equal.
    """
    is_known = ~np.isnan(values)
    if not is_known.all():
        known = slice_by_value(by, values[is_known], is_correct[is_known], unit=unit)
        return Slicing(by=by, slices=_worst_first([*known.slices, _slice(NOT_STATED, is_correct[~is_known])]))
    distinct = np.unique(values)
    if len(distinct) < 2:
        raise DataError(
            f"all {len(values)} images have the same {by}, {_number(distinct[0], unit)}; slicing needs images that differ. "
            f"Leave --slice {by} out."
        )
    quantiles = np.quantile(values, np.arange(1, _NUM_SLICES) / _NUM_SLICES, method="inverted_cdf")
    edges = [edge for edge in np.unique(quantiles) if edge < distinct[-1]] or [distinct[-2]]
    places = np.searchsorted(edges, values, side="left")
    bins = [np.flatnonzero(places == place) for place in np.unique(places)]
    while len(bins) > 2 and min(map(len, bins)) < SMALL_SLICE:
        _merge_smallest(bins)
    parts = (_slice(_span(values[part], unit), is_correct[part]) for part in bins)
    return Slicing(by=by, slices=_worst_first(parts))


def slice_by_name(by: str, names: Sequence[str], is_correct: NDArray[np.bool_]) -> Slicing:
    """One slice for each of the N `names`; DataError where there is only one."""
    order = sorted(range(len(names)), key=lambda i: names[i])
    parts = [_slice(name, is_correct[list(rows)]) for name, rows in groupby(order, key=lambda i: names[i])]
    if len(parts) < 2:
        raise DataError(
            f"all {len(names)} images have the same {by}, '{parts[0].name}'; slicing needs images that differ. "
            f"Leave --slice {by} out."
        )
    return Slicing(by=by, slices=_worst_first(parts))


def parse_slicing(table: object, num_images: int, num_correct: int) -> Slicing:
    """From `report.json`; BundleError where it is no slicing, ValueError where the slices do not hold every image once."""
    slicing = convert_record(table, Slicing, where="report.json: slices")
    parts, by = slicing.slices, slicing.by
    if any(not 0 <= part.num_correct <= part.num_images or part.num_images == 0 for part in parts):
        raise ValueError(f"a slice by {by} has impossible counts.")
    if sum(part.num_images for part in parts) != num_images or sum(part.num_correct for part in parts) != num_correct:
        raise ValueError(f"the slices by {by} do not hold every image once.")
    return Slicing(by=by, slices=_worst_first(parts))


def _slice(name: str, is_correct: NDArray[np.bool_]) -> Slice:
    return Slice(name=name, num_images=len(is_correct), num_correct=int(is_correct.sum()))


def _span(values: NDArray[np.float64], unit: str) -> str:
    low, high = _number(values.min(), unit), _number(values.max(), unit)
    return low if low == high else f"{low.removesuffix(unit).rstrip()} to {high}"


def _number(value: float, unit: str) -> str:
    """Whole with a unit, which is fine enough then; else as many digits as six."""
    return f"{value:,.0f} {unit}" if unit else f"{value:,.6g}"


def _merge_smallest(bins: list[NDArray[np.int64]]) -> None:
    """Merge the smallest bin with its smaller neighbour, in place."""
    i = min(range(len(bins)), key=lambda i: len(bins[i]))
    neighbours = [j for j in (i - 1, i + 1) if 0 <= j < len(bins)]
    j = min(neighbours, key=lambda j: len(bins[j]))
    first, second = sorted((i, j))
    bins[first : second + 1] = [np.concatenate([bins[first], bins[second]])]


def _worst_first(parts: Iterable[Slice]) -> tuple[Slice, ...]:
    return tuple(sorted(parts, key=lambda part: (part.accuracy, -part.num_images, part.name)))
