"""The learning curves of a training as numbers for the page's SVG."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10

from recog.report.charts import HEIGHT, WIDTH
from recog.report.page.facts import EpochRow
from recog.report.text import percent

MAX_TICKS = 5
MAX_MARKS = 60  # dots; beyond, only the line
LEAST_SPAN, WIDENED = 1e-6, 0.1  # of shares that are equal; what an axis then shows
ROUNDING = 1e-9  # of a logarithm


Tick = tuple[float, str]  # and its label
Line = tuple[str, str, Callable[[EpochRow], float]]  # name, CSS class, value of an epoch


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
