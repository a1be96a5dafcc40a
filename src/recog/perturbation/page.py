"""`robustness.html`: one offline page with the tables, the curves and a picture under each corruption."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from recog.perturbation.corruptions import GROUPS
from recog.perturbation.report import CorruptionReport, RobustnessReport, ShiftRow
from recog.report.charts import HEIGHT, NUM_LEVELS, WIDTH, CurveChart, Series
from recog.report.html import render_page
from recog.report.pictures import thumbnail
from recog.report.text import percent

MAX_CLASSES = 20


def title_of(name: str) -> str:
    """'JPEG compression' of jpeg_compression."""
    return name.replace("_", " ").replace("jpeg", "JPEG").capitalize().replace("Jpeg", "JPEG")


def render_robustness(report: RobustnessReport, pictures: Sequence[tuple[str, NDArray[np.uint8]]] = ()) -> str:
    """`pictures` are (corruption, uint8 [H, W, C])."""
    found = report.corruptions
    groups = {} if found is None else {title: _cells(found, g) for g, title in GROUPS.items() if g in _groups(found)}
    return render_page(
        ("robustness.html.j2",),
        title=report.data,
        report=report,
        found=found,
        attacks=report.attacks,
        eps_text="" if report.attacks is None else eps_text(report.attacks.eps),
        groups=groups,
        severities=[] if found is None else _severities(found),
        charts=[] if found is None else _charts(found),
        classes=[] if found is None else found.classes[:MAX_CLASSES],
        pictures=[(title_of(name), thumbnail(image)) for name, image in pictures],
    )


def eps_text(eps: float) -> str:
    """'8/255', or '0.5' where it is no whole number of levels."""
    levels = round(255 * eps)
    return f"{levels}/255" if abs(255 * eps - levels) < 1e-6 and levels < 255 else f"{eps:g}"


def _groups(found: CorruptionReport) -> set[str]:
    return {row.group for row in found.rows}


def _severities(found: CorruptionReport) -> list[int]:
    return sorted({row.severity for row in found.rows})


def _cells(found: CorruptionReport, group: str) -> list[tuple[str, list[tuple[ShiftRow, int]], float]]:
    """(title, [(row, shade)], mean accuracy) of each corruption of `group`; the shade is 9 where nothing is lost."""
    clean = found.clean.accuracy or 1.0
    table = []
    for name, rows in found.by_name.items():
        if next(iter(rows.values())).group == group:
            cells = [(row, max(1, min(NUM_LEVELS, round(NUM_LEVELS * row.accuracy / clean)))) for row in rows.values()]
            table.append((title_of(name), cells, found.mean_by_name[name]))
    return table


def _charts(found: CorruptionReport) -> list[CurveChart]:
    if len(_severities(found)) < 2:
        return []
    accuracy = [(group, style) for group, style in (("common", "one"), ("camera", "two")) if group in _groups(found)]
    charts = [
        _chart(
            "Accuracy",
            [(_SHORT[group], style, _by_severity(found, "accuracy", group)) for group, style in accuracy],
            found.clean.accuracy,
        )
    ]
    trust = [
        ("confidence", "one", _by_severity(found, "confidence")),
        ("accuracy", "two", _by_severity(found, "accuracy")),
    ]
    charts.append(_chart("Confidence and accuracy", trust, None))
    if found.clean.unknown_rate is not None:
        rates = [("all corruptions", "one", _by_severity(found, "unknown_rate"))]
        charts.append(_chart("Answers 'unknown'", rates, found.clean.unknown_rate))
    return charts


_SHORT = {"common": "ImageNet-C's", "camera": "cameras"}


def _by_severity(found: CorruptionReport, measure: str, group: str | None = None) -> dict[int, float]:
    """Mean over corruptions, of severity 0 the clean value."""
    values = {0: float(getattr(found.clean, measure))}
    for severity in _severities(found):
        rows = [row for row in found.rows if row.severity == severity and group in (None, row.group)]
        if rows:
            values[severity] = float(np.mean([getattr(row, measure) for row in rows]))
    return values


def _chart(title: str, lines: Sequence[tuple[str, str, dict[int, float]]], clean: float | None) -> CurveChart:
    last = max(severity for _, _, values in lines for severity in values)
    series = []
    for name, style, values in lines:
        points = [
            (WIDTH * s / last, HEIGHT * (1 - value), f"{name}, severity {s}: {percent(value)}")
            for s, value in values.items()
        ]
        path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y, _ in points)
        series.append(Series(name=name, style=style, path=path, marks=tuple(points)))
    ticks = [(HEIGHT * (1 - i / 4), f"{25 * i}%") for i in range(5)]
    if clean is not None:
        title = f"{title} (as they are: {percent(clean)})"
    return CurveChart(
        title=title,
        series=tuple(series),
        x_ticks=tuple(
            (WIDTH * s / last, str(s) if s else "clean") for s in sorted({s for _, _, v in lines for s in v})
        ),
        y_ticks=tuple(ticks),
        x_name="severity",
    )
