"""The format of `report.json`: its version, and the check of its numbers against those that follow from its counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, make_dataclass
from math import inf, isclose
from typing import Any, Protocol, TypeVar

from recog.core.errors import BundleError, DataError
from recog.core.records import check_values, convert_record
from recog.evaluation.measures.counts import Interval
from recog.evaluation.measures.resampling import CLASS_MEASURES, Bootstrap
from recog.evaluation.results.rows import ClassRow

FORMAT_VERSION = 1
_RANGES = {"matthews": (-1.0, 1.0), "nll": (0.0, inf), "brier": (0.0, 2.0)}  # of every other measure: 0 to 1


class _Written(Protocol):
    def to_dict(self) -> dict[str, Any]: ...


_Report = TypeVar("_Report", bound=_Written)


def check_header(table: Mapping[str, Any]) -> None:
    """BundleError unless `table` is an evaluation of a version known here."""
    version = table.get("format_version")
    if not isinstance(version, int) or version < 1:
        raise BundleError("report.json has no format_version; it is damaged or was not written by recog.")
    if version > FORMAT_VERSION:
        raise BundleError(
            f"report.json has format_version {version}; this release reads up to {FORMAT_VERSION}. "
            "A newer release of recog wrote it: install that version or newer."
        )
    if table.get("evidence") != "evaluation":
        raise BundleError(f"report.json holds no evaluation: {table.get('reason', 'no reason is given')}")


def parse_checked(table: Mapping[str, Any], parse: Callable[[Mapping[str, Any]], _Report]) -> _Report:
    """The report that `parse` makes of a `report.json`; a BundleError where it is no evaluation, newer, damaged or inconsistent.

    What follows from the counts is made again, and must equal the file's values.
    """
    check_header(table)
    check_values(table, where="report.json")
    try:
        report = parse(table)
        derived = report.to_dict()
    except (ValueError, ArithmeticError, DataError) as error:
        raise BundleError(f"report.json is damaged: {error}") from None
    for key, value in derived.items():
        if not agree(table.get(key), value):
            raise BundleError(
                f"report.json disagrees with itself: its '{key}' does not follow from its counts. "
                "It was changed after it was written; evaluate again."
            )
    return report


def agree(read: Any, derived: Any) -> bool:
    """Equal, floating numbers to 1e-9, since another machine's NumPy may add up in another order."""
    if isinstance(derived, Mapping):
        return isinstance(read, Mapping) and all(agree(read.get(key), derived[key]) for key in derived)
    if isinstance(derived, list):
        return isinstance(read, list) and len(read) == len(derived) and all(map(agree, read, derived))
    if isinstance(derived, float) and isinstance(read, (int, float)):
        return isclose(read, derived, rel_tol=1e-9, abs_tol=1e-9)
    return bool(read == derived)


def in_range(value: float, key: str, measure: str | None = None) -> float:
    """`value` where it is within the range of `measure`, or of the measure `key`; else ValueError."""
    low, high = _RANGES.get(measure or key, (0.0, 1.0))
    if not low - 1e-9 <= value <= high + 1e-9:  # NaN neither
        raise ValueError(f"'{key}' is {value}; it must lie between {low:g} and {high:g}.")
    return value


@dataclass(frozen=True, kw_only=True)
class _Resampling:
    num_resamples: int
    seed: int


def parse_bootstrap(table: object, rows: Sequence[ClassRow], measures: Sequence[str]) -> Bootstrap:
    """From `report.json`: the table that `to_dict` gave, and the classes' rows.

    BundleError where a number is missing or of another type, ValueError where it is out of range.
    """
    where = "report.json: bootstrap"
    resampling = convert_record(table, _Resampling, where=where)
    keys = {name: f"{name}_ci95" for name in measures}
    fields = [(key, Interval | None) for key in keys.values()]
    bounds: Any = convert_record(table, make_dataclass("_Intervals", fields, frozen=True, kw_only=True), where=where)
    return Bootstrap(
        num_resamples=resampling.num_resamples,
        seed=resampling.seed,
        intervals={name: _checked(getattr(bounds, key), name) for name, key in keys.items()},
        class_intervals={
            name: tuple(_checked(getattr(row, f"{name}_ci95"), name) for row in rows) for name in CLASS_MEASURES
        },
    )


def _checked(bounds: Interval | None, measure: str) -> Interval | None:
    key = f"{measure}_ci95"
    if bounds is None:
        return None
    low, high = (in_range(bound, key, measure) for bound in bounds)
    if low > high:
        raise ValueError(f"'{key}' is {[low, high]}; expected its lower and its upper bound.")
    return low, high
