"""`report.html`: the evaluation as a single file without scripts, fonts or network access.

Class and file names are untrusted. Jinja2 escapes them, `visible` escapes characters that hide or reverse
text, and the Content-Security-Policy of the page allows one style sheet, by hash, and embedded images.
"""

from __future__ import annotations

import base64
import hashlib
import io
import re
from collections.abc import Callable, Mapping
from functools import cache
from importlib.resources import files
from math import isnan, log
from types import MappingProxyType
from typing import Any

import jinja2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from recog.core.errors import DataError, ShapeError
from recog.core.task import Task
from recog.core.text import visible
from recog.evaluation.measures.counts import most_confused
from recog.evaluation.results.report import MulticlassReport, MultilabelReport, Report
from recog.evaluation.results.rows import ClassRow
from recog.report.charts import (
    MAX_TABLE_CLASSES,
    matrix_cells,
    matrix_shadings,
    mean_confidence,
    probability_marks,
    reliability_marks,
    risk_curve,
    tick_positions,
)
from recog.report.notes import notes
from recog.report.sections import metric_rows, training_sections, trust_sections
from recog.report.text import number_range, percent, percent_range, plural

MAX_THUMBNAILS = 50
MAX_PAIRS = 10
MAX_SLICES = 10  # of each slicing; the others are folded
NUM_WEAKEST = 10
THUMBNAIL_PX = 240  # longer side; displayed at about 170 px, for high-density screens
_SMALL_PX = 64  # up to here PNG: lossless, and no larger than JPEG
_DATA_URI = re.compile(r"data:image/(png|jpeg);base64,[A-Za-z0-9+/]+={0,2}")


def render_html(report: Report, thumbnails: Mapping[str, str]) -> str:
    """The page. `thumbnails`: name of a misclassified image -> data URI from `thumbnail`; may be incomplete."""
    for name, uri in thumbnails.items():
        if not _DATA_URI.fullmatch(uri):
            raise DataError(
                f"the thumbnail of {name!r} is not a PNG or JPEG data URI; create it with thumbnail(image)."
            )
    template, view = _VIEWS[report.task]
    return render_page(
        template,
        report=report,
        notes=notes(report),
        errors=[(error, thumbnails.get(error.name)) for error in report.errors[:MAX_THUMBNAILS]],
        metrics=metric_rows(report),
        sections=[*trust_sections(report), *training_sections(report.training)],
        max_slices=MAX_SLICES,
        **view(report),
    )


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
    {"multiclass": ("report.html.j2", _class_view), "multilabel": ("multilabel.html.j2", _label_view)}
)


def render_html_without_evidence(reason: str) -> str:
    """The page of a model that has not been evaluated."""
    return render_page("report.html.j2", report=None, reason=reason)


def thumbnail(image: NDArray[np.uint8], max_side: int = THUMBNAIL_PX) -> str:
    """Data URI of `image` uint8 [H, W, C], C 1 or 3, at most `max_side` px, re-encoded without metadata."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (1, 3) or 0 in image.shape:
        raise ShapeError(f"image is {image.dtype} {image.shape}; expected uint8 (H, W, C) with C 1 or 3.")
    picture = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
    picture.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    kind = "png" if max(picture.size) <= _SMALL_PX else "jpeg"
    picture.save(buffer, format=kind, optimize=True, **({} if kind == "png" else {"quality": 75}))
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def _weakest(report: MulticlassReport) -> list[tuple[int, ClassRow]]:
    """The classes with images that have the lowest F1, then the lowest recall."""
    present = [(i, row) for i, row in enumerate(report.classes) if row.support]
    return sorted(present, key=lambda item: (item[1].f1, item[1].recall))[:NUM_WEAKEST]


def _confused_pairs(report: MulticlassReport) -> list[tuple[ClassRow, ClassRow, int]]:
    """(true class, predicted class, count), most frequent first."""
    limit = MAX_PAIRS if report.num_classes > 8 else MAX_PAIRS // 2  # a small matrix needs no longer list
    pairs = most_confused(np.array(report.confusion), limit)
    return [(report.classes[i], report.classes[j], count) for i, j, count in pairs]


def render_page(name: str, **view: Any) -> str:
    """The template `name` filled in: escaped, with the style sheet of the report and the macros."""
    css = _read("report.css")
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode("ascii")
    template = _environment().from_string(_read("macros.html.j2") + _read(name))
    return template.render(css=css, css_sha256=digest, **view)


@cache
def _environment() -> jinja2.Environment:
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
