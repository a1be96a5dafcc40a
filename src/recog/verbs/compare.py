"""`recog compare`: two bundles on the same images, or by their robustness results, and in words whether one is better."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recog.bundle.manifest import find_bundle, run_of
from recog.core import notebook
from recog.core.errors import ConfigError, DataError
from recog.core.records import read_record
from recog.core.text import listing
from recog.data.data_layout import DETECTED, DataLayout
from recog.data.dataset import Dataset, Sample, describe_exclusions, targets_of
from recog.data.lists.label_format import AS_FOUND, LabelFormat
from recog.data.sources import Source
from recog.data.store import BadImagePolicy
from recog.evaluation.results.comparison import Comparison
from recog.evaluation.results.comparison import compare as compare_answers
from recog.perturbation.comparison import KeptResult, RobustnessComparison, compare_results, why_not_comparable
from recog.report.measure import sort_answers
from recog.runtime.prediction import Prediction
from recog.verbs.eligible import ChosenSamples, Side, choose_samples, open_as_trained, with_classes_of
from recog.verbs.robustness import ROBUSTNESS


@dataclass(frozen=True, kw_only=True)
class ComparisonRun:
    """A comparison, and what a reader must know of the images to trust it."""

    report: Comparison
    name_a: str
    name_b: str
    data: str
    split: str | None
    excluded: tuple[tuple[str, str], ...]  # (name, reason) of images that could not be used
    num_seen_by_a: int | None  # measured images that A trained, selected or calibrated with; None: not known
    num_seen_by_b: int | None
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        return f"ComparisonRun({self.name_a!r}, {self.name_b!r}, {self.report!r})"

    def _repr_html_(self) -> str:
        names = notebook.paragraph(f"A: {self.name_a}; B: {self.name_b}; data: {self.data}")
        notes = (notebook.paragraph(note, soft=True) for note in self.notes)
        return notebook.below(self.report._repr_html_(), names, *notes)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        table = self.report.to_dict()
        table["a"] = {"name": self.name_a, "num_seen_in_training": self.num_seen_by_a, **table["a"]}
        table["b"] = {"name": self.name_b, "num_seen_in_training": self.num_seen_by_b, **table["b"]}
        data = {
            "name": self.data,
            "split": self.split,
            "num_excluded": len(self.excluded),
            "excluded": [{"name": name, "reason": reason} for name, reason in self.excluded],
        }
        return {"format_version": table.pop("format_version"), "data": data, **table}


def compare(  # noqa: PLR0913  keywords of a public verb
    bundle_a: str | Path,
    bundle_b: str | Path,
    source: Source,
    *,
    split: str | None = None,
    bad_images: BadImagePolicy = "auto",
    labels: LabelFormat = AS_FOUND,
    layout: DataLayout = DETECTED,
    class_names: Sequence[str] | None = None,
    include_seen: bool = False,
) -> ComparisonRun:
    """Compare two bundles, run folders or runs' names on `source`, as for `evaluate`. Classes must be equal up to order.

    Of data with splits the test split is measured, unless `split` names another. Images that either run trained, selected or
    calibrated with are left out and counted, unless `include_seen`. `class_names`: as for `evaluate`.
    """
    a, b = Side.load(bundle_a), Side.load(bundle_b)
    order = _class_order(a.predictor.class_names, b.predictor.class_names)
    tasks = {side.predictor.manifest.task for side in (a, b)}
    if len(tasks) > 1:
        raise ConfigError(
            f"A is {a.predictor.manifest.task} and B {b.predictor.manifest.task}: one predicts one class per image, the other "
            "none to several labels. Compare two bundles of the same task, or measure each by recog evaluate."
        )
    dataset = open_as_trained(
        source, a.folder, a.predictor.manifest, labels=labels, layout=layout, class_names=class_names
    )
    dataset = with_classes_of(dataset, a.predictor.class_names)
    chosen = choose_samples(dataset, split, (a, b), include_seen=include_seen)
    samples = chosen.samples
    openings = [
        side.log_opening("compare", dataset, chosen.hashes) for side in {side.run: side for side in (a, b)}.values()
    ]
    sources = [sample.source for sample in samples]
    answers = [side.predictor.predict_each(sources) for side in (a, b)]
    good, (of_a, of_b), bad = sort_answers(dataset, samples, *answers, policy=bad_images)
    return ComparisonRun(
        report=_compare(dataset, good, of_a, of_b, order),
        name_a=str(bundle_a),
        name_b=str(bundle_b),
        data=dataset.name,
        split=chosen.split,
        excluded=tuple((error.name, error.reason) for error in bad),
        num_seen_by_a=_num_seen(a, dataset, chosen),
        num_seen_by_b=_num_seen(b, dataset, chosen),
        notes=(
            *chosen.notes,
            *describe_exclusions(dataset),
            *(opening.note for opening in openings if opening is not None and opening.note is not None),
        ),
    )


def _class_order(names_a: Sequence[str], names_b: Sequence[str]) -> list[int]:
    """Where each class of A stands in B; DataError with the names where one has a class that the other lacks."""
    only_a = [name for name in names_a if name not in names_b]
    only_b = [name for name in names_b if name not in names_a]
    if only_a or only_b:
        has = [f"only {who} has {listing(names, 10)}" for who, names in (("A", only_a), ("B", only_b)) if names]
        raise DataError(
            f"A has {len(names_a)} classes and B {len(names_b)}, and they differ: {'; '.join(has)}. "
            "Two bundles can be compared on the same classes only: train both on data with the same class names, or measure "
            "each by recog evaluate."
        )
    return [names_b.index(name) for name in names_a]


def _num_seen(side: Side, dataset: Dataset, chosen: ChosenSamples) -> int | None:
    counts = [side.count(role, dataset, chosen.hashes) for role in ("train", "val")]
    return None if None in counts else sum(count or 0 for count in counts)


def _compare(
    dataset: Dataset, samples: Sequence[Sample], a: Sequence[Prediction], b: Sequence[Prediction], order: Sequence[int]
) -> Comparison:
    """`order`: where each class of A stands in B."""
    return compare_answers(
        (np.stack([answer.probs for answer in a]), np.stack([answer.probs for answer in b])[:, order]),
        (np.stack([answer.preds for answer in a]), np.stack([answer.preds for answer in b])[:, order]),
        targets_of(samples, len(dataset.class_names), dataset.task),
        class_names=dataset.class_names,
        names=[sample.name for sample in samples],
    )


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
