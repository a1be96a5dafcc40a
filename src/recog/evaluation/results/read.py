"""Reports by task: measuring, and reading `report.json`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from recog.core.task import Task
from recog.evaluation.results.multilabel_report import MultilabelReport, evaluate_multilabel, parse_multilabel_report
from recog.evaluation.results.report import Report, evaluate

AnyReport = Report | MultilabelReport

EVALUATE: Mapping[Task, Callable[..., AnyReport]] = MappingProxyType(
    {"multiclass": evaluate, "multilabel": evaluate_multilabel}
)
PARSE: Mapping[Task, Callable[[Mapping[str, Any]], AnyReport]] = MappingProxyType(
    {"multiclass": Report.from_dict, "multilabel": parse_multilabel_report}
)


def parse_report(table: Mapping[str, Any]) -> AnyReport:
    """From `report.json` of either task; a BundleError where it is no evaluation, newer, damaged or inconsistent."""
    task: Any = table.get("task")
    return PARSE[task if task == "multilabel" else "multiclass"](table)
