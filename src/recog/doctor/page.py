"""`findings.html`: the findings with their pictures side by side, to be marked and downloaded as CSV; one file, no network.

Names of images and classes are untrusted. Jinja2 escapes them, `visible` escapes characters that hide or reverse text, what the
script reads is JSON without '<', and the Content-Security-Policy allows one style sheet and one script, by hash.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from recog.core.errors import BadImage
from recog.core.images.decode import decode
from recog.core.text import visible
from recog.data.dataset import Sample
from recog.data.store import read_images
from recog.doctor.findings import COLUMNS, KINDS, Finding, Findings, Kind, table_rows
from recog.report.html import csp_hash, page_environment
from recog.report.pictures import thumbnail
from recog.report.text import spreadsheet_cell

MAX_SHOWN = 60  # findings of a kind
MAX_PER_FINDING = 8  # pictures
NO_LABEL = "(no label)"
_PX = 200  # longer side
_DECODED_PX = 2 * _PX


@dataclass(frozen=True, kw_only=True)
class Picture:
    """`image` is a data URI; '' where the file could not be read again."""

    number: int  # of the sample
    name: str
    label: str
    split: str
    image: str


@dataclass(frozen=True, kw_only=True)
class Card:
    finding: Finding
    pictures: tuple[Picture, ...]
    num_hidden: int


@dataclass(frozen=True, kw_only=True)
class Section:
    key: str
    kind: Kind
    count: int
    cards: tuple[Card, ...]


def render_findings(found: Findings, samples: Sequence[Sample], *, version: str, data: str) -> str:
    """The page, with pictures of `samples`. `data` is what the user calls the data on the command line."""
    shown = {kind: found.of_kind(kind)[:MAX_SHOWN] for kind in found.counts}
    numbers = {i for findings in shown.values() for finding in findings for i in finding.images[:MAX_PER_FINDING]}
    pictures = _pictures(found, samples, sorted(numbers))
    sections = [
        Section(
            key=kind,
            kind=KINDS[kind],
            count=found.counts[kind],
            cards=tuple(_card(finding, pictures) for finding in findings),
        )
        for kind, findings in shown.items()
    ]
    css, script = _read("findings.css"), _read("findings.js")
    return (
        page_environment()
        .from_string(_read("findings.html.j2"))
        .render(
            found=found,
            data=data,
            version=version,
            num_images=len(found.names),
            num_classes=len(found.class_names),
            sections=sections,
            css=css,
            script=script,
            css_sha256=csp_hash(css),
            script_sha256=csp_hash(script),
            choices=_choices(found),
            payload=_payload(found),
        )
    )


def _card(finding: Finding, pictures: Mapping[int, Picture]) -> Card:
    shown = finding.images[:MAX_PER_FINDING]
    return Card(
        finding=finding,
        pictures=tuple(pictures[i] for i in shown),
        num_hidden=len(finding.images) - len(shown),
    )


def _pictures(found: Findings, samples: Sequence[Sample], numbers: Sequence[int]) -> dict[int, Picture]:
    pictures = {}
    for i, image in zip(numbers, read_images([samples[i] for i in numbers], _thumbnail), strict=True):
        pictures[i] = Picture(
            number=i,
            name=found.names[i],
            label=found.labels[i] or NO_LABEL,
            split=found.splits[i],
            image="" if isinstance(image, BadImage) else image,
        )
    return pictures


def _thumbnail(sample: Sample) -> str:
    return thumbnail(decode(sample.source, name=sample.name, min_side=_DECODED_PX), _PX)


def _choices(found: Findings) -> list[str]:
    """The labels that the page offers: the classes, and sets of them that are suggested."""
    suggested = (finding.suggested_label for finding in found.findings)
    return list(dict.fromkeys([*found.class_names, *(label for label in suggested if label is not None)]))


def _payload(found: Findings) -> str:
    """What the script needs: the rows of the CSV, the number of each row's image, and the labels to choose from."""
    images = [i for finding in found.findings for i in finding.images]
    table = {
        "key": csp_hash("\n".join(f"{name}\t{label}" for name, label in zip(found.names, found.labels, strict=True))),
        "columns": COLUMNS,
        "rows": list(table_rows(found)),
        "images": images,
        "classes": [visible(name) or NO_LABEL for name in _choices(found)],
        "cells": [spreadsheet_cell(name) for name in _choices(found)],
    }
    return json.dumps(table, ensure_ascii=True).replace("<", "\\u003c")


@cache
def _read(name: str) -> str:
    return files("recog.doctor").joinpath("templates", name).read_text(encoding="utf-8")
