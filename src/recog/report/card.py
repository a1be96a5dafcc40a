"""README.md of a bundle: a model card with Hugging Face metadata, the numbers with their n, and where things come from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from recog.bundle.manifest import Manifest
from recog.evaluation.report import Report
from recog.report.text import percent
from recog.report.trust import Section, trust_sections

_TEMPLATES = Path(__file__).parent / "templates"


def render_card(report: Report, manifest: Manifest, *, origin: tuple[str, str], recipe: str, is_timm: bool) -> str:
    """The model card as Markdown; `origin` is (source, licence) of the starting weights.

    Names from the data stand in its metadata as JSON strings, which YAML reads as such.
    """
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # Markdown, not HTML; names from outside pass through `text` and `yaml` below
    )
    environment.filters["text"] = _plain
    environment.filters["yaml"] = lambda value: json.dumps(value, ensure_ascii=True)
    environment.filters["percent"] = percent
    return environment.get_template("card.md.j2").render(
        report=report,
        manifest=manifest,
        weights_source=origin[0],
        weights_licence=origin[1],
        is_timm=is_timm,
        recipe=recipe,
        trust=[(section.title, section.text, _facts(section)) for section in trust_sections(report)],
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


def _plain(value: str) -> str:
    """A name from outside on one line, its Markdown and HTML signs escaped."""
    line = " ".join(value.split())
    return "".join(f"\\{c}" if c in "\\`*_{}[]<>#|!" else c for c in line)


def _class_list(class_names: Sequence[str], limit: int = 50) -> str:
    shown = ", ".join(_plain(name) for name in class_names[:limit])
    return f"{shown} and {len(class_names) - limit} more" if len(class_names) > limit else shown
