"""What the page, the terminal and the card say of the calibration: sections of sentences and one small table each."""

from __future__ import annotations

from dataclasses import dataclass

from recog.evaluation.report import Report
from recog.evaluation.trust import ScalingEvidence
from recog.report.text import percent, plural


@dataclass(frozen=True, kw_only=True)
class Section:
    """A table with its headings, the first column text and the others numbers, below a sentence that says what it means."""

    title: str
    text: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def trust_sections(report: Report) -> list[Section]:
    """Those that the report has; none for a report of an older format."""
    if report.trust is None:
        return []
    return [_scaling(report, report.trust.scaling)]


def _scaling(report: Report, evidence: ScalingEvidence) -> Section:
    here = f"{report.data.split or 'these images'}, n = {report.num_images:,}"
    fit = evidence.fit
    rows = [_scaling_row(here, evidence.nll_before, report.nll, evidence.ece_before, report.ece)]
    if fit is not None and fit.num_folds:
        fitted = f"cross-validated, n = {fit.num_images:,}"
        rows.insert(0, _scaling_row(fitted, fit.nll_before, fit.nll_after, fit.ece_before, fit.ece_after))
    return Section(
        title="Calibration",
        text=_scaling_text(report.calibration_method, evidence),
        columns=("Images", "NLL before", "after", "ECE before", "after"),
        rows=tuple(rows),
    )


def _scaling_text(method: str, evidence: ScalingEvidence) -> str:
    what = {
        "none": "Probabilities are the network's own softmax",
        "temperature": "Logits are divided by one temperature before the softmax",
        "vector": "Logits get a factor and an offset for each class before the softmax",
    }.get(method, f"Logits are scaled by {method}")
    fit = evidence.fit
    if fit is None:
        return f"{what}; nothing was fitted."
    return f"{what}: {fit.reason}. Calibration images: {fit.data}; {plural(fit.num_images, 'image')}."


def _scaling_row(
    images: str, nll_before: float, nll_after: float, ece_before: float, ece_after: float | None
) -> tuple[str, ...]:
    return images, f"{nll_before:.3f}", f"{nll_after:.3f}", percent(ece_before), percent(ece_after)
