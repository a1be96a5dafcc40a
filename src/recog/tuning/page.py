"""`study.html`: history, importance, slices and parallel coordinates of a study as one file without scripts or requests."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from recog.evaluation.results.report import Report
from recog.report.charts import HEIGHT, WIDTH, share_ticks
from recog.report.html import render_page
from recog.report.text import percent
from recog.tuning.result import StudyResult, describe_settings, points, short
from recog.tuning.space import Dimension, Space
from recog.tuning.storage import TrialRow, best_of

NUM_BEST = 5
MAX_SLICES = 8  # settings, the most important ones
MAX_ROWS = 200  # of the table of all trials
MAX_LINES = 300  # of the parallel coordinates, the best ones
INSET = 14.0  # of the outermost values of an axis, in SVG units
MISSING = 44.0  # of an axis of parallel coordinates, for trials that do not use the setting
BEST_SHARE = 1 / 4  # of the trials, whose lines are drawn strongly

PARALLEL_WIDTH = 820.0  # of the inside of parallel coordinates, in SVG units

Tick = tuple[float, str]  # and its label
Scale = tuple[Callable[[object], float], tuple[Tick, ...]]  # the place of a value, and labels


@dataclass(frozen=True, kw_only=True)
class Mark:
    x: float
    y: float
    style: str  # CSS class
    title: str


@dataclass(frozen=True, kw_only=True)
class Scatter:
    """Scores over the trials or the values of a setting."""

    title: str
    x_name: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    marks: tuple[Mark, ...]
    line: str = ""  # SVG path


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One setting of the parallel coordinates."""

    x: float
    name: str
    ticks: tuple[Tick, ...]
    has_missing: bool = False  # whether the lowest tick is of trials that do not use the setting


@dataclass(frozen=True, kw_only=True)
class Parallel:
    recipe: str
    axes: tuple[Axis, ...]
    lines: tuple[Mark, ...]  # `title` of each trial; x, y of its right end
    paths: tuple[str, ...]


def render_study(result: StudyResult, space: Space, *, run: Report | None, runs_as: str) -> str:
    """The page of `result`. `run` is the report of the winner's own run, `runs_as` the config file that repeats it."""
    best, default = result.best, result.default
    ticks = _score_ticks(result.rows)
    importances = sorted((result.importances or {}).items(), key=lambda item: -item[1])
    rows = sorted(result.rows, key=lambda row: row.number)
    plots = (_parallel(rows, space.of(recipe), recipe, ticks) for recipe in space.recipes)
    parallels = [plot for plot in plots if plot is not None]
    return render_page(
        ("study.html.j2",),
        title=f"Study {result.name}: {result.score_name} {percent(None if best is None else best.score)}",
        result=result,
        best=best,
        default=default,
        luck=result.optimism,
        points=points,
        run=run,
        summary=result.summary,
        remarks=result.remarks(),
        top=[(row, describe_settings(row)) for row in best_of(result.rows, NUM_BEST)],
        rows=[(row, describe_settings(row)) for row in rows[:MAX_ROWS]],
        num_rows=len(rows),
        importances=importances,
        history=_history(rows, ticks),
        slices=_slices(rows, space, importances, ticks),
        parallels=parallels,
        has_missing=any(axis.has_missing for plot in parallels for axis in plot.axes),
        config=runs_as,
    )


def _score_ticks(rows: Sequence[TrialRow]) -> list[Tick]:
    """Of the axis, which the worst quarter of the trials does not stretch; they are drawn at its lower end."""
    scores = sorted(row.score for row in rows if row.score is not None)
    return share_ticks(scores[len(scores) // 4], scores[-1]) if scores else [(0.0, "0%"), (1.0, "100%")]


def _score_of(row: TrialRow) -> float | None:
    """Of a pruned trial, the last one."""
    return row.score if row.score is not None else row.last_score


def _style(row: TrialRow) -> str:
    return "two" if row.is_default else "one" if row.state == "done" else "pruned"


def _y(score: float, ticks: Sequence[Tick]) -> float:
    share = (score - ticks[0][0]) / (ticks[-1][0] - ticks[0][0])
    return HEIGHT * (1 - min(1.0, max(0.0, share)))


def _y_labels(ticks: Sequence[Tick]) -> tuple[Tick, ...]:
    return tuple((_y(tick, ticks), label) for tick, label in ticks)


def _history(rows: Sequence[TrialRow], ticks: Sequence[Tick]) -> Scatter:
    """The score of each trial, and the best so far as a line; a pruned trial stands at its last score."""
    last = max((row.number for row in rows), default=0) or 1

    def x(number: int) -> float:
        return INSET + (WIDTH - 2 * INSET) * number / last

    marks, steps, best = [], list[str](), -1.0
    for row in rows:
        score = _score_of(row)
        if score is None:
            continue
        marks.append(Mark(x=x(row.number), y=_y(score, ticks), style=_style(row), title=_title(row, score)))
        if row.state == "done" and score > best:
            best = score
            steps.append(f"{'H' if steps else 'M'}{x(row.number):.1f}{'V' if steps else ' '}{_y(best, ticks):.1f}")
    step = max(1, math.ceil(last / 5))
    return Scatter(
        title="History",
        x_name="trial",
        x_ticks=tuple((x(number), str(number)) for number in range(0, last + 1, step)),
        y_ticks=_y_labels(ticks),
        marks=tuple(marks),
        line=f"{''.join(steps)}H{x(last):.1f}" if steps else "",
    )


def _title(row: TrialRow, score: float) -> str:
    kind = "" if row.state == "done" else f", {row.state}"
    return f"trial {row.number}{kind}: {percent(score)}; {describe_settings(row)}"


def _slices(
    rows: Sequence[TrialRow], space: Space, importances: Sequence[tuple[str, float]], ticks: Sequence[Tick]
) -> list[Scatter]:
    """The scores over the values of each setting, the most important settings first."""
    order = {name: place for place, (name, _) in enumerate(importances)}
    dimensions = sorted(space.dimensions, key=lambda each: order.get(each.name, len(order)))
    found = []
    for dimension in dimensions:
        known = [row for row in rows if row.recipe == dimension.recipe and dimension.setting in row.settings]
        scored = [(row, score) for row in known if (score := _score_of(row)) is not None]
        if len({str(row.settings[dimension.setting]) for row, _ in scored}) < 2:
            continue
        place, labels = _scale(dimension, WIDTH)
        marks = tuple(
            Mark(
                x=place(row.settings[dimension.setting]),
                y=_y(score, ticks),
                style=_style(row),
                title=_title(row, score),
            )
            for row, score in scored
        )
        factor = ", times the default" if dimension.times_default else ""
        found.append(
            Scatter(
                title=f"{dimension.setting} ({dimension.recipe})",
                x_name=f"{dimension.setting}{factor}",
                x_ticks=labels,
                y_ticks=_y_labels(ticks),
                marks=marks,
            )
        )
    return found[:MAX_SLICES]


def _scale(dimension: Dimension, length: float) -> Scale:
    """The place of a value on an axis of `length`, and labels: of every choice, or of both ends and the middle."""
    inner = length - 2 * INSET
    if dimension.choices:
        last = max(1, len(dimension.choices) - 1)
        places = {str(choice): INSET + inner * i / last for i, choice in enumerate(dimension.choices)}
        labels = tuple((places[str(choice)], short(choice)) for choice in dimension.choices)
        return lambda value: places.get(str(value), INSET), labels

    def share(value: float) -> float:
        if dimension.log:
            return math.log(value / dimension.low) / math.log(dimension.high / dimension.low)
        return (value - dimension.low) / (dimension.high - dimension.low)

    middle = math.sqrt(dimension.low * dimension.high) if dimension.log else (dimension.low + dimension.high) / 2
    ends = (dimension.low, middle, dimension.high)
    labels = tuple((INSET + inner * share(value), f"{value:.2g}") for value in ends)
    return lambda value: INSET + inner * min(1.0, max(0.0, share(float(str(value))))), labels


def _parallel(
    rows: Sequence[TrialRow], dimensions: Sequence[Dimension], recipe: str, ticks: Sequence[Tick]
) -> Parallel | None:
    """A line for each finished trial of `recipe` through its settings to its score; None for fewer than two."""
    done = best_of([row for row in rows if row.recipe == recipe], MAX_LINES)
    used = [each for each in dimensions if len({str(row.settings.get(each.setting)) for row in done}) > 1]
    if len(done) < 2 or not used:
        return None
    scales = {each.setting: _with_missing(each, done) for each in used}
    gap = PARALLEL_WIDTH / len(used)
    axes = [
        Axis(
            x=gap * i,
            name=each.setting,
            ticks=tuple((HEIGHT - place, label) for place, label in scales[each.setting][1]),
            has_missing=any(each.setting not in row.settings for row in done),
        )
        for i, each in enumerate(used)
    ]
    axes.append(Axis(x=PARALLEL_WIDTH, name="score", ticks=_y_labels(ticks)))
    num_strong = max(1, round(BEST_SHARE * len(done)))
    lines, paths = [], []
    for place, row in reversed(list(enumerate(done))):
        points = [
            (gap * i, HEIGHT - scales[each.setting][0](row.settings.get(each.setting))) for i, each in enumerate(used)
        ]
        points.append((PARALLEL_WIDTH, _y(row.score or 0.0, ticks)))
        style = "best" if place == 0 else "strong" if place < num_strong else "weak"
        lines.append(Mark(x=points[-1][0], y=points[-1][1], style=style, title=_title(row, row.score or 0.0)))
        paths.append("M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points))
    return Parallel(recipe=recipe, axes=tuple(axes), lines=tuple(lines), paths=tuple(paths))


def _with_missing(dimension: Dimension, rows: Sequence[TrialRow]) -> Scale:
    """As _scale, with a tick of its own below the others for trials that do not use the setting, if there are any."""
    missing = [row for row in rows if dimension.setting not in row.settings]
    if not missing:
        return _scale(dimension, HEIGHT)
    place, labels = _scale(dimension, HEIGHT - MISSING)
    names = [
        name
        for name, is_default in (("not used", False), ("as planned", True))
        if any(row.is_default is is_default for row in missing)
    ]
    return (
        lambda value: INSET if value is None else MISSING + place(value),
        ((INSET, " or ".join(names)), *((MISSING + at, label) for at, label in labels)),
    )
