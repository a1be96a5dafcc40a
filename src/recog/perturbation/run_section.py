"""The robustness section of a run's report page and of its model card."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from recog.core.text import plural, visible
from recog.evaluation.measures.counts import Hits, Interval
from recog.perturbation.page import eps_text, title_of
from recog.perturbation.report import RobustnessReport
from recog.report.card import plain
from recog.report.html import render_page
from recog.report.text import percent, percent_range

NUM_HARDEST = 3  # corruptions that are named
_PLACES = ("robustness-link", "robustness")  # in templates/page.html.j2, between two comments each
_CARD_TITLE = "## Robustness"


@dataclass(frozen=True, kw_only=True)
class Row:
    """What was done to the images, the accuracy under it, and the share of the accuracy that is lost."""

    name: str
    accuracy: float
    interval: Interval | None
    relative_drop: float | None

    @classmethod
    def of(cls, name: str, hits: Hits, clean: Hits) -> Row:
        drop = None if name == CLEAN_NAME or not clean.num_correct else 1 - hits.num_correct / clean.num_correct
        return cls(name=name, accuracy=hits.accuracy, interval=hits.accuracy_ci95, relative_drop=drop)


CLEAN_NAME = "as they are"


def summary_rows(report: RobustnessReport) -> list[Row]:
    """Of the images as they are, of each group of corruptions, and under attack."""
    return [*_rows(report)]


def _rows(report: RobustnessReport) -> Iterator[Row]:
    found, attacks = report.corruptions, report.attacks
    clean = found.clean.hits if found is not None else attacks.clean if attacks is not None else None
    if clean is not None:
        yield Row.of(CLEAN_NAME, clean, clean)
    for mean in found.means if found is not None else ():
        conditions = plural(mean.num_conditions, "condition")
        name = f"{mean.title}, mean of {conditions}"
        yield Row(name=name, accuracy=mean.accuracy, interval=mean.accuracy_ci95, relative_drop=mean.relative_drop)
    if attacks is not None:
        names = ", ".join(row.name for row in attacks.rows)
        name = f"attacks, {attacks.norm} up to {eps_text(attacks.eps)} ({names}), at most"
        yield Row.of(name, attacks.robust, attacks.clean)


def _limits(report: RobustnessReport) -> list[str]:
    """What else a reader must know, in sentences."""
    lines = []
    if report.num_seen:
        lines.append(
            f"Optimistically biased: the run trained, selected or calibrated with {report.num_seen:,} of these images."
        )
    if report.corruptions is not None:
        hardest = [
            f"{title_of(name).lower()} {percent(mean)}"
            for name, mean in list(report.corruptions.mean_by_name.items())[:NUM_HARDEST]
        ]
        lines.append(f"Lowest mean accuracy: {', '.join(hardest)}.")
    if report.attacks is not None:
        lines.append("A robust accuracy is an upper bound: stronger attacks may find more.")
        lines += [f"Warning: {flag}." for flag in report.attacks.flags]
    return lines


def _measured_on(report: RobustnessReport) -> str:
    split = f", {report.split} split" if report.split else ""
    return f"{plural(report.num_images, 'image')} of {visible(report.data)}{split}, seed {report.seed}"


def with_report_section(page: str, report: RobustnessReport, link: str) -> str | None:
    """`page`, a run's report.html, with the section of `report` in place of an earlier one; None where it has no place for it.

    `link` is the address of robustness.html, relative to the page.
    """
    section = render_page(
        ("robustness_section.html.j2",),
        rows=summary_rows(report),
        limits=_limits(report),
        measured_on=_measured_on(report),
        link=link,
        said={},
    )
    for place, text in zip(_PLACES, ('<a href="#robustness">Robustness</a>', section.strip()), strict=True):
        begin, end = f"<!-- {place}:begin -->", f"<!-- {place}:end -->"
        pattern = re.compile(f"{begin}.*?{end}", re.DOTALL)
        if len(pattern.findall(page)) != 1:
            return None
        page = pattern.sub(lambda _, text=text, begin=begin, end=end: f"{begin}{text}{end}", page)  # type: ignore[misc]
    return page


def with_card_section(card: str, report: RobustnessReport) -> str:
    """The bundle's model card, Markdown, with the section of `report` at its end."""
    body = card.partition(f"\n{_CARD_TITLE}\n")[0].rstrip()
    lines = ["| Images | Accuracy | Relative drop |", "|---|---|---|"]
    for row in summary_rows(report):
        interval = "" if row.interval is None else f" ({percent_range(row.interval)})"
        drop = "" if row.relative_drop is None else percent(row.relative_drop)
        lines.append(f"| {plain(row.name)} | {percent(row.accuracy)}{interval} | {drop} |")
    limits = " ".join(plain(line) for line in _limits(report))
    measured = f"Measured by `recog robustness` on {plain(_measured_on(report))}; intervals of 95 %."
    return "\n".join([body, "", _CARD_TITLE, "", measured, "", *lines, "", limits, ""])
