"""What to do next, and the sentence that each section of the page begins with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from recog.core.task import Task
from recog.core.text import visible
from recog.evaluation.measures.counts import most_confused
from recog.evaluation.results.facts import SetEvidence
from recog.evaluation.results.report import MulticlassReport, MultilabelReport, Report
from recog.evaluation.results.rows import ClassRow
from recog.evaluation.results.slices import Slicing
from recog.evaluation.trust.conformal import ALPHAS
from recog.evaluation.trust.scaling import AS_REQUESTED, ScalingFit
from recog.report.charts import mean_confidence
from recog.report.page.facts import DataOverview, History, PageFacts
from recog.report.text import listing, percent, percent_range, plural

MAX_STEPS = 4
SURE = 0.9  # an error with this confidence may be a wrong label
FEW_IMAGES = 20  # of a class
LARGE_SETS = 1.5  # classes on average
CLEAR_GAP = 0.02  # between confidence and accuracy
WIDE_INTERVAL = 0.1


@dataclass(frozen=True, kw_only=True)
class Step:
    text: str
    command: str = ""


def next_steps(report: Report, facts: PageFacts) -> list[Step]:
    """What would help most, the most important first; the last is how to use the model."""
    steps = [*_unseen(report, facts), *_STEPS[report.task](report, facts), *_excluded(report)][: MAX_STEPS - 1]
    return [*steps, Step(text="Use it: classify new images.", command=f"recog predict {facts.run} photo.jpg")]


def _unseen(report: Report, facts: PageFacts) -> Iterator[Step]:
    data = report.data
    if data.is_cross_validated or data.num_seen_in_training or data.num_seen_in_selection:
        yield Step(
            text="Measure on images that had no part in training or model selection: the numbers here are optimistic.",
            command=f"recog evaluate {facts.run} FOLDER",
        )


def _excluded(report: Report) -> Iterator[Step]:
    if report.data.excluded:
        yield Step(
            text=f"Repair or remove what could not be used: {plural(len(report.data.excluded), 'file')}, listed below."
        )


def _class_steps(report: MulticlassReport, facts: PageFacts) -> Iterator[Step]:
    if report.accuracy_ci95[0] <= report.largest_class_share:
        yield Step(
            text="The accuracy is not clearly above always predicting the largest class: check that the labels are right, and "
            "train on more images or for longer."
        )
    sure = sum(error.confidence >= SURE for error in report.errors)
    if sure:
        yield Step(
            text=f"Check the labels of {plural(sure, 'image')} that the model gets wrong with a confidence of "
            f"{percent(SURE, 0)} or more, the first below. Wrong labels limit every model."
        )
    yield from _confused(report)
    yield from _few(report, "accuracy", "accuracy")
    yield from _review(report, facts)


def _confused(report: MulticlassReport) -> Iterator[Step]:
    pairs = most_confused(np.array(report.confusion), 1)
    if not pairs or pairs[0][2] < 2:
        return
    i, j, count = pairs[0]
    truth, predicted = report.classes[i], report.classes[j]
    yield Step(
        text=f"Add training images of {visible(truth.name)} and {visible(predicted.name)} that look alike: {count:,} of "
        f"{truth.support:,} {visible(truth.name)} are predicted as {visible(predicted.name)}, the most frequent confusion."
    )


def _few(report: Report, name: str, metric: str) -> Iterator[Step]:
    interval = report.interval(metric)
    if interval is not None and interval[1] - interval[0] > WIDE_INTERVAL:
        yield Step(
            text=f"Measure on more images: with {report.num_images:,} the {name} is known to "
            f"{percent_range(interval)} only. Four times as many images halve this range."
        )


def _review(report: MulticlassReport, facts: PageFacts) -> Iterator[Step]:
    """The lowest threshold that at least halves the error rate and leaves most images automated."""
    rate = report.num_errors / report.num_images
    cut = next(
        (
            cut
            for cut in report.scores.thresholds
            if cut.confidence and cut.share >= 0.5 and cut.error_rate is not None and cut.error_rate <= rate / 2 < rate
        ),
        None,
    )
    if cut is not None:
        yield Step(
            text=f"To make fewer errors, leave images below a confidence of {percent(cut.confidence, 0)} to a person: "
            f"that answers {percent(cut.share)} of the images here, with {percent(cut.error_rate)} errors instead of "
            f"{percent(rate)}.",
            command=f"recog predict {facts.run} FOLDER --min-confidence {cut.confidence:g}",
        )


def _label_steps(report: MultilabelReport, facts: PageFacts) -> Iterator[Step]:
    sure = sum(error.worst_surprise >= SURE for error in report.errors)
    if sure:
        yield Step(text=f"Check the labels of {plural(sure, 'image')} that surprise the model most, the first below.")
    if report.weak_thresholds:
        yield Step(
            text=f"Add images of {listing(report.weak_thresholds, 3)}: their thresholds were chosen on few images."
        )
    yield from _few(report, "mAP", "mean_average_precision")


_STEPS: Mapping[Task, Callable[[Any, PageFacts], Iterator[Step]]] = MappingProxyType(
    {"multiclass": _class_steps, "multilabel": _label_steps}
)


def conclusions(report: Report, facts: PageFacts) -> dict[str, str]:
    """What to conclude from each section, by the section's id."""
    found = {
        "errors": _of_errors(report),
        "uncertain": "The images nearest to another answer. Similar training images, or clearer labels, help here most.",
        "classes": _of_classes(report),
        "data": "" if facts.data is None else _of_data(facts.data),
        "training": _of_training(facts.history, report),
        "provenance": _of_provenance(facts),
        "slices": _of_slices(report.slices, report.accuracy) if report.slices else "",
        "speed": ". ".join(f"{name}: {value}" for name, value in facts.speed[:2]),
        "reproduce": "These commands repeat the training and the measurement.",
        "openings": _of_openings(facts.num_openings),
        "metrics": "Other measures of the same predictions, for comparison with other work.",
        "terms": "The words of this page, explained.",
    }
    return found | _CONCLUSIONS[report.task](report)


def _of_errors(report: Report) -> str:
    if not report.num_errors:
        return "No image was answered wrongly."
    return (
        f"{plural(report.num_errors, 'image')} of {report.num_images:,} {'is' if report.num_errors == 1 else 'are'} wrong. "
        "The first ones, where the model is most confident, may be labelling mistakes."
    )


def _of_classes(report: Report) -> str:
    rows: list[ClassRow] = sorted((row for row in report.classes if row.support), key=lambda row: row.f1 or 0.0)
    if len(rows) < 2:
        return ""
    low, high = rows[0], rows[-1]
    if low.f1 == high.f1:
        return f"F1 is {percent(low.f1)} for every class."
    return f"F1 is lowest for {visible(low.name)} ({percent(low.f1)}) and highest for {visible(high.name)} ({percent(high.f1)})."


def _of_data(data: DataOverview) -> str:
    counts = ", ".join(f"{split} {count:,}" for split, count in zip(data.splits, data.num_images, strict=True))
    totals = [sum(row.counts) for row in data.classes]
    ratio = max(totals) / max(1, min(totals))
    balance = (
        "the classes are about equally large" if ratio < 1.5 else f"the largest has {ratio:.3g} times the smallest"
    )
    wrong = "no file was left out" if not data.excluded else f"{plural(len(data.excluded), 'file')} left out"
    return f"{plural(len(data.classes), 'class', 'classes')}, images: {counts}; {balance}; {wrong}."


def _of_training(history: History, report: Report) -> str:
    facts = report.training
    if facts is None:
        return ""
    if history.epochs and facts.num_epochs:
        last = history.epochs[-1]
        best = next((row for row in history.epochs if row.epoch == facts.best_epoch), None)
        if best is None:
            return "No epoch was better on the validation split than the weights that training began with."
        if best is last:
            return f"The last epoch, {last.epoch:,}, was the best on the validation split: more epochs may help."
        return f"Epoch {best.epoch:,} of {last.epoch:,} was the best on the validation split; its weights are used."
    if history.heads:
        return f"{plural(len(history.heads), 'last layer')} tried on the features of the network; the best one is used."
    return f"Trained with recipe {facts.recipe} on {plural(facts.num_images, 'image')}."


def _of_provenance(facts: PageFacts) -> str:
    table = dict(facts.provenance)
    parts = [f"{table[name]}" for name in ("Network", "Data") if name in table]
    when = f", {table['Finished']}" if "Finished" in table else ""
    return f"{' on '.join(parts)}{when}." if parts else ""


def _of_slices(slicings: tuple[Slicing, ...], accuracy: float) -> str:
    parts = [(slicing.by, part) for slicing in slicings for part in slicing.slices]
    below = [(by, part) for by, part in parts if part.accuracy_ci95[1] < accuracy and not part.is_small]
    if not below:
        return "No part of the images is clearly below the accuracy of all."
    by, worst = min(below, key=lambda item: item[1].accuracy)
    return (
        f"{plural(len(below), 'part')} clearly below the accuracy of all; the lowest: {visible(by)} {visible(worst.name)}, "
        f"{percent(worst.accuracy)}."
    )


def _of_openings(number: int | None) -> str:
    if number is None:
        return ""
    if number == 1:
        return "The test split was used once, for this report, so that nothing was chosen by it."
    return f"The test split was used {number:,} times; choices made after looking at it bias these numbers upwards."


def _class_conclusions(report: MulticlassReport) -> dict[str, str]:
    pairs = most_confused(np.array(report.confusion), 1)
    confusion = "No image is taken for another class."
    if pairs:
        i, j, count = pairs[0]
        truth, predicted = report.classes[i], report.classes[j]
        confusion = (
            f"Most frequent confusion: {visible(truth.name)} predicted as {visible(predicted.name)}, {count:,} of "
            f"{truth.support:,}. Select a number to see its images."
        )
    bins = report.scores.reliability
    confidence = ""
    if bins:
        mean, (low, high) = mean_confidence(bins), report.accuracy_ci95
        verdict = "the model is overconfident" if mean > report.accuracy else "the model is underconfident"
        if abs(mean - report.accuracy) <= CLEAR_GAP:
            verdict = "they agree"
        elif low <= mean <= high:
            verdict = "too few images to tell them apart"
        confidence = f"Mean confidence {percent(mean)}, accuracy {percent(report.accuracy)}: {verdict}."
    return {"confusion": confusion, "confidence": confidence} | _trust_conclusions(report)


def _why_uncalibrated(fit: ScalingFit | None) -> str:
    if fit is None or fit.reason == AS_REQUESTED:
        return "; no calibration was fitted"
    return f": calibration was left out, as {fit.reason}"


def _why_large(sets: SetEvidence, accuracy: float) -> str:
    """A sentence on sets of several classes; empty for sets of one."""
    if sets.mean_size < LARGE_SETS:
        return ""
    if accuracy >= 1 - sets.alpha:
        return (
            f" They are large because {percent(1 - sets.alpha)} is promised and some of the images that they are fitted to have "
            "labels that the model finds improbable: look for wrong labels (recog scan DATA --deep)."
        )
    lower = next((alpha for alpha in ALPHAS if alpha > sets.alpha), None)
    rate = "" if lower is None else f", or a lower rate (--set calibration.alpha={lower:g}),"
    return (
        f" They are large because {percent(1 - sets.alpha)} is promised and the most probable class is right for "
        f"{percent(accuracy)}: a better model{rate} makes them smaller."
    )


def _trust_conclusions(report: MulticlassReport) -> dict[str, str]:
    trust, found = report.trust, {}
    change = f"NLL {trust.scaling.nll_before:.3f} before, {report.nll:.3f} after"
    if report.nll > trust.scaling.nll_before:
        change += f": worse on these {plural(report.num_images, 'image')}; other images chose it"
    found["Calibration"] = {
        "none": f"The probabilities are the network's own{_why_uncalibrated(trust.scaling.fit)}.",
        "temperature": f"One temperature for all classes; {change}.",
        "vector": f"A factor and an offset per class; {change}.",
    }[report.calibration_method]
    if (sets := trust.sets) is not None:
        found["Prediction sets"] = (
            f"The sets contain the true class for {percent(sets.coverage)} of {plural(sets.num_images, 'image')} (95% interval "
            f"{percent_range(sets.coverage_ci95)}; promised: {percent(1 - sets.alpha)}) and have {sets.mean_size:.2f} classes "
            f"on average.{_why_large(sets, report.accuracy)}"
        )
    if (unknown := trust.unknown) is not None:
        found["Unknown images"] = (
            f"{percent(unknown.reject_rate)} of {plural(unknown.num_images, 'image')} (95% interval "
            f"{percent_range(unknown.reject_rate_ci95)}), all of known classes, would be answered unknown; the threshold "
            f"allows {percent(unknown.rule.false_alarm_rate)} of the calibration images."
        )
    return found


def _label_conclusions(report: MultilabelReport) -> dict[str, str]:
    change = "" if report.calibration_method == "none" else f"; before calibration {percent(report.ece_before)}"
    return {"confidence": f"Probability and frequency differ by {percent(report.ece)} on average (ECE{change})."}


_CONCLUSIONS: Mapping[Task, Callable[[Any], dict[str, str]]] = MappingProxyType(
    {"multiclass": _class_conclusions, "multilabel": _label_conclusions}
)
