"""`report.html`: the evaluation as a single file without fonts or network access; and what its terms mean.

Class and file names are untrusted. Jinja2 escapes them, `visible` escapes characters that hide or reverse
text, and the Content-Security-Policy of the page allows one style sheet and one script, by hash, and embedded images.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from itertools import count
from math import isnan, log
from types import MappingProxyType
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup, escape

from recog.core.errors import DataError
from recog.core.task import Task
from recog.core.text import visible
from recog.evaluation.measures.counts import most_confused
from recog.evaluation.measures.task import TASK_MEASURES
from recog.evaluation.results.report import MulticlassReport, MultilabelReport, Report
from recog.evaluation.results.rows import ClassRow
from recog.report.charts import (
    MAX_TABLE_CLASSES,
    curve_charts,
    matrix_cells,
    matrix_shadings,
    mean_confidence,
    probability_marks,
    reliability_marks,
    risk_curve,
    tick_positions,
)
from recog.report.notes import notes, notes_on_data, warnings_first
from recog.report.page.advice import conclusions, next_steps
from recog.report.page.facts import HeadRow, PageFacts
from recog.report.page.gallery import MAX_ERRORS_SHOWN, Gallery
from recog.report.pictures import DATA_URI
from recog.report.sections import metric_rows, training_sections, trust_sections
from recog.report.text import number_range, percent, percent_range, plural

MAX_PAIRS = 10
MAX_SLICES = 10  # of each slicing; the others are folded
NUM_WEAKEST = 10
NUM_FIRST_ERRORS = 24  # the others are folded
MAX_DATA_CLASSES = 100  # rows of the table of the data
MAX_EXCLUDED = 200
_NO_FACTS, _NO_GALLERY = PageFacts(), Gallery()


def render_html(report: Report, gallery: Gallery = _NO_GALLERY, facts: PageFacts = _NO_FACTS) -> str:
    """The page of `report`, with the pictures and the facts that are known."""
    for name, uri in gallery.pictures.items():
        if not DATA_URI.fullmatch(uri):
            raise DataError(
                f"the thumbnail of {name!r} is not a PNG or JPEG data URI; create it with thumbnail(image)."
            )
    template, view = _VIEWS[report.task]
    measures = TASK_MEASURES[report.task]
    said = conclusions(report, facts)
    heads = facts.history.heads
    page_notes = warnings_first([*notes(report), *notes_on_data(facts.data.remarks if facts.data else ())])
    training = training_sections(report.training)
    sections = trust_sections(report)
    return render_page(
        (template, "page.html.j2"),
        title=f"{report.data.name}: {_headline(report)}",
        report=report,
        facts=facts,
        gallery=gallery,
        gallery_json=_island(report, gallery) if gallery.cells else "",
        strip_of=dict(gallery.strip),
        largest=[]
        if facts.data is None
        else sorted(facts.data.classes, key=lambda row: -sum(row.counts))[:MAX_DATA_CLASSES],
        thing=measures.thing,
        things=measures.things,
        said=said,
        steps=next_steps(report, facts),
        notes=page_notes,
        errors=[(error, gallery.pictures.get(error.name)) for error in report.errors[:MAX_ERRORS_SHOWN]],
        num_first=NUM_FIRST_ERRORS,
        curves=curve_charts(facts.history.epochs, 0 if report.training is None else report.training.best_epoch),
        best_head=_best_head(heads, report),
        metrics=metric_rows(report),
        training=training,
        sections=sections,
        contents=_contents(report, facts, gallery),
        max_slices=MAX_SLICES,
        max_excluded=MAX_EXCLUDED,
        max_data_classes=MAX_DATA_CLASSES,
        script=_read("report.js"),
        script_sha256=csp_hash(_read("report.js")),
        terms=TERMS,
        **view(report),
    )


def _headline(report: Report) -> str:
    return _HEADLINES[report.task](report)


_HEADLINES: Mapping[Task, Callable[[Any], str]] = MappingProxyType(
    {
        "multiclass": lambda report: f"{percent(report.accuracy)} accuracy",
        "multilabel": lambda report: f"mAP {percent(report.mean_average_precision)}",
    }
)


_CONFUSIONS: Mapping[Task, Callable[[Any], np.ndarray[Any, Any]]] = MappingProxyType(
    {"multiclass": lambda report: np.array(report.confusion), "multilabel": lambda report: np.zeros((0, 0))}
)


def _best_head(heads: Sequence[HeadRow], report: Report) -> int:
    """The index of the head that is used, as HeadLog.is_best: the lowest product of error rate and NLL; -1 of none."""
    if not heads:
        return -1
    scores = [(1 - row.score[1]) * row.val_nll for row in heads]
    return int(np.argmin(scores))


def _contents(report: Report, facts: PageFacts, gallery: Gallery) -> list[tuple[str, str]]:
    """(id, name) of the sections that are on the page, in its order."""
    found = [
        ("errors", "Errors", True),
        ("uncertain", "Least certain", bool(gallery.uncertain)),
        ("confusion", "Confusion matrix", bool(_CONFUSIONS[report.task](report).size)),
        ("classes", TASK_MEASURES[report.task].things.capitalize(), True),
        ("data", "Data", facts.data is not None),
        ("training", "Training", report.training is not None or bool(facts.history.heads)),
        ("provenance", "Origin", bool(facts.provenance)),
        ("confidence", "Confidence", True),
        *((f"trust-{i}", section.title, True) for i, section in enumerate(trust_sections(report), 1)),
        ("slices", "Slices", bool(report.slices)),
        ("metrics", "Other metrics", True),
        ("speed", "Speed", bool(facts.speed)),
        ("reproduce", "Reproduce", bool(facts.commands)),
        ("terms", "Terms", True),
    ]
    return [(id_, name) for id_, name, is_there in found if is_there]


def _island(report: Report, gallery: Gallery) -> str:
    """The JSON that the script reads: class names, the images behind each cell, and their pictures."""
    counts = _CONFUSIONS[report.task](report)
    cells = {
        f"{i},{j}": {
            "count": int(counts[i, j]),
            "images": [[visible(image.name), percent(image.confidence)] for image in images],
        }
        for (i, j), images in gallery.cells.items()
    }
    on_page = {error.name for error in report.errors[:MAX_ERRORS_SHOWN]} | {image.name for image in gallery.uncertain}
    names = {image.name for images in gallery.cells.values() for image in images} - on_page
    table = {
        "classes": [visible(name) for name in report.class_names],
        "cells": cells,
        "images": {visible(name): uri for name, uri in gallery.pictures.items() if name in names},
    }
    return json.dumps(table, ensure_ascii=True, separators=(",", ":")).replace("<", "\\u003c")


def _class_view(report: MulticlassReport) -> dict[str, Any]:
    is_small = report.num_classes <= MAX_TABLE_CLASSES
    bins = report.scores.reliability
    return {
        "uniform_nll": log(report.num_classes),
        "indexed_classes": list(enumerate(report.classes)),
        "weakest": None if is_small else _weakest(report),
        "longest_name": max(map(len, report.class_names)),
        "cells": matrix_cells(report) if is_small else None,
        "shadings": None if is_small else matrix_shadings(report),
        "ticks": tick_positions(report.num_classes),
        "pairs": _confused_pairs(report),
        "bins": reliability_marks(bins) if bins else None,
        "mean_confidence": mean_confidence(bins) if bins else None,
        "curve": risk_curve(report),
    }


def _label_view(report: MultilabelReport) -> dict[str, Any]:
    ranked = [(i, row) for i, row in enumerate(report.classes) if row.average_precision is not None]
    ranked.sort(key=lambda item: item[1].average_precision or 0.0)
    return {
        "indexed": list(enumerate(report.classes)),
        "weakest": None if report.num_classes <= MAX_TABLE_CLASSES else ranked[:NUM_WEAKEST],
        "means": [("Macro mean", report.macro), ("Micro mean", report.micro), ("Weighted mean", report.weighted)],
        "bins": probability_marks(report.reliability),
    }


_VIEWS: Mapping[Task, tuple[str, Callable[[Any], dict[str, Any]]]] = MappingProxyType(
    {"multiclass": ("multiclass.html.j2", _class_view), "multilabel": ("multilabel.html.j2", _label_view)}
)


def _weakest(report: MulticlassReport) -> list[tuple[int, ClassRow]]:
    """The classes with images that have the lowest F1, then the lowest recall."""
    present = [(i, row) for i, row in enumerate(report.classes) if row.support]
    return sorted(present, key=lambda item: (item[1].f1, item[1].recall))[:NUM_WEAKEST]


def _confused_pairs(report: MulticlassReport) -> list[tuple[int, int, int]]:
    """(true class, predicted class, count), most frequent first."""
    limit = MAX_PAIRS if report.num_classes > 8 else MAX_PAIRS // 2  # a small matrix needs no longer list
    return most_confused(np.array(report.confusion), limit)


def render_page(names: Sequence[str], **view: Any) -> str:
    """The templates `names` one after another, filled in: escaped, with the style sheet of the report and the macros."""
    css = _read("report.css")
    source = "".join(map(_read, ("macros.html.j2", *names)))
    view = {"script_sha256": "", **view}
    return _template(source).render(css=css, css_sha256=csp_hash(css), term=term_marker(), **view)


def csp_hash(text: str) -> str:
    """The hash of an inline style or script as a Content Security Policy wants it: sha256 in base 64."""
    return base64.b64encode(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()).decode("ascii")


@cache
def _template(source: str) -> jinja2.Template:
    return page_environment().from_string(source)


@cache
def page_environment() -> jinja2.Environment:
    """The settings and filters of every page: escaped, no undefined name, foreign text made visible."""
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: visible(value) if type(value) is str else value,
    )
    environment.filters.update(
        percent=percent,
        percent_range=lambda interval: interval and percent_range(interval, dash="\N{EN DASH}"),
        defined_or_none=lambda value: None if isnan(value) else value,
        px=lambda value: f"{value:.1f}",
        number_range=lambda interval: interval and number_range(interval, dash="\N{EN DASH}"),
        plural=plural,
    )
    return environment


@cache
def _read(name: str) -> str:
    return files("recog.report").joinpath("templates", name).read_text(encoding="utf-8")


TERMS: Mapping[str, str] = MappingProxyType(
    {
        "Accuracy": "Share of the images whose predicted class is the true one.",
        "Subset accuracy": "Share of the images on which exactly the true labels are predicted, none missed and none added.",
        "95% interval": "The range of plausible values for images drawn independently from the same distribution. Shares of "
        "images: Wilson score interval; other metrics: bootstrap over the images.",
        "Baseline": "The accuracy of always predicting the class with the most images. A useful model is clearly above it.",
        "Precision": "Of the images predicted as this class, the share that belongs to it.",
        "Recall": "Of the images of this class, the share predicted as it.",
        "F1": "Harmonic mean of precision and recall: high only where both are. n/a: 0 of 0.",
        "Macro F1": "Mean of the F1 of the classes present here; every class counts equally, however few its images are.",
        "Micro F1": "F1 over all pairs of an image and a label together.",
        "Weighted F1": "Mean of the F1, each label weighted by the number of its images.",
        "Balanced accuracy": "Mean of the recall of the classes: the accuracy if every class had equally many images.",
        "Specificity": "Of the images of the other classes, the share not predicted as this class.",
        "AUROC": "Probability that an image of the class is ranked above an image of another class. Chance level: 0.5.",
        "Average precision": "Area under the precision-recall curve of a class. Chance level: the share of its images.",
        "mAP": "Mean of the average precision of the labels; it does not depend on the thresholds.",
        "NLL": "Mean negative log-likelihood of the truth, in nats. 0 is best; confident errors cost most.",
        "Brier score": "Mean squared difference between the probabilities and the truth. 0 is best.",
        "ECE": "Expected calibration error: the mean gap between confidence and accuracy, over bins of confidence. With few "
        "images it is biased upwards; its interval corrects for this and may lie below the estimate.",
        "Matthews correlation": "Correlation of the true and the predicted classes. 1 is best, 0 is chance level.",
        "Hamming loss": "Share of all pairs of an image and a label that are wrong. 0 is best.",
        "Confidence": "The probability that the model gives to its prediction.",
        "Coverage": "Share of the images that are answered; the others are left to a person.",
        "Cross-fitted": "Of calibration: each image is scaled by a fit on the other images.",
        "Calibrated": "Probabilities are calibrated if, of the predictions with a probability of 80%, 80% are right.",
        "Prediction set": "The classes that an image may show; it contains the true one for a promised share of images.",
        "Threshold": "The probability from which a label is predicted.",
        "Epoch": "One pass over all training images.",
        "Val": "The validation split: images that choose among epochs, heads and settings, and that are not trained on.",
        "Cross-validated": "Each training image is answered by a head that was fitted without its part of the images.",
        "L2": "Strength of the penalty on large weights of the last layer: stronger is simpler.",
    }
)
_SPELLINGS = {
    "Av. prec.": "Average precision",
    "Macro AUROC": "AUROC",
    "Macro average precision": "Average precision",
    "Micro average precision": "Average precision",
    "Mean average precision (mAP)": "mAP",
    "Micro precision": "Precision",
    "Micro recall": "Recall",
    "F1 per image": "F1",
    "ECE, equal mass": "ECE",
    "Classwise ECE": "ECE",
    "Val accuracy": "Val",
    "Val NLL": "NLL",
    "Cross-validated accuracy": "Cross-validated",
    "Cross-validated NLL": "NLL",
}


def term_marker() -> Callable[..., Markup]:
    """For one page: term(text, more_classes) -> `text` as a button with its explanation, or alone where there is none."""
    numbers = count(1)

    def mark(text: str, classes: str = "") -> Markup:
        meaning = TERMS.get(_SPELLINGS.get(text, text), "")
        is_button = bool(meaning or classes)
        if not is_button:
            return escape(text)
        number = next(numbers)
        described = Markup(' aria-describedby="tip-{}"').format(number) if meaning else ""
        tip = (
            Markup('<span class="tip" role="tooltip" id="tip-{}">{}</span>').format(number, meaning) if meaning else ""
        )
        kind = " ".join(filter(None, ("term" if meaning else "", classes)))
        return Markup('<button type="button" class="{}"{}>{}</button>{}').format(kind, described, text, tip)

    return mark
