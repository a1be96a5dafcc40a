"""`recog compare --robustness`: the results that `recog robustness` left in two runs."""

from __future__ import annotations

import shlex
from pathlib import Path

from recog.bundle.locate import find_bundle, run_of
from recog.core.errors import ConfigError, DataError
from recog.core.records import read_record
from recog.perturbation.comparison import KeptResult, RobustnessComparison, compare_results, why_not_comparable
from recog.verbs.robustness import ROBUSTNESS


def compare_robustness(bundle_a: str | Path, bundle_b: str | Path) -> RobustnessComparison:
    """Compare what `recog robustness` has measured of two runs, by their folders or names, image by image.

    Of several results, the newest two of the same images and settings. ConfigError or DataError where there are none, with the
    reason.
    """
    results_a, results_b = _results(bundle_a, "A"), _results(bundle_b, "B")
    for a in results_a:
        for b in results_b:
            if why_not_comparable(a, b) is None:
                return compare_results(a, b, name_a=str(bundle_a), name_b=str(bundle_b))
    reason = why_not_comparable(results_a[0], results_b[0])
    raise DataError(
        f"the robustness of A and B cannot be compared: {reason}. Run recog robustness on both with the same data and options."
    )


def _results(bundle: str | Path, side: str) -> list[KeptResult]:
    """The newest first."""
    run = run_of(find_bundle(bundle))
    if run is None:
        raise ConfigError(
            f"{side}, {bundle}, is a bundle outside a run's folder, where robustness is kept; name its run."
        )
    files = sorted((run / ROBUSTNESS).glob("*/robustness.json"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
    if not files:
        raise DataError(f"{side} has no robustness yet; measure it: recog robustness {shlex.quote(str(bundle))} DATA")
    return [read_record(path, KeptResult, error=DataError) for path in files]
