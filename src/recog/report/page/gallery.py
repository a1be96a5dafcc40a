"""The pictures of the page: errors, least certain images, what stands behind the cells of the confusion matrix, samples."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import zip_longest

import numpy as np

from recog.core.errors import RecogError
from recog.core.hardware import num_cores
from recog.core.images.decode import ImageLimits, decode
from recog.data.dataset import Sample
from recog.evaluation.measures.task import TASK_MEASURES
from recog.evaluation.results.report import Report
from recog.evaluation.results.rows import Predictions
from recog.report.page.facts import ClassImages, DataOverview
from recog.report.pictures import SMALL_PX, THUMBNAIL_PX, thumbnail

MAX_ERRORS_SHOWN = 50
NUM_UNCERTAIN = 12
MAX_MARGIN = 0.4  # that may still be called uncertain: of two classes, a confidence of 90 %
MAX_OF_CELL, MAX_OF_HIT = 12, 4  # images behind a cell of errors and behind one of the diagonal
MAX_CELL_IMAGES = 450
MAX_PICTURE_BYTES = 3_600_000  # of all data URIs, so that the page stays below 5 MB


@dataclass(frozen=True, kw_only=True)
class ShownImage:
    """An image with its true and its predicted classes in words."""

    name: str
    true: str
    predicted: str
    confidence: float  # the highest probability of a predicted class, or of any where none is predicted
    is_correct: bool


@dataclass(frozen=True, kw_only=True)
class Gallery:
    pictures: Mapping[str, str] = field(default_factory=dict)  # image name -> data URI
    uncertain: tuple[ShownImage, ...] = ()  # the nearest to another answer first
    cells: Mapping[tuple[int, int], tuple[ShownImage, ...]] = field(default_factory=dict)  # (true, predicted) class
    strip: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = ()  # (class, its (image name, data URI))
    maps: Mapping[str, str] = field(
        default_factory=dict
    )  # name of an error -> data URI of where it counts for its answer
    maps_note: str = ""  # by which method


def choose_uncertain(report: Report, results: Predictions, number: int = NUM_UNCERTAIN) -> tuple[ShownImage, ...]:
    """The images whose answer would change first: the smallest margin between two classes, or to a label's threshold."""
    thresholds = [row.threshold for row in report.classes if row.threshold is not None]
    margins = TASK_MEASURES[report.task].smallest_margin(results.probs, thresholds)
    nearest = np.asarray(margins).reshape(len(results), -1).min(axis=1)
    order = np.argsort(nearest, kind="stable")[:number]
    return tuple(_shown(results, int(i)) for i in order if nearest[i] <= MAX_MARGIN)


def choose_cells(results: Predictions) -> dict[tuple[int, int], tuple[ShownImage, ...]]:
    """Images of each cell of the confusion matrix: of errors the most confident, of hits the least confident first.

    Empty where an image has or gets several labels or none, as then there is no such matrix. Every cell gets its first image
    before any gets its second.
    """
    if (results.is_class.sum(axis=1) != 1).any() or (results.preds.sum(axis=1) != 1).any():
        return {}
    true, predicted = results.is_class.argmax(axis=1), results.preds.argmax(axis=1)
    confidence = results.probs[np.arange(len(results)), predicted]
    order = np.argsort(np.where(true == predicted, confidence, -confidence), kind="stable")
    members: dict[tuple[int, int], list[int]] = {}
    for i in order.tolist():
        cell = (int(true[i]), int(predicted[i]))
        if len(found := members.setdefault(cell, [])) < (MAX_OF_HIT if cell[0] == cell[1] else MAX_OF_CELL):
            found.append(i)
    rounds = zip_longest(*(members[cell] for cell in sorted(members, key=lambda c: (c[0] == c[1], c))))
    kept = set([i for turn in rounds for i in turn if i is not None][:MAX_CELL_IMAGES])
    shown = {cell: tuple(_shown(results, i) for i in found if i in kept) for cell, found in members.items()}
    return {cell: images for cell, images in shown.items() if images}


def build_gallery(
    report: Report,
    results: Predictions,
    samples: Mapping[str, Sample],
    *,
    limits: ImageLimits,
    data: DataOverview | None,
) -> Gallery:
    """The pictures as thumbnails, of the files as they are now; one that can no longer be read is left out."""
    uncertain, cells = choose_uncertain(report, results), choose_cells(results)
    large = dict.fromkeys(
        [*(error.name for error in report.errors[:MAX_ERRORS_SHOWN]), *(image.name for image in uncertain)],
        THUMBNAIL_PX,
    )
    wanted = large | {image.name: SMALL_PX for cell in cells.values() for image in cell if image.name not in large}
    pictures = _thumbnails([(samples[name], px) for name, px in wanted.items()], limits)
    strip: dict[str, str] = {}
    rows = _strip_rows(data)
    if rows:
        size = sum(map(len, pictures.values()))
        strip = _thumbnails([(sample, SMALL_PX) for row in rows for sample in row.samples], limits, used_bytes=size)
    return Gallery(
        pictures=pictures,
        uncertain=uncertain,
        cells=cells,
        strip=tuple((row.name, tuple((s.name, strip[s.name]) for s in row.samples if s.name in strip)) for row in rows),
    )


def _strip_rows(data: DataOverview | None) -> Sequence[ClassImages]:
    return [] if data is None else [row for row in data.classes if row.samples]


def _thumbnails(wanted: Iterable[tuple[Sample, int]], limits: ImageLimits, *, used_bytes: int = 0) -> dict[str, str]:
    """{name: data URI} in order, until all the page's pictures together reach their limit."""

    def read(item: tuple[Sample, int]) -> str:
        sample, px = item
        try:
            return thumbnail(decode(sample.source, name=sample.name, min_side=px, limits=limits), px)
        except RecogError:
            return ""

    items = list(wanted)
    found: dict[str, str] = {}
    with ThreadPoolExecutor(num_cores()) as pool:
        for (sample, _), uri in zip(items, pool.map(read, items), strict=True):
            used_bytes += len(uri)
            if uri and used_bytes <= MAX_PICTURE_BYTES:
                found[sample.name] = uri
    return found


def _shown(results: Predictions, index: int) -> ShownImage:
    result = results[index]
    chosen = results.preds[index]
    return ShownImage(
        name=result.path,
        true=" | ".join(result.true) or "(no label)",
        predicted=" | ".join(result.predicted) or "(no label)",
        confidence=float(result.probs[chosen].max() if chosen.any() else result.probs.max()),
        is_correct=result.is_correct,
    )
