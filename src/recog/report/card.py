"""The model card of a bundle (README.md), with Hugging Face metadata."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from recog.bundle.manifest import Manifest
from recog.evaluation.results.multilabel_report import MultilabelReport
from recog.evaluation.results.read import AnyReport
from recog.evaluation.results.report import Report
from recog.report.sections import Section, trust_sections
from recog.report.text import percent

_TEMPLATES = Path(__file__).parent / "templates"


def render_card(report: AnyReport, manifest: Manifest, *, origin: tuple[str, str], recipe: str, is_timm: bool) -> str:
    """The model card as Markdown; `origin` is (source, licence) of the starting weights.

    Names from the data are written to the metadata as JSON strings, which are valid YAML.
    """
    sections = trust_sections(report) if isinstance(report, Report) else []
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # Markdown, not HTML; untrusted names pass through `text` and `yaml` below
    )
    environment.filters["text"] = _plain
    environment.filters["yaml"] = lambda value: json.dumps(value, ensure_ascii=True)
    environment.filters["percent"] = percent
    return environment.get_template("card.md.j2").render(
        report=report,
        metrics=label_metrics(report) if isinstance(report, MultilabelReport) else class_metrics(report),
        is_multilabel=isinstance(report, MultilabelReport),
        manifest=manifest,
        weights_source=origin[0],
        weights_licence=origin[1],
        is_timm=is_timm,
        recipe=recipe,
        trust=[(section.title, section.text, _facts(section)) for section in sections],
        class_list=_class_list(manifest.class_names),
    )


def _facts(section: Section) -> str:
    """The section's first rows in one line."""
    names = ["" if name == "Value" else name for name in section.columns[1:]]
    rows = (
        f"{row[0]}: {', '.join(f'{name} {cell}'.strip() for name, cell in zip(names, row[1:], strict=True))}"
        for row in section.rows[:2]
    )
    return "; ".join(rows)


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A row of the card's table and an entry of its metadata; `type` is a metric id of the Hugging Face hub."""

    type: str
    name: str
    value: float
    text: str


def class_metrics(report: Report) -> list[Metric]:
    balanced, f1 = report.balanced_accuracy, report.macro.f1
    return [
        _metric("accuracy", "accuracy", report.accuracy, report.accuracy_ci95),
        Metric(type="balanced_accuracy", name="balanced accuracy", value=balanced, text=percent(balanced)),
        Metric(type="f1", name="macro F1", value=f1, text=percent(f1)),
    ]


def label_metrics(report: MultilabelReport) -> list[Metric]:
    """The metrics that are defined."""
    found = [
        ("mean_average_precision", "mAP", report.mean_average_precision, report.interval("mean_average_precision")),
        ("f1", "macro F1", report.macro.f1, report.interval("macro_f1")),
        ("f1", "micro F1", report.micro.f1, report.interval("micro_f1")),
        ("accuracy", "subset accuracy", report.subset_accuracy, report.subset.accuracy_ci95),
    ]
    return [
        _metric(kind, name, value, interval)
        for kind, name, value, interval in found
        if value is not None and not isnan(value)
    ]


def _metric(kind: str, name: str, value: float, interval: tuple[float, float] | None) -> Metric:
    text = percent(value)
    if interval is not None:
        text += f" (95 % interval {percent(interval[0])} to {percent(interval[1])})"
    return Metric(type=kind, name=name, value=value, text=text)


def _plain(value: str) -> str:
    """An untrusted name on one line, Markdown and HTML characters escaped."""
    line = " ".join(value.split())
    return "".join(f"\\{c}" if c in "\\`*_{}[]<>#|!" else c for c in line)


def _class_list(class_names: Sequence[str], limit: int = 50) -> str:
    listed = ", ".join(_plain(name) for name in class_names[:limit])
    return f"{listed} and {len(class_names) - limit} more" if len(class_names) > limit else listed
