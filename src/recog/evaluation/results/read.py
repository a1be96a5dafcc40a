"""Reading `report.json`, whatever its task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recog.evaluation.results.multilabel_report import MultilabelReport, parse_multilabel_report
from recog.evaluation.results.report import Report

AnyReport = Report | MultilabelReport


def parse_report(table: Mapping[str, Any]) -> AnyReport:
    """From `report.json` of either task; a BundleError where it is no evaluation, newer, damaged or inconsistent."""
    return parse_multilabel_report(table) if table.get("task") == "multilabel" else Report.from_dict(table)
