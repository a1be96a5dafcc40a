"""What a deep scan found: kinds of findings, each finding with its images, and the CSV in which they are decided on."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from recog.core.task import Task
from recog.data.dataset import Dataset, Sample
from recog.data.decisions import ACTION, EXCLUDE, IMAGE, LABELS_JOINED_BY, NEW_LABEL
from recog.report.text import spreadsheet_cell

Severity = Literal["error", "warning", "info"]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of finding: what it is called, how bad it is, and what to do."""

    title: str
    severity: Severity
    advice: str


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "leak": Kind(
            title="Same picture in several splits",
            severity="error",
            advice="Results on these images are too good, as the model has seen them. The copies outside the test split are "
            "marked 'exclude'.",
        ),
        "label_conflict": Kind(
            title="Same picture under two labels",
            severity="error",
            advice="At least one of the labels is wrong. Relabel it, or exclude the picture if its label is unclear.",
        ),
        "group_leak": Kind(
            title="Group in several splits",
            severity="error",
            advice="Images of one group are alike, so results on them are too good. Split by group: --group.",
        ),
        "label_error": Kind(
            title="Label looks wrong",
            severity="warning",
            advice="Three checks that do not rely on the label of the image all see another class. Relabel it if they are right, "
            "keep it if the label is, and exclude it if it shows neither. Where classes are hard to tell apart, right labels are "
            "listed too: look before you accept a suggestion.",
        ),
        "shortcut": Kind(
            title="Class can be told without the picture",
            severity="warning",
            advice="The model may learn how the files were made, not what they show, and fail on others. Make the files of all "
            "classes alike, or collect them from the same sources.",
        ),
        "confusable": Kind(
            title="Classes hard to tell apart",
            severity="warning",
            advice="Images of each are taken for the other. Check that the two labels mean different things; else merge them.",
        ),
        "look_alike_names": Kind(
            title="Class names look alike",
            severity="warning",
            advice="They are probably one class written in two ways. Rename the folders or labels.",
        ),
        "small_class": Kind(
            title="Class has few images",
            severity="warning",
            advice="It will be recognised less reliably, and its measures have wide intervals. Add images.",
        ),
        "mask": Kind(
            title="Looks like a mask or a drawing",
            severity="warning",
            advice="A few flat colours where the other images are photos: perhaps an annotation that lies beside them.",
        ),
        "blank": Kind(title="Blank image", severity="warning", advice="It shows nothing; exclude it."),
        "near_duplicate": Kind(
            title="Near duplicates",
            severity="info",
            advice="Where splits are made by chance, only identical files are kept together; near duplicates may end up on both "
            "sides. Exclude all but one, or keep them in one split: --group.",
        ),
        "outlier": Kind(
            title="Unlike all other images",
            severity="info",
            advice="Perhaps it does not belong here; or it is rare, and more like it would help.",
        ),
        "blurred": Kind(title="Blurred", severity="info", advice="Keep it if such images occur in use."),
        "dark": Kind(title="Very dark", severity="info", advice="Keep it if such images occur in use."),
        "overexposed": Kind(title="Over-exposed", severity="info", advice="Keep it if such images occur in use."),
        "tiny": Kind(
            title="Tiny image",
            severity="info",
            advice="It is enlarged for the network and shows less detail than the others.",
        ),
    }
)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """`images` are numbers of samples, the one that it is about first; none where it is about classes or the whole.

    `actions` are proposed for single images, by number. A higher `score` is more certain, within its kind.
    """

    kind: str
    reason: str
    images: tuple[int, ...] = ()
    score: float | None = None
    suggested_label: str | None = None
    actions: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Shortcut:
    """How well a fact about the files tells the class, by cross-validated AUROC: 0.5 is chance, 1 always."""

    fact: str
    auroc: float  # mean over the classes
    worst_auroc: float  # the highest of a class
    worst_class: str


@dataclass(frozen=True, kw_only=True)
class Findings:
    """`findings` are in the order of KINDS, within a kind the most certain first; their images are numbers of `names`."""

    data: str
    task: Task
    class_names: tuple[str, ...]
    names: tuple[str, ...] = field(repr=False)
    labels: tuple[str, ...] = field(repr=False)  # of an image with several, joined by '|'
    splits: tuple[str, ...] = field(repr=False)  # '' where the data have none
    findings: tuple[Finding, ...] = field(repr=False)
    shortcuts: tuple[Shortcut, ...]
    notes: tuple[
        str, ...
    ]  # what was not judged, and kinds that hold for so many images that they are the data's nature

    @property
    def counts(self) -> dict[str, int]:
        """Findings by kind, without the kinds of which there is none."""
        counts = Counter(finding.kind for finding in self.findings)
        return {kind: counts[kind] for kind in KINDS if counts[kind]}

    def of_kind(self, kind: str) -> list[Finding]:
        return [finding for finding in self.findings if finding.kind == kind]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "counts": self.counts,
            "findings": [
                {
                    "kind": finding.kind,
                    "severity": KINDS[finding.kind].severity,
                    "reason": finding.reason,
                    "images": [self.names[i] for i in finding.images],
                    "labels": [self.labels[i] for i in finding.images],
                    "score": finding.score,
                    "suggested_label": finding.suggested_label,
                    "actions": {self.names[i]: action for i, action in finding.actions.items()},
                }
                for finding in self.findings
            ],
            "shortcuts": [asdict(shortcut) for shortcut in self.shortcuts],
            "notes": list(self.notes),
        }


COLUMNS = (
    IMAGE,
    ACTION,
    NEW_LABEL,
    "finding",
    "number",
    "severity",
    "split",
    "label",
    "suggested_label",
    "score",
    "reason",
)


def table_rows(found: Findings) -> Iterator[list[str]]:
    """The cells of findings.csv: a row per finding and image; `number` is that of the finding, shared by its images."""
    actions = {i: action for finding in found.findings for i, action in finding.actions.items()}
    for number, finding in enumerate(found.findings, start=1):
        for i in finding.images:
            cells = (
                found.names[i],
                actions.get(i, ""),
                "",
                finding.kind,
                str(number),
                KINDS[finding.kind].severity,
                found.splits[i],
                found.labels[i],
                finding.suggested_label or "",
                "" if finding.score is None else f"{finding.score:.4g}",
                finding.reason,
            )
            yield [spreadsheet_cell(cell) for cell in cells]


def write_csv(rows: Iterable[Sequence[str]]) -> bytes:
    """UTF-8 with a header; lines end with CR LF (RFC 4180)."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(COLUMNS)
    writer.writerows(rows)
    return buffer.getvalue().encode("utf-8", "surrogatepass")


def label_of(dataset: Dataset, sample: Sample) -> str:
    return LABELS_JOINED_BY.join(dataset.class_names[label] for label in sample.labels)


def excluded_copies(dataset: Dataset, pairs: Sequence[tuple[int, int]]) -> dict[int, str]:
    """'exclude' for the image of each pair of copies that is in the earlier split: test stays, else val."""
    order = {split: place for place, split in enumerate(dataset.given_splits)}
    places = {i: order.get(dataset.samples[i].split or "", -1) for pair in pairs for i in pair}
    earlier = (min(pair, key=lambda i: places[i]) for pair in pairs if len({places[i] for i in pair}) > 1)
    return dict.fromkeys(earlier, EXCLUDE)
