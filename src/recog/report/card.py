"""The model card of a bundle (README.md), with Hugging Face metadata."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from recog.bundle.manifest import Manifest
from recog.core.preprocess import Preprocess
from recog.core.text import visible
from recog.evaluation.measures.task import TASK_MEASURES
from recog.evaluation.results.report import Report
from recog.report.sections import Section, trust_sections, value_of
from recog.report.text import percent, percent_range

_TEMPLATES = Path(__file__).parent / "templates"


def render_card(
    report: Report,
    manifest: Manifest,
    *,
    origin: tuple[str, str],
    recipe: str,
    library: str,
    parent: str = "",
    has_map: bool = False,
) -> str:
    """The model card as Markdown; `origin` is (source, licence) of the starting weights, `parent` the digest of their bundle,
    `library` what rebuilds the network: timm, recog or own. `has_map`: the ONNX file gives the feature map.

    Names from the data are written to the metadata as double-quoted YAML strings in ASCII.
    """
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # Markdown, not HTML; untrusted names pass through `text` and `yaml` below
    )
    environment.filters["text"] = plain
    environment.filters["yaml"] = _yaml
    environment.filters["percent"] = percent
    return environment.get_template("card.md.j2").render(
        report=report,
        metrics=list(_metrics(report)),
        things=TASK_MEASURES[manifest.task].things,
        manifest=manifest,
        weights_source=origin[0],
        weights_licence=origin[1],
        is_timm=library == "timm",
        parent=parent,
        recipe=recipe,
        crop_mode=manifest.preprocess.crop_mode,
        is_square=len(set(manifest.preprocess.image_size)) == 1,
        channels=manifest.preprocess.channels,
        interpolation=manifest.preprocess.interpolation,
        fill=_fill(manifest.preprocess),
        library=library,
        has_map=has_map,
        trust=[(section.title, section.text, _facts(section)) for section in trust_sections(report)],
        class_list=_class_list(manifest.class_names),
    )


def _facts(section: Section) -> list[str]:
    """The first rows of the section as sentences."""
    names = ["" if name == "Value" else name for name in section.columns[1:]]
    cells = (
        [f"{name} {cell}".strip() for name, cell in zip(names, row[1:], strict=True) if cell]
        for row in section.rows[:2]
    )
    return [
        f"{row[0][:1].upper()}{row[0][1:]}: {', '.join(texts)}" for row, texts in zip(section.rows, cells, strict=False)
    ]


def _fill(preprocess: Preprocess) -> str:
    """The colour around a scaled image that is smaller than the input, as Python."""
    values = preprocess.fill if preprocess.fill and preprocess.crop_mode == "border" else (0,) * preprocess.channels
    return repr(values[0] if preprocess.channels == 1 else tuple(values))


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A row of the card's table and an entry of its metadata; `type` is a metric id of the Hugging Face hub."""

    type: str
    name: str
    value: float
    text: str


_METRICS = MappingProxyType(  # type on the hub, name, attribute of the report
    {
        "multiclass": (
            ("accuracy", "accuracy", "accuracy"),
            ("balanced_accuracy", "balanced accuracy", "balanced_accuracy"),
            ("f1", "macro F1", "macro.f1"),
        ),
        "multilabel": (
            ("mean_average_precision", "mAP", "mean_average_precision"),
            ("f1", "macro F1", "macro.f1"),
            ("f1", "micro F1", "micro.f1"),
            ("accuracy", "subset accuracy", "accuracy"),
        ),
    }
)


def _metrics(report: Report) -> Iterator[Metric]:
    """The headline metrics that are defined."""
    for kind, name, path in _METRICS[report.task]:
        value, interval = value_of(report, path)
        if value is not None:
            text = percent(value) + (f" (95% interval {percent_range(interval)})" if interval else "")
            yield Metric(type=kind, name=name, value=value, text=text)


def _yaml(value: str) -> str:
    """As JSON, but that YAML has an escape of its own for characters beyond 16 bits, such as emoji, and no surrogate pairs."""
    return '"' + "".join(f"\\U{ord(c):08x}" if ord(c) > 0xFFFF else json.dumps(c)[1:-1] for c in value) + '"'


def plain(value: str) -> str:
    """An untrusted name on one line, Markdown and HTML characters escaped."""
    line = visible(" ".join(value.split()))
    return "".join(f"\\{c}" if c in "\\`*_{}[]<>#|!" else c for c in line)


def _class_list(class_names: Sequence[str], limit: int = 50) -> str:
    listed = ", ".join(plain(name) for name in class_names[:limit])
    return f"{listed} and {len(class_names) - limit} more" if len(class_names) > limit else listed
