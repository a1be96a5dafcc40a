"""Figures of a report for papers and slides, by matplotlib (extra `plots`): confusion matrix, curves, errors, reliability."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from recog.core.errors import DataError, missing_extra
from recog.core.outputs import check_output_folder
from recog.core.task import Task
from recog.core.text import visible
from recog.evaluation.measures.counts import Hits
from recog.evaluation.results.report import Report
from recog.report.page.facts import EpochRow, HeadRow, History
from recog.report.text import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_NAMED_CLASSES = 30  # beyond, the axes have numbers
NUM_ERRORS = 20
_HIT, _MISS, _GREY = "#1b5475", "#a83814", "#5f5d57"


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, in inches, that a notebook shows by itself. MissingExtraError without matplotlib."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise missing_extra(error) or error from None

    class ShownFigure(Figure):
        def _repr_png_(self) -> bytes:
            return png_of(self)

    figure = ShownFigure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def png_of(figure: Figure, dpi: int = 150) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def plot_report(report: Report) -> Figure:
    """Confusion matrix and reliability diagram side by side; with several labels the F1 of each and the diagram."""
    figure = new_figure(11, 5)
    left, right = figure.subplots(1, 2)
    _DRAW[report.task](report, left)
    _draw_reliability(report, right)
    return figure


def plot_history(history: History) -> Figure:
    """Curves by epoch, or the score of each head that was tried. DataError where nothing was recorded."""
    if history.epochs:
        return _epochs_figure(history.epochs)
    if history.heads:
        return _heads_figure(history.heads)
    raise DataError("there is nothing to plot: the run recorded neither epochs nor heads.")


def plot_confusion(report: Report) -> Figure:
    """DataError with several labels per image, which have no such matrix."""
    if _DRAW[report.task] is not _draw_confusion:
        raise DataError("images with several labels have no confusion matrix.")
    side = max(4.5, min(14.0, 2.5 + 0.45 * report.num_classes))
    figure = new_figure(side, side)
    _draw_confusion(report, figure.subplots())
    return figure


def plot_reliability(report: Report) -> Figure:
    figure = new_figure(5, 5)
    _draw_reliability(report, figure.subplots())
    return figure


def plot_errors(report: Report, pictures: Mapping[str, str]) -> Figure:
    """The most confident errors; `pictures`: image name -> data URI, as `read_pictures` gives. DataError without any."""
    shown = [(error, pictures[error.name]) for error in report.errors if error.name in pictures][:NUM_ERRORS]
    if not shown:
        raise DataError("no error has a picture on the page: there are none, or it was written with --no-images.")
    columns = min(5, len(shown))
    rows = -(-len(shown) // columns)
    figure = new_figure(2.3 * columns, 2.7 * rows)
    axes = np.atleast_1d(np.asarray(figure.subplots(rows, columns, squeeze=False))).ravel()
    for axis in axes:
        axis.axis("off")
    for axis, (error, uri) in zip(axes, shown, strict=False):
        axis.imshow(_opened(uri), cmap="gray")
        axis.set_title(_error_text(error), fontsize=8)
    return figure


def _error_text(error: Any) -> str:
    if hasattr(error, "predicted_class"):
        return f"{_short(error.predicted_class)} {percent(error.confidence)}\nlabel {_short(error.true_class)}"
    missed = ", ".join(_short(name) for name, _ in error.missed) or "none"
    added = ", ".join(_short(name) for name, _ in error.invented) or "none"
    return f"missed {missed}\nadded {added}"


def _opened(uri: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))


def _short(name: str, length: int = 18) -> str:
    """Printable, short, and without what matplotlib reads as mathematics."""
    text = visible(name).replace("$", r"\$")
    return text if len(text) <= length else text[: length - 1] + "\N{HORIZONTAL ELLIPSIS}"


def _draw_confusion(report: Any, axes: Axes) -> None:
    counts = np.array(report.confusion)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    picture = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set(
        xlabel="predicted class",
        ylabel="true class",
        title=f"Accuracy {percent(report.accuracy)}, n = {report.num_images:,}",
    )
    if report.num_classes > MAX_NAMED_CLASSES:
        axes.figure.colorbar(picture, ax=axes, label="share of the true class", shrink=0.8)
        return
    names = [_short(name) for name in report.class_names]
    axes.set_xticks(range(len(names)), names, rotation=90)
    axes.set_yticks(range(len(names)), names)
    for i, j in zip(*np.nonzero(counts), strict=True):
        colour = "white" if shares[i, j] > 0.5 else "black"
        axes.text(j, i, f"{counts[i, j]:,}", ha="center", va="center", color=colour, fontsize=8)


def _draw_labels(report: Any, axes: Axes) -> None:
    rows = [row for row in report.classes if row.f1 is not None]
    rows = sorted(rows, key=lambda row: row.f1 or 0.0)[:MAX_NAMED_CLASSES]
    axes.barh([_short(row.name) for row in rows], [row.f1 or 0.0 for row in rows], color=_HIT)
    axes.set(xlabel="F1", xlim=(0, 1), title=f"mAP {percent(report.mean_average_precision)}, n = {report.num_images:,}")


_DRAW: Mapping[Task, Callable[[Any, Axes], None]] = MappingProxyType(
    {"multiclass": _draw_confusion, "multilabel": _draw_labels}
)


def _draw_reliability(report: Report, axes: Axes) -> None:
    points = _POINTS[report.task](report)
    axes.plot([0, 1], [0, 1], color=_GREY, linestyle="--", linewidth=1)
    for mean, hits in points:
        low, high = hits.accuracy_ci95
        axes.plot([mean, mean], [low, high], color=_HIT, linewidth=1, alpha=0.6)
    axes.scatter([mean for mean, _ in points], [hits.accuracy for _, hits in points], color=_HIT, zorder=3)
    axes.set(
        xlabel="mean probability", ylabel="frequency", xlim=(0, 1), ylim=(0, 1), title="Reliability, 95% intervals"
    )
    axes.set_aspect("equal")


_POINTS: Mapping[str, Callable[[Any], list[tuple[float, Hits]]]] = MappingProxyType(
    {
        "multiclass": lambda report: [
            (b.mean_confidence, Hits(num_images=b.num_images, num_correct=b.num_correct))
            for b in report.scores.reliability or ()
            if b.mean_confidence is not None
        ],
        "multilabel": lambda report: [
            (b.mean_prob, Hits(num_images=b.num_pairs, num_correct=b.num_shown))
            for b in report.reliability
            if b.mean_prob is not None
        ],
    }
)


def _epochs_figure(epochs: Sequence[EpochRow]) -> Figure:
    numbers = [row.epoch for row in epochs]
    figure = new_figure(10, 4)
    loss, score = figure.subplots(1, 2)
    loss.plot(numbers, [row.train_loss for row in epochs], color=_MISS, marker=".", label="training loss")
    loss.plot(numbers, [row.val_nll for row in epochs], color=_HIT, marker=".", label="val NLL")
    loss.set(xlabel="epoch", title="Loss")
    loss.legend()
    score.plot(numbers, [row.score[1] for row in epochs], color=_HIT, marker=".", clip_on=False)
    score.set(xlabel="epoch", title=f"Val {epochs[0].score[0]}")
    score.set_ylim(top=min(1.0, score.get_ylim()[1]))
    for axes in (loss, score):
        axes.xaxis.get_major_locator().set_params(integer=True)
    return figure


def _heads_figure(heads: Sequence[HeadRow]) -> Figure:
    from matplotlib.ticker import PercentFormatter

    figure = new_figure(8, max(3.0, 0.3 * len(heads) + 1))
    axes = figure.subplots()
    values = [row.score[1] for row in heads]
    names = [f"{row.method}, L2 {row.l2:g}" for row in heads]
    axes.hlines(names, min(values), values, color=_GREY, linewidth=0.8)
    axes.plot(values, names, "o", color=_HIT, clip_on=False)  # dots, as the axis does not begin at 0
    axes.set_xlim(right=min(1.0, axes.get_xlim()[1]))
    axes.invert_yaxis()
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.set(xlabel=f"{heads[0].measured} {heads[0].score[0]}")
    axes.set_title("Last layers tried; the axis does not begin at 0")
    return figure


def save_figures(
    folder: Path, report: Report, history: History, pictures: Mapping[str, str]
) -> tuple[list[Path], list[str]]:
    """Write the figures that can be drawn into `folder`: their paths, and for each other one why there is none."""
    new_figure(1, 1)  # MissingExtraError before a folder is made
    check_output_folder(folder, "--png")
    figures: dict[str, Callable[[], Figure]] = {
        "confusion_matrix": lambda: plot_confusion(report),
        "curves": lambda: plot_history(history),
        "errors": lambda: plot_errors(report, pictures),
        "reliability": lambda: plot_reliability(report),
    }
    for name in figures:
        if os.path.lexists(folder / f"{name}.png"):
            raise DataError(
                f"{folder / name}.png exists already; nothing was written. Choose another folder for --png."
            )
    folder.mkdir(parents=True, exist_ok=True)
    written, left_out = [], []
    for name, draw in figures.items():
        try:
            data = png_of(draw())
        except DataError as error:
            left_out.append(f"no {name}.png: {error}")
            continue
        path = folder / f"{name}.png"
        path.write_bytes(data)
        written.append(path)
    return written, left_out
