"""Charts of the report page as numbers for its SVG: reliability, risk-coverage, confusion matrix, learning curves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10, sqrt

from recog.evaluation.measures.counts import Hits
from recog.evaluation.results.report import MulticlassReport
from recog.evaluation.results.scores import Cut, ProbabilityBin, ReliabilityBin
from recog.report.page.facts import EpochRow
from recog.report.text import percent, percent_range, plural

WIDTH, HEIGHT = 400.0, 300.0  # of a plot's inside, in SVG units
HISTOGRAM_HEIGHT = 44.0
MIN_COVERED = 10  # fewest images for which an error rate is drawn; with fewer, one error changes it by over 10 points
MAX_TABLE_CLASSES = 25  # beyond, a cell with its number no longer fits a page
NUM_LEVELS = 9  # shades in the style sheet
_NICE_TOPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0)
MAX_TICKS = 5
MAX_MARKS = 60  # dots; beyond, only the line
LEAST_SPAN, WIDENED = 1e-6, 0.1  # of shares that are equal; what an axis then shows
ROUNDING = 1e-9  # of a logarithm

Tick = tuple[float, str]  # and its label
Line = tuple[str, str, Callable[[EpochRow], float]]  # name, CSS class, value of an epoch


@dataclass(frozen=True, kw_only=True)
class BinMark:
    """One reliability bin: a dot at (confidence, accuracy), its interval, its gap to the diagonal, its bar of images."""

    x: float
    y: float
    y_low: float
    y_high: float
    y_diagonal: float
    radius: float
    bar_x: float
    bar_width: float
    bar_height: float
    title: str


@dataclass(frozen=True, kw_only=True)
class RiskCurve:
    top: float  # the error rate at the upper edge
    ticks: tuple[tuple[float, str], ...]  # (y, label)
    line: str  # SVG path
    band: str  # SVG path of the 95 % intervals
    y_all: float  # the error rate on all images
    marks: tuple[tuple[float, float, str, str], ...]  # (x, y, label, title) of thresholds


def reliability_marks(bins: Sequence[ReliabilityBin]) -> list[BinMark]:
    """The non-empty bins, in order of confidence."""
    most = max(b.num_images for b in bins)
    return [
        _mark(
            (b.low, b.high, b.mean_confidence),
            Hits(num_images=b.num_images, num_correct=b.num_correct),
            most,
            f"{plural(b.num_images, 'image')}, mean confidence {percent(b.mean_confidence)}, "
            f"accuracy {percent(b.accuracy)} (95% interval {percent_range(b.accuracy_ci95)})",
        )
        for b in bins
        if b.mean_confidence is not None
    ]


def probability_marks(bins: Sequence[ProbabilityBin]) -> list[BinMark]:
    """The non-empty bins of a multi-label report, in order of probability."""
    most = max(b.num_pairs for b in bins)
    marks = []
    for b in bins:
        if b.mean_prob is not None:
            hits = Hits(num_images=b.num_pairs, num_correct=b.num_shown)
            title = (
                f"{plural(b.num_pairs, 'image-label pair')}, mean probability {percent(b.mean_prob)}, "
                f"{percent(hits.accuracy)} true labels (95% interval {percent_range(hits.accuracy_ci95)})"
            )
            marks.append(_mark((b.low, b.high, b.mean_prob), hits, most, title))
    return marks


def _mark(place: tuple[float, float, float], hits: Hits, most: int, title: str) -> BinMark:
    """`place` is (low, high, mean) of the bin's values, `most` the number in the fullest bin."""
    bin_low, bin_high, mean = place
    low, high = hits.accuracy_ci95
    return BinMark(
        x=WIDTH * mean,
        y=_y(hits.accuracy),
        y_low=_y(low),
        y_high=_y(high),
        y_diagonal=_y(mean),
        radius=3 + 5 * sqrt(hits.num_images / most),
        bar_x=WIDTH * bin_low + 1,
        bar_width=WIDTH * (bin_high - bin_low) - 2,
        bar_height=max(1.0, HISTOGRAM_HEIGHT * hits.num_images / most),
        title=title,
    )


def mean_confidence(bins: Sequence[ReliabilityBin]) -> float:
    """Over all images."""
    return sum(b.num_images * (b.mean_confidence or 0.0) for b in bins) / sum(b.num_images for b in bins)


def risk_curve(report: MulticlassReport) -> RiskCurve | None:
    """None if fewer than two points have enough images."""
    points = [cut for cut in report.scores.risk_coverage if cut.num_automated >= MIN_COVERED]
    if len(points) < 2:
        return None
    rate_all = report.num_errors / report.num_images
    highest = max(cut.error_rate or 0.0 for cut in points)
    top = next(nice for nice in _NICE_TOPS if nice >= min(1.0, 1.25 * max(highest, rate_all)))
    bands = [(cut.share, cut.error_rate_ci95 or (0.0, 1.0)) for cut in points]
    upper = [_point(share, high, top) for share, (_, high) in bands]
    lower = [_point(share, low, top) for share, (low, _) in reversed(bands)]
    return RiskCurve(
        top=top,
        ticks=tuple((HEIGHT * (1 - i / 4), f"{100 * top * i / 4:g}%") for i in range(5)),
        line="M" + "L".join(_point(cut.share, cut.error_rate or 0.0, top) for cut in points),
        band="M" + "L".join(upper + lower) + "Z",
        y_all=HEIGHT * (1 - rate_all / top),
        marks=tuple(_marks(report.scores.thresholds, top)),
    )


def _marks(cuts: Sequence[Cut], top: float) -> list[tuple[float, float, str, str]]:
    """The thresholds on the curve, without those that would overlap."""
    marks: list[tuple[float, float, str, str]] = []
    for cut in cuts:
        if cut.confidence == 0 or cut.error_rate is None or cut.num_automated < MIN_COVERED:
            continue
        x, y = WIDTH * cut.share, HEIGHT * (1 - min(cut.error_rate, top) / top)
        if marks and abs(marks[-1][0] - x) < 40:
            continue
        label = f"{100 * cut.confidence:g}%"
        title = (
            f"confidence at least {label}: coverage {percent(cut.share)}, {plural(cut.num_errors, 'error')} in "
            f"{cut.num_automated:,} images ({percent(cut.error_rate)})"
        )
        marks.append((x, y, label, title))
    return marks


def _point(share: float, rate: float, top: float) -> str:
    return f"{WIDTH * share:.1f} {HEIGHT * (1 - min(rate, top) / top):.1f}"


def _y(rate: float) -> float:
    return HEIGHT * (1 - rate)


@dataclass(frozen=True, kw_only=True)
class Cell:
    count: int
    shade: str  # CSS classes
    title: str  # the count in words


@dataclass(frozen=True, kw_only=True)
class Shading:
    """All cells of one shade as one SVG path in units of cells, so that 1,000 classes stay a small page."""

    shade: str
    path: str


def shade(count: int, support: int, *, is_correct: bool) -> str:
    """CSS classes of a cell with `count` of the `support` images of its true class; '' for a zero.

    Nine levels of the share; for errors of its square root, to make few errors visible.
    """
    if count == 0:
        return ""
    share = count / support
    level = ceil(NUM_LEVELS * (share if is_correct else sqrt(share)))
    return f"{'hit' if is_correct else 'miss'} s{min(max(level, 1), NUM_LEVELS)}"


def matrix_cells(report: MulticlassReport) -> list[list[Cell]]:
    """Row = true class, column = predicted class."""
    return [
        [
            Cell(
                count=count,
                shade=shade(count, truth.support, is_correct=truth is predicted),
                title=f"{count:,} of {truth.support:,} {truth.name} predicted as {predicted.name}",
            )
            for predicted, count in zip(report.classes, counts, strict=True)
        ]
        for truth, counts in zip(report.classes, report.confusion, strict=True)
    ]


def matrix_shadings(report: MulticlassReport) -> list[Shading]:
    """The same shades as paths, errors last to lie on top."""
    squares: dict[str, list[str]] = {}
    for i, (row, counts) in enumerate(zip(report.classes, report.confusion, strict=True)):
        for j, count in enumerate(counts):
            if not count:
                continue
            key = shade(count, row.support, is_correct=i == j)
            squares.setdefault(key, []).append(f"M{j} {i}h1v1h-1z")
    return [Shading(shade=key, path="".join(squares[key])) for key in sorted(squares)]


def tick_positions(num_classes: int) -> list[int]:
    """At most ten class indices to print along the edges, evenly spaced."""
    step = next(step for step in (5, 10, 20, 50, 100, 200, 500, num_classes) if num_classes <= 10 * step)
    return list(range(0, num_classes, step))


@dataclass(frozen=True, kw_only=True)
class Series:
    name: str
    style: str  # CSS class
    path: str
    marks: tuple[tuple[float, float, str], ...]  # (x, y, title)


@dataclass(frozen=True, kw_only=True)
class CurveChart:
    title: str
    series: tuple[Series, ...]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    x_best: float | None = None  # of the epoch whose weights are used
    x_name: str = "epoch"


def curve_charts(epochs: Sequence[EpochRow], best_epoch: int) -> list[CurveChart]:
    """Losses and scores by epoch; none for fewer than two epochs."""
    if len(epochs) < 2:
        return []
    scores: list[Line] = [(f"val {epochs[0].score[0]}", "one", lambda row: row.score[1])]
    losses: list[Line] = [
        ("training loss", "two", lambda row: row.train_loss),
        ("val NLL", "one", lambda row: row.val_nll),
    ]
    return [
        _chart("Loss", losses, epochs, best_epoch, form=lambda value: f"{value:.3g}", ticks_of=_number_ticks),
        _chart("Score on the validation split", scores, epochs, best_epoch, form=percent, ticks_of=share_ticks),
    ]


def _chart(
    title: str,
    lines: Sequence[Line],
    epochs: Sequence[EpochRow],
    best_epoch: int,
    *,
    form: Callable[[float], str],
    ticks_of: Callable[[float, float], list[Tick]],
) -> CurveChart:
    values = [value(row) for _, _, value in lines for row in epochs]
    ticks = ticks_of(min(values), max(values))
    low, high = ticks[0][0], ticks[-1][0]
    first, last = epochs[0].epoch, epochs[-1].epoch

    def x(epoch: int) -> float:
        return WIDTH * (epoch - first) / (last - first)

    def y(value: float) -> float:
        return HEIGHT * (1 - (value - low) / (high - low))

    series = []
    for name, style, value in lines:
        points = [(x(row.epoch), y(value(row)), f"{name} of epoch {row.epoch}: {form(value(row))}") for row in epochs]
        path = "M" + "L".join(f"{px:.1f} {py:.1f}" for px, py, _ in points)
        series.append(
            Series(name=name, style=style, path=path, marks=tuple(points) if len(points) <= MAX_MARKS else ())
        )
    step = max(1, ceil((last - first) / MAX_TICKS))
    return CurveChart(
        title=title,
        series=tuple(series),
        x_ticks=tuple((x(epoch), f"{epoch}") for epoch in range(first, last + 1, step)),
        y_ticks=tuple((y(tick), label) for tick, label in ticks),
        x_best=x(best_epoch) if first <= best_epoch <= last else None,
    )


def nice_ticks(low: float, high: float) -> list[float]:
    """Four to seven round numbers that span [low, high]: multiples of 1, 2 or 5 times a power of ten."""
    width = (high - low) or abs(high) or 1.0
    power = 10.0 ** floor(log10(width / MAX_TICKS))
    step = next(factor * power for factor in (1, 2, 5, 10) if width <= factor * power * MAX_TICKS)
    start, end = floor(low / step), max(ceil(high / step), floor(low / step) + 1)
    return [round(i * step, 12) for i in range(start, end + 1)]


def _number_ticks(low: float, high: float) -> list[Tick]:
    return [(tick, f"{tick:.3g}") for tick in nice_ticks(low, high)]


def share_ticks(low: float, high: float) -> list[Tick]:
    """As nice_ticks, of shares in [0, 1] and none beyond; labels in percent, with as many decimals as tell them apart."""
    if high - low < LEAST_SPAN:  # all equal: a tenth of the whole below the value, or above it
        low, high = (high - WIDENED, high) if high >= WIDENED else (low, low + WIDENED)
    ticks = nice_ticks(max(0.0, low), min(1.0, high))
    decimals = max(0, -floor(log10(100 * (ticks[1] - ticks[0])) + ROUNDING))
    return [(tick, f"{100 * tick:.{0 if tick in (0, 1) else decimals}f}%") for tick in ticks]
