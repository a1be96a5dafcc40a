"""`recog scan`: what the data are, and what is wrong with them, before any time is spent on training. No torch."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from recog.core import notebook
from recog.core.errors import DataError
from recog.core.files import write_bytes_atomic
from recog.core.images.decode import DEFAULT_LIMITS, ImageLimits
from recog.core.task import Task
from recog.core.version import __version__
from recog.data.data_layout import DETECTED, DataLayout
from recog.data.dataset import (
    Dataset,
    Exclusion,
    Sample,
    check_class_map,
    check_trainable,
    class_counts,
    class_map_gaps,
    describe_unmeasurable,
)
from recog.data.groups import suspect_groups
from recog.data.inspection import (
    Copies,
    ImageSummary,
    Inspected,
    Overlap,
    find_overlap,
    image_notes,
    inspect_images,
    summarise,
)
from recog.data.lists.label_format import AS_FOUND, LabelFormat
from recog.data.sources import Source, open_source
from recog.data.split import SplitConfig, describe_small_classes, join_groups, split_dataset
from recog.data.store import are_too_many, describe_bad, exclude_bad
from recog.doctor.examine import DeepProgress, Examination, examine
from recog.doctor.features import choose_networks, pretrained_extractor, run_extractor
from recog.doctor.findings import Findings, table_rows, write_csv
from recog.doctor.page import render_findings
from recog.evaluation.measures.task import TASK_MEASURES
from recog.recipes.config import OPTIONS
from recog.verbs.python.wording import in_python

FINDINGS_CSV, FINDINGS_PAGE = "findings.csv", "findings.html"
ALL = "all"  # what images without a given split are counted under
IMBALANCE_WARNING = 10.0
_KEYWORDS = (*OPTIONS, "labels", "layout")  # of `scan`, and of `recog.train`, which its remedies are about


@dataclass(frozen=True, kw_only=True)
class ScanReport:
    """`problems` stand in the way of training; `warnings` do not. Sets of copies are lists of names."""

    name: str
    layout: str
    why: str
    task: Task
    class_names: tuple[str, ...]
    num_images_of: Mapping[str, int]  # split -> images, the bad ones too
    num_usable_of: Mapping[str, int]  # split -> images without the bad ones, as in what follows
    counts: Mapping[str, tuple[int, ...]]  # split -> images per class; one with several labels counts under each
    num_labels_per_image: Mapping[str, tuple[int, ...]]  # split -> images with 0, 1, 2, ... labels
    images: ImageSummary
    bad: tuple[Exclusion, ...]
    left_out: tuple[Exclusion, ...]
    copies: tuple[tuple[str, ...], ...]
    across_classes: tuple[tuple[str, ...], ...]
    across_splits: tuple[tuple[str, ...], ...]
    groups_across_splits: tuple[str, ...]
    num_groups: int
    columns: tuple[str, ...]  # of the list of images, which `recog evaluate --slice` takes
    class_map_gaps: Mapping[str, list[str]]  # split -> classes that others have and it lacks
    imbalance: float | None  # images of the largest class to those of the smallest, in train or all
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    problems: tuple[str, ...]

    def __repr__(self) -> str:
        counts = f"num_images={self.num_images}, num_classes={len(self.class_names)}, num_bad={len(self.bad)}"
        return (
            f"ScanReport({self.name!r}, {counts}, num_warnings={len(self.warnings)}, num_problems={len(self.problems)})"
        )

    def _repr_html_(self) -> str:
        totals = [sum(column) for column in zip(*self.counts.values(), strict=True)]
        most = max(totals, default=1) or 1
        remarks = [*(f"Problem: {text}" for text in self.problems), *(f"Warning: {text}" for text in self.warnings)]
        splits = ", ".join(f"{split} {count:,}" for split, count in self.num_images_of.items())
        return notebook.card(
            self.name,
            f"{self.num_images:,} images ({splits}), {len(self.class_names):,} classes, {len(self.bad):,} unreadable",
            *map(notebook.paragraph, remarks),
            notebook.bars((n, count / most, f"{count:,}") for n, count in zip(self.class_names, totals, strict=True)),
        )

    @property
    def num_images(self) -> int:
        return sum(self.num_images_of.values())

    @property
    def label_cardinality(self) -> float | None:
        """Mean number of labels of an image, of multi-label data."""
        num_labels = sum(sum(counts) for counts in self.counts.values())
        return TASK_MEASURES[self.task].label_cardinality(num_labels, sum(self.num_usable_of.values()))

    def to_dict(self) -> dict[str, Any]:
        return {
            "num_images": self.num_images,
            "usable": not self.problems,
            "label_cardinality": self.label_cardinality,
            **asdict(self),
        }


@dataclass(frozen=True, kw_only=True)
class ScanRun:
    """A scan of a dataset."""

    report: ScanReport
    findings: Findings | None = None  # of a deep scan

    def __repr__(self) -> str:
        return f"ScanRun({self.report!r}{'' if self.findings is None else f', findings={self.findings.counts}'})"

    def _repr_html_(self) -> str:
        return self.report._repr_html_()

    @property
    def notes(self) -> tuple[str, ...]:
        return self.report.notes


@dataclass(frozen=True, kw_only=True)
class DeepConfig:
    run: str | Path | None = None  # the run or bundle whose features are used; a pretrained network if None
    num_threads: int | None = None  # of the network; one per core if None


@dataclass(frozen=True, kw_only=True)
class ScanProgress:
    num_done: int
    num_images: int


def scan(
    source: Source,
    *,
    labels: LabelFormat = AS_FOUND,
    layout: DataLayout = DETECTED,
    limits: ImageLimits = DEFAULT_LIMITS,
    task: Task | None = None,
    class_names: Sequence[str] | None = None,
    deep: bool | str | Path = False,
) -> ScanRun:
    """Look at every image of `source`, as for training. Raises DataError where it cannot be understood at all.

    `deep` also compares the images with each other, for wrong labels, near duplicates, shortcuts and odd images: True by the
    features of a pretrained network, a path or name by those of this run or bundle.

    `labels` describes how several labels of one image are written, where a list needs it; `layout`, which folders are splits and
    classes and which images belong together; `limits`, how large an image may be. `task` and
    `class_names` are as for training.
    """
    labels = labels if task is None else replace(labels, task=task)
    by = DeepConfig(run=None if deep is True else deep) if deep else None
    events = scan_events(source, labels=labels, layout=layout, limits=limits, class_names=class_names, deep=by)
    found = {type(event): event for event in events}
    report, examined = found.get(ScanReport), found.get(Examination)
    if not isinstance(report, ScanReport):
        raise DataError(f"{source} was not scanned.")  # scan_events gives a ScanReport or raises
    notes, warnings, problems = map(_in_python, (report.notes, report.warnings, report.problems))
    report = replace(report, notes=notes, warnings=warnings, problems=problems)
    return ScanRun(report=report, findings=examined.findings if isinstance(examined, Examination) else None)


def _in_python(texts: Sequence[str]) -> tuple[str, ...]:
    return tuple(in_python(text, _KEYWORDS) for text in texts)


def scan_events(
    source: Source,
    *,
    labels: LabelFormat = AS_FOUND,
    layout: DataLayout = DETECTED,
    limits: ImageLimits = DEFAULT_LIMITS,
    class_names: Sequence[str] | None = None,
    deep: DeepConfig | None = None,
) -> Iterator[ScanProgress | ScanReport | DeepProgress | Examination]:
    """The progress as it happens, then the ScanReport; with `deep` progress again, and the Examination."""
    extractor = None if deep is None or deep.run is None else run_extractor(deep.run, num_threads=deep.num_threads)
    dataset = open_source(source, one_class_map=False, labels=labels, layout=layout, class_names=class_names)
    inspected: list[Inspected] = []
    yield ScanProgress(num_done=0, num_images=len(dataset.samples))
    for image in inspect_images(dataset.samples, limits, check_pixels=True):
        inspected.append(image)
        yield ScanProgress(num_done=len(inspected), num_images=len(dataset.samples))
    yield _report(dataset, inspected)
    if extractor is not None:
        yield from examine(dataset, inspected, extractor)
    elif deep is not None:
        yield DeepProgress(stage="preparing the network", num_done=0, num_all=1)
        sides = [min(image.info.width, image.info.height) for image in inspected if image.info is not None]
        with pretrained_extractor(choose_networks(sides), limits, num_threads=deep.num_threads) as pretrained:
            yield from examine(dataset, inspected, pretrained)


def write_findings(examined: Examination, folder: Path, *, data: str) -> None:
    """Write findings.csv and findings.html into `folder`; `data` is what the user calls the data."""
    write_bytes_atomic(folder / FINDINGS_CSV, write_csv(table_rows(examined.findings)))
    page = render_findings(examined.findings, examined.dataset.samples, version=__version__, data=shlex.quote(data))
    write_bytes_atomic(folder / FINDINGS_PAGE, page.encode("utf-8", "surrogatepass"))


def _report(dataset: Dataset, inspected: Sequence[Inspected]) -> ScanReport:
    hashes = [image.sha256 for image in inspected]
    bad = tuple(Exclusion(name=i.bad.name, reason=i.bad.reason) for i in inspected if i.bad is not None)
    usable = dataset.without(bad)
    overlap = find_overlap(dataset.samples, hashes)
    counts = _counts(usable, dataset.given_splits)
    parts, usable_parts = (
        {split: data.subset(split) for split in dataset.given_splits} or {ALL: data.samples}
        for data in (dataset, usable)
    )
    imbalance = _imbalance(counts.get("train") or counts.get(ALL) or ())
    problems = tuple(_problems(dataset, inspected, hashes))
    return ScanReport(
        name=dataset.name,
        layout=dataset.layout,
        why=dataset.why,
        task=dataset.task,
        class_names=dataset.class_names,
        num_images_of={split: len(samples) for split, samples in parts.items()},
        num_usable_of={split: len(samples) for split, samples in usable_parts.items()},
        counts=counts,
        num_labels_per_image={split: _cardinalities(samples) for split, samples in usable_parts.items()},
        images=summarise(inspected),
        bad=bad,
        left_out=dataset.exclusions,
        copies=_names(overlap.copies),
        across_classes=_names(overlap.across_classes),
        across_splits=_names(overlap.across_splits),
        groups_across_splits=overlap.groups_across_splits,
        num_groups=len({sample.group for sample in dataset.samples} - {None}),
        columns=dataset.column_names,
        class_map_gaps=class_map_gaps(dataset),
        imbalance=imbalance,
        notes=dataset.notes,
        warnings=tuple(_warnings(dataset, overlap, inspected, imbalance, is_trainable=not problems)),
        problems=problems,
    )


def _counts(dataset: Dataset, splits: Sequence[str]) -> dict[str, tuple[int, ...]]:
    num_classes = len(dataset.class_names)
    if not splits:
        return {ALL: tuple(class_counts(dataset.samples, num_classes))}
    return {split: tuple(class_counts(dataset.subset(split), num_classes)) for split in splits}


def _cardinalities(samples: Sequence[Sample]) -> tuple[int, ...]:
    return tuple(int(n) for n in np.bincount([len(sample.labels) for sample in samples], minlength=1))


def _imbalance(counts: Sequence[int]) -> float | None:
    return max(counts) / min(counts) if counts and min(counts) else None


def _names(sets: Sequence[Copies]) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(sample.name for sample in same) for same in sets)


def _warnings(
    dataset: Dataset, overlap: Overlap, inspected: Sequence[Inspected], imbalance: float | None, *, is_trainable: bool
) -> Iterator[str]:
    yield from overlap.notes()
    yield from suspect_groups(dataset)
    yield from describe_unmeasurable(dataset)
    if imbalance is not None and imbalance >= IMBALANCE_WARNING:
        yield f"the largest class has {imbalance:.0f} times the images of the smallest; look at the per-class numbers"
    yield from image_notes(inspected)
    num_bad = sum(image.bad is not None for image in inspected)
    if not are_too_many(num_bad, len(inspected)):  # else a problem
        yield from describe_bad(num_bad, len(inspected))
    if is_trainable:  # else the problem is the same, with a remedy of its own
        yield from describe_small_classes(dataset, SplitConfig())


def _problems(dataset: Dataset, inspected: Sequence[Inspected], hashes: Sequence[str]) -> Iterator[str]:
    """What `recog train` would stop at, in its order; each check is tried on its own."""
    try:
        check_class_map(dataset)
    except DataError as error:
        yield str(error)
        return
    try:
        usable = exclude_bad(dataset, [image.bad for image in inspected if image.bad is not None], policy="auto")
        check_trainable(usable)
        kept = {sample.name for sample in usable.samples}
        keys = [key for sample, key in zip(dataset.samples, hashes, strict=True) if sample.name in kept]
        groups = join_groups(keys, [sample.group for sample in usable.samples])
        check_trainable(split_dataset(usable, SplitConfig(), seed=0, groups=groups))
    except DataError as error:
        yield str(error)
