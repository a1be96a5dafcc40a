"""The evaluation of one model on one set of images: `evaluate` -> `Report` -> `report.json`. Rates in [0, 1].

Everything that is counted comes from counts, when evaluating and when reading `report.json`, so a file whose numbers disagree
with its own counts is refused. What needs the probabilities is read and checked for its range.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

import numpy as np

from recog.core import notebook
from recog.core.task import Task
from recog.evaluation.measures.counts import (
    Hits,
    Interval,
    MeanMeasures,
)
from recog.evaluation.measures.resampling import Bootstrap
from recog.evaluation.results.facts import DataFacts, TrainingFacts, Trust
from recog.evaluation.results.report_format import FORMAT_VERSION
from recog.evaluation.results.rows import (
    ClassRow,
    ConfusionMatrix,
    Misclassified,
    Predictions,
    WrongLabels,
    data_frame,
    mean_of,
    none_if_nan,
)
from recog.evaluation.results.scores import ProbabilityBin, Scores
from recog.evaluation.results.slices import Slicing


@dataclass(frozen=True, kw_only=True)
class Report(ABC):
    """What is alike for one label per image and for several. An image is correct if exactly its classes are predicted."""

    task: ClassVar[Task]

    data: DataFacts
    calibration_method: str
    hits: Hits
    class_names: tuple[str, ...]
    macro: MeanMeasures
    weighted: MeanMeasures
    micro: MeanMeasures  # of one label per image the accuracy, three times
    classes: tuple[ClassRow, ...]
    bootstrap: Bootstrap
    errors: tuple[Any, ...]  # the worst first, at most as many as were asked for
    slices: tuple[Slicing, ...] = ()  # of the accuracy
    training: TrainingFacts | None = None  # None where it is not the report of a training run
    predictions: Predictions | None = field(default=None, compare=False)  # of each image; not part of report.json

    def __repr__(self) -> str:
        data = f"{self.data.name!r}, split={self.data.split!r}, num_images={self.num_images}"
        return f"{type(self).__name__}({data}, accuracy={self.accuracy:.4f})"

    @property
    def num_images(self) -> int:
        """Measured, so without the excluded."""
        return self.hits.num_images

    @property
    def num_found(self) -> int:
        """Images before exclusion: measured and excluded."""
        return self.num_images + len(self.data.excluded)

    @property
    def num_correct(self) -> int:
        return self.hits.num_correct

    @property
    def num_errors(self) -> int:
        """All of them; `errors` may hold fewer."""
        return self.num_images - self.num_correct

    @property
    def accuracy(self) -> float:
        """Of several labels: the subset accuracy."""
        return self.hits.accuracy

    @property
    def accuracy_ci95(self) -> Interval:
        """Wilson's."""
        return self.hits.accuracy_ci95

    @property
    def score(self) -> float | None:
        """The headline: the accuracy; of several labels the mAP."""
        return self.accuracy

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def absent_classes(self) -> tuple[str, ...]:
        """Classes without an image here: left out of the macro and weighted means."""
        return tuple(row.name for row in self.classes if row.support == 0)

    @property
    def auroc(self) -> float | None:
        """Macro mean over the classes where it is defined."""
        return mean_of([row.auroc for row in self.classes])

    @property
    def average_precision(self) -> float | None:
        """Macro mean over the classes where it is defined."""
        return mean_of([row.average_precision for row in self.classes])

    @property
    def num_ranked_classes(self) -> int:
        """Classes with an AUROC and an average precision: of some images and not of all."""
        return sum(row.auroc is not None for row in self.classes)

    def _repr_html_(self) -> str:
        split = f", {self.data.split_text}" if self.data.split else ""
        rows = [
            (name, value, "" if bounds is None else f"{bounds[0]:.1%} to {bounds[1]:.1%}")
            for name, value, bounds in self._headline()
        ]
        lowest = sorted((row for row in self.classes if row.f1 is not None), key=lambda row: row.f1 or 0.0)
        return notebook.card(
            f"{self.data.name}{split}",
            f"{self.num_images:,} images, {self.num_classes:,} classes",
            notebook.table(("", "", "95% interval"), rows),
            notebook.paragraph("Lowest F1", soft=True),
            notebook.bars((row.name, row.f1 or 0.0, f"{row.f1:.1%} of {row.support:,}") for row in lowest[:5]),
        )

    @abstractmethod
    def _headline(self) -> list[tuple[str, str, Interval | None]]:
        """(name, value, 95 % interval) of what a notebook shows."""

    def plot(self) -> Any:
        """A matplotlib Figure: confusion matrix, or F1 of the labels, and reliability. MissingExtraError without matplotlib."""
        return importlib.import_module("recog.report.plots").plot_report(self)

    def interval(self, metric: str) -> Interval | None:
        """The 95 % interval of a headline metric, by its name."""
        return self.accuracy_ci95 if metric == "accuracy" else self.bootstrap.intervals.get(metric)

    def to_dataframe(self) -> Any:
        """A pandas DataFrame with a row per class: support, precision, recall, F1 and so on, with their intervals."""
        table = [asdict(row) for row in self.classes]
        kept = [
            name for name in table[0] if name not in ("name", "threshold") or (name == "threshold" and table[0][name])
        ]
        return data_frame({name: [row[name] for row in table] for name in kept}, index=self.class_names)

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """`report.json`: plain JSON types, null where undefined."""

    def _head(self) -> dict[str, Any]:
        """The first keys of `report.json`."""
        data = asdict(self.data)
        excluded = [{"name": name, "reason": reason} for name, reason in data.pop("excluded")]
        counts = {"num_found": self.num_found, "num_excluded": len(excluded), "excluded": excluded}
        return {
            "format_version": FORMAT_VERSION,
            "evidence": "evaluation",
            "task": self.task,
            "data": {"name": data.pop("name"), "split": data.pop("split")} | counts | data,
        }

    def _means(self) -> dict[str, dict[str, float | None]]:
        means = {"macro": self.macro, "weighted": self.weighted, "micro": self.micro}
        return {name: {key: none_if_nan(value) for key, value in asdict(mean).items()} for name, mean in means.items()}

    def _tail(self) -> dict[str, Any]:
        return {
            "slices": [slicing.to_dict() for slicing in self.slices],
            "num_errors": self.num_errors,
            "errors": [_plain(asdict(error)) for error in self.errors],
            "training": self.training.to_dict() if self.training else None,
        }


@dataclass(frozen=True, kw_only=True, repr=False)
class MulticlassReport(Report):
    task = "multiclass"

    matthews: float | None
    scores: Scores  # what needs the probabilities
    confusion: tuple[tuple[int, ...], ...]  # row = true class, column = predicted class
    errors: tuple[Misclassified, ...]
    trust: Trust

    def _headline(self) -> list[tuple[str, str, Interval | None]]:
        return [
            ("Accuracy", f"{self.accuracy:.1%}", self.accuracy_ci95),
            ("Balanced accuracy", f"{self.balanced_accuracy:.1%}", self.interval("balanced_accuracy")),
            ("Macro F1", f"{self.macro.f1:.1%}", self.interval("macro_f1")),
            ("ECE", f"{self.ece:.1%}", self.interval("ece")),
        ]

    @property
    def confusion_matrix(self) -> ConfusionMatrix:
        """`confusion` by class names, and as an array."""
        return ConfusionMatrix(self.class_names, np.array(self.confusion, dtype=np.int64))

    @property
    def balanced_accuracy(self) -> float:
        """Mean recall of the classes present: Brodersen et al. (2010), ICPR; for K classes as in scikit-learn."""
        return self.macro.recall

    @property
    def top_k_accuracy(self) -> float | None:
        return self.scores.top_k.accuracy if self.scores.top_k else None

    def interval(self, metric: str) -> Interval | None:
        if metric == "top_k_accuracy" and self.scores.top_k:
            return self.scores.top_k.accuracy_ci95
        return super().interval(metric)

    @property
    def nll(self) -> float:
        """Mean negative log-likelihood in nats."""
        return self.scores.nll

    @property
    def brier(self) -> float:
        return self.scores.brier

    @property
    def ece(self) -> float:
        return self.scores.ece

    @property
    def num_absent_classes(self) -> int:
        return len(self.absent_classes)

    @property
    def never_predicted_classes(self) -> tuple[str, ...]:
        """Classes with images here, none of which any image was taken for."""
        return tuple(row.name for row in self.classes if row.support > 0 and row.num_predicted == 0)

    @property
    def largest_class_share(self) -> float:
        """The accuracy of always answering the most frequent class."""
        return max(row.support for row in self.classes) / self.num_images

    def to_dict(self) -> dict[str, Any]:
        tail = self._tail()
        return {
            **self._head(),
            "calibration_method": self.calibration_method,
            "trust": self.trust.to_dict(),
            "training": tail.pop("training"),
            "num_images": self.num_images,
            "num_classes": self.num_classes,
            "class_names": list(self.class_names),
            "accuracy": self.accuracy,
            "accuracy_ci95": list(self.accuracy_ci95),
            "balanced_accuracy": self.balanced_accuracy,
            "matthews": self.matthews,
            **self.scores.headline_dict(),
            "auroc": self.auroc,
            "average_precision": self.average_precision,
            "num_ranked_classes": self.num_ranked_classes,
            "bootstrap": self.bootstrap.to_dict("stratified by class; percentiles, for the ECE inverted test"),
            **self._means(),
            "num_absent_classes": self.num_absent_classes,
            "absent_classes": list(self.absent_classes),
            "never_predicted_classes": list(self.never_predicted_classes),
            "classes": [
                {key: value for key, value in _plain(asdict(row)).items() if key != "threshold"} for row in self.classes
            ],
            "confusion": [list(row) for row in self.confusion],
            **self.scores.curves_dict(),
            **tail,
        }


@dataclass(frozen=True, kw_only=True, repr=False)
class MultilabelReport(Report):
    task = "multilabel"

    thresholds_data: str  # the images that the thresholds were chosen on, in words
    micro_average_precision: float | None
    ranking_average_precision: float
    example_f1: float
    nll: float  # mean BCE per image and label, in nats
    brier: float  # mean per image and label
    ece: float
    nll_before: float  # both without the calibration
    ece_before: float
    reliability: tuple[ProbabilityBin, ...]
    weak_thresholds: tuple[str, ...]  # labels whose threshold was chosen on few images with it, or on none
    errors: tuple[WrongLabels, ...]
    calibration_reason: str = ""  # why the probabilities are calibrated by this method, or not at all

    def _headline(self) -> list[tuple[str, str, Interval | None]]:
        found = self.mean_average_precision
        return [
            ("mAP", "n/a" if found is None else f"{found:.1%}", self.interval("mean_average_precision")),
            ("Macro F1", f"{self.macro.f1:.1%}", self.interval("macro_f1")),
            ("Micro F1", f"{self.micro.f1:.1%}", self.interval("micro_f1")),
            ("All labels correct", f"{self.accuracy:.1%}", self.accuracy_ci95),
        ]

    @property
    def mean_average_precision(self) -> float | None:
        return self.average_precision

    @property
    def score(self) -> float | None:
        return self.mean_average_precision

    @property
    def hamming_loss(self) -> float:
        """Share of the pairs of an image and a label that are wrong; 0 is best. Schapire and Singer (1999)."""
        num_wrong = sum(row.num_predicted + row.support - 2 * row.num_correct for row in self.classes)
        return num_wrong / (self.num_images * self.num_classes)

    @property
    def labels_per_image(self) -> tuple[float, float]:
        """True and predicted, on average."""
        totals = (sum(row.support for row in self.classes), sum(row.num_predicted for row in self.classes))
        return totals[0] / self.num_images, totals[1] / self.num_images

    @property
    def chance_map(self) -> float | None:
        """The mAP of guessing: the mean share of the images that show a label, over the labels that have one."""
        return mean_of([row.support / self.num_images for row in self.classes if row.average_precision is not None])

    def to_dict(self) -> dict[str, Any]:
        tail, means = self._tail(), self._means()
        return {
            **self._head(),
            "num_classes": self.num_classes,
            "subset_accuracy": self.accuracy,
            "subset_accuracy_ci95": list(self.accuracy_ci95),
            "num_subset_correct": self.num_correct,
            "labels_per_image": self.labels_per_image[0],
            "labels_said_per_image": self.labels_per_image[1],
            "absent_labels": list(self.absent_classes),
            "num_ranked_labels": self.num_ranked_classes,
            **{name: means[name] for name in ("macro", "micro", "weighted")},
            "calibration_method": self.calibration_method,
            **({"calibration_reason": self.calibration_reason} if self.calibration_reason else {}),
            "thresholds_data": self.thresholds_data,
            "num_images": self.num_images,
            "class_names": list(self.class_names),
            "mean_average_precision": self.mean_average_precision,
            "micro_average_precision": self.micro_average_precision,
            "ranking_average_precision": self.ranking_average_precision,
            "hamming_loss": self.hamming_loss,
            "example_f1": self.example_f1,
            "auroc": self.auroc,
            "nll": self.nll,
            "brier": self.brier,
            "ece": self.ece,
            "nll_before": self.nll_before,
            "ece_before": self.ece_before,
            "labels": [_plain(asdict(row)) for row in self.classes],
            "reliability": [asdict(b) for b in self.reliability],
            "bootstrap": self.bootstrap.to_dict("whole images; percentiles, for the ECE inverted test"),
            "weak_thresholds": list(self.weak_thresholds),
            **{name: tail[name] for name in ("num_errors", "errors", "training", "slices")},
        }


def no_evidence(reason: str) -> dict[str, Any]:
    """`report.json` of a model that was not evaluated, with the reason."""
    return {"format_version": FORMAT_VERSION, "evidence": "none", "reason": reason}


def _plain(value: Any) -> Any:
    """Tuples as lists, at every depth."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
