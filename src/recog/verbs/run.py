"""A finished run, the events of `recog train` before there are results, and the clock of a run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recog.bundle.seal import REPORT_HTML
from recog.core import notebook
from recog.evaluation.results.read import parse_report
from recog.evaluation.results.report import Report
from recog.recipes.config import TrainConfig
from recog.runs.history import read_history


@dataclass(frozen=True, kw_only=True)
class Run:
    """A finished run: its folder, the bundle in it, and the bundle's evaluation."""

    folder: Path
    bundle: Path
    report: Report
    duration_s: float

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r}, {self.report!r})"

    def _repr_html_(self) -> str:
        rows = [
            ("Run", str(self.folder)),
            ("Report", str(self.folder / REPORT_HTML)),
            ("Time", f"{self.duration_s:.1f} s"),
        ]
        return notebook.below(self.report._repr_html_(), notebook.table((), rows))

    def plot(self) -> Any:
        """A matplotlib Figure: curves by epoch, or the heads that were tried. MissingExtraError without matplotlib."""
        from recog.report.plots import plot_history

        return plot_history(read_history(self.folder))


@dataclass(frozen=True, kw_only=True)
class Note:
    """A line of text for the user; a detail is in the report too. An activity goes on until the next event."""

    text: str
    is_detail: bool = False
    is_activity: bool = False


@dataclass(frozen=True, kw_only=True)
class Planned:
    """Training starts. `num_steps` is 0 if no gradient steps are taken."""

    folder: Path
    config: TrainConfig
    num_steps: int


@dataclass(frozen=True, kw_only=True)
class Clock:
    """When a run began, and when its training has to end, in seconds of time.perf_counter."""

    started: float
    deadline: float = math.inf
    budget_s: float | None = None


def run_to_json(run: Run) -> dict[str, Any]:
    return {
        "folder": str(run.folder),
        "bundle": str(run.bundle),
        "report": run.report.to_dict(),
        "duration_s": run.duration_s,
    }


def run_from_json(table: dict[str, Any]) -> Run:
    return Run(
        folder=Path(table["folder"]),
        bundle=Path(table["bundle"]),
        report=parse_report(table["report"]),
        duration_s=table["duration_s"],
    )
