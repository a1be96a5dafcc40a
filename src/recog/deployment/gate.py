"""The gate of an export: its agreement, size and speed beside the bundle, and whether it passes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from recog.core.errors import BundleError
from recog.core.text import plural
from recog.deployment.parity import MAX_PROB_DIFFERENCE, Parity, compare_engines
from recog.evaluation.results.comparison import Comparison, compare
from recog.evaluation.trust.calibration import Calibration
from recog.runtime.speed import Speed

GATE = "gate.json"
MIN_LABEL_AGREEMENT = 0.99
MAX_ACCURACY_LOSS = 0.005
Precision = Literal["float32", "bfloat16", "int8"]


@dataclass(frozen=True, kw_only=True)
class Gate:
    """Figures of an export on `num_images` labelled image files; A of `comparison` is the bundle, B the export."""

    target: str
    precision: Precision
    data: str  # which images, in words
    parity: Parity
    num_equal_labels: int
    comparison: Comparison
    num_other_pixels: int  # files that predict.py of the export decodes to other pixels than recog
    bundle_bytes: int  # of the ONNX file
    export_bytes: int  # of what runs the network
    speeds: Mapping[str, Mapping[int, Speed]]  # of 'bundle' and 'export', by batch size
    machine: Mapping[str, Any]

    @property
    def num_images(self) -> int:
        return self.parity.num_images

    @property
    def label_agreement(self) -> float:
        return self.num_equal_labels / self.num_images

    @property
    def problem(self) -> str:
        """Why the export is outside its tolerance; empty where it is inside."""
        if self.precision == "float32":
            return "" if self.parity.agrees else f"at most {MAX_PROB_DIFFERENCE:g} and equal labels are allowed"
        loss = -self.comparison.difference
        if loss >= MAX_ACCURACY_LOSS:
            return f"it loses {100 * loss:.2f} points of accuracy; less than {100 * MAX_ACCURACY_LOSS:g} are allowed"
        if self.label_agreement <= MIN_LABEL_AGREEMENT:
            return f"{self.label_agreement:.2%} of the labels are equal; more than {MIN_LABEL_AGREEMENT:.0%} are needed"
        return ""

    def check(self) -> None:
        """BundleError with the figures where the export is outside its tolerance."""
        if self.problem:
            raise BundleError(
                f"the {self.target} export is refused: {self.problem}. {self.figures()}. Nothing was written."
            )

    def figures(self) -> str:
        """The agreement in one sentence."""
        low, high = self.comparison.difference_ci95
        return (
            f"{plural(self.num_images, 'image')} ({self.data}): labels equal on {self.num_equal_labels:,}, probabilities differ "
            f"by at most {self.parity.max_prob_difference:.2g} and {self.parity.mean_prob_difference:.2g} on average, accuracy "
            f"{100 * self.comparison.difference:+.2f} points (paired 95% interval {100 * low:+.2f} to {100 * high:+.2f})"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        comparison = self.comparison.to_dict()
        return {
            "format_version": 1,
            "target": self.target,
            "precision": self.precision,
            "passed": not self.problem,
            "data": self.data,
            "num_images": self.num_images,
            "label_agreement": self.label_agreement,
            "num_equal_labels": self.num_equal_labels,
            "num_ties": self.parity.num_ties,
            "num_label_differences_without_ties": self.parity.num_label_differences,
            "max_prob_difference": self.parity.max_prob_difference,
            "mean_prob_difference": self.parity.mean_prob_difference,
            "bundle_accuracy": comparison["a"],
            "export_accuracy": comparison["b"],
            "accuracy_difference": self.comparison.difference,
            "accuracy_difference_ci95": list(self.comparison.difference_ci95),
            "num_other_pixels": self.num_other_pixels,
            "bundle_bytes": self.bundle_bytes,
            "export_bytes": self.export_bytes,
            "images_per_second": {
                side: {str(size): asdict(speed) for size, speed in by_size.items()}
                for side, by_size in self.speeds.items()
            },
            "machine": dict(self.machine),
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class Answered:
    """Images that both answered: `probs` float64 [N, K] of the bundle and of the export, and the `targets` of either task."""

    probs: tuple[NDArray[np.float64], NDArray[np.float64]]
    targets: NDArray[Any]
    names: Sequence[str]
    class_names: Sequence[str]


def judge(answered: Answered, calibration: Calibration) -> tuple[Parity, int, Comparison]:
    """(agreement of the probabilities, number of images with equal labels, accuracies) of the bundle and the export."""
    preds = calibration.preds(answered.probs[0]), calibration.preds(answered.probs[1])
    parity = compare_engines(*answered.probs, task=calibration.task, thresholds=calibration.threshold_values)
    comparison = compare(
        answered.probs, preds, answered.targets, class_names=answered.class_names, names=answered.names, max_changed=0
    )
    return parity, int((preds[0] == preds[1]).all(axis=1).sum()), comparison
