"""`recog scan`."""

from __future__ import annotations

import importlib
import re
import shlex
import time
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated

import typer

from recog.cli.guard import Threads, guarded
from recog.cli.labels import DataOptions, TaskOption, with_data_options
from recog.cli.output import notes, print_json, print_lines, print_note, print_rendered
from recog.core.errors import ConfigError, DataError
from recog.core.outputs import check_preview
from recog.core.task import Task
from recog.core.text import span, visible
from recog.evaluation.measures.task import TASK_MEASURES
from recog.report.text import plural

if TYPE_CHECKING:
    from recog.core.images.decode import ImageLimits
    from recog.data.data_layout import DataLayout
    from recog.data.dataset import Exclusion
    from recog.data.lists.label_format import LabelFormat
    from recog.doctor.examine import Examination
    from recog.doctor.findings import Finding, Findings
    from recog.recipes.config import TrainConfig
    from recog.verbs.scan import DeepConfig, ScanReport

_MAX_CLASSES = 16  # rows of the table; of more classes the largest and the smallest are shown
_MAX_LISTED = 5
_MIN_NAMED_IMBALANCE = 1.5  # the largest class over the smallest
_PER_IMAGE: Mapping[Task, str] = MappingProxyType(
    {"multiclass": "", "multilabel": ", of which each image has any number"}
)
_TOTAL: Mapping[Task, str] = MappingProxyType({"multiclass": "all", "multilabel": "images"})  # the last row's name
NOTED_S = 5.0  # a phase that takes longer is noted where no bar shows it
FINDINGS = Path("findings")  # the default folder of the folders of findings


@guarded
@with_data_options
def scan(
    data: Annotated[str, typer.Argument(help="Class folders, a CSV, Parquet, zip, tar or shards, or a name.")],
    preview: Annotated[Path | None, typer.Option(help="Write a sample of an augmented batch to this PNG file.")] = None,
    deep: Annotated[
        bool,
        typer.Option(
            "--deep",
            help="Also look for wrong labels, near duplicates, shortcuts and odd images; write a page and a CSV.",
        ),
    ] = False,
    run: Annotated[
        str | None,
        typer.Option(metavar="RUN", help="With --deep: features of this run or bundle, not a pretrained network."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="With --deep: a new folder for the findings; default: findings/NAME-1."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="A setting of limits, such as limits.max_pixels=60000000; with --preview, any of training."
        ),
    ] = None,
    *,
    data_options: DataOptions,
    task: TaskOption = None,
    threads: Threads = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON on stdout.")] = False,
) -> None:
    """Summarise a dataset and report its problems. Exit code 3 if it cannot be trained on as it is."""
    from recog.verbs.scan import DeepConfig

    labels = data_options.labels(task)
    if preview is not None:
        check_preview(preview)
    layout = data_options.layout()
    config = _read_settings(settings or [], preview)
    _check_deep(deep, run, out)
    by = DeepConfig(run=run, num_threads=threads) if deep else None
    report, examined = _scan_with_bar(data, labels, layout, config.limits, by)
    found = None if examined is None else examined.findings
    folder = None if examined is None else _write_findings(examined, out, data)
    if as_json:
        deep_part = {} if found is None else {"deep": {**found.to_dict(), "folder": str(folder)}}
        print_json({**report.to_dict(), **deep_part}, indent=2)
    else:
        _print_report(report)
        if found is not None and folder is not None:
            _print_findings(found, folder, data)
    if report.problems:
        raise typer.Exit(DataError.exit_code)
    if preview is not None:
        from recog.verbs.preview import preview as draw

        augment = draw(data, preview, config, labels=labels, layout=layout)
        print_note(f"preview: {preview} (policy {augment.policy}, geometry {augment.geometry})")


def _read_settings(settings: Sequence[str], preview: Path | None) -> TrainConfig:
    """Checked before the images are looked at, which may take minutes."""
    from recog.core.config import build_config, override
    from recog.recipes.config import TrainConfig

    config = build_config(TrainConfig, override({}, settings))
    if preview is None and config != TrainConfig(limits=config.limits):
        raise ConfigError("--set needs --preview, except for limits. Add --preview out.png or remove --set.")
    return config


def _check_deep(deep: bool, run: str | None, out: Path | None) -> None:
    from recog.core.outputs import check_new_path

    given = [name for name, value in (("--run", run), ("--out", out)) if value is not None]
    if given and not deep:
        raise ConfigError(
            f"{' and '.join(given)} {'needs' if len(given) == 1 else 'need'} --deep. Add --deep or remove {' and '.join(given)}."
        )
    if out is not None:
        check_new_path(out, "--out")
    if deep and run is None and find_spec("torch") is None:
        importlib.import_module("torch")  # before the images are looked at; its absence is reported


def _scan_with_bar(
    data: str,
    labels: LabelFormat,
    layout: DataLayout,
    limits: ImageLimits,
    deep: DeepConfig | None,
) -> tuple[ScanReport, Examination | None]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from recog.doctor.examine import DeepProgress, Examination
    from recog.verbs.scan import ScanProgress, ScanReport, scan_events

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    report, examined, lines = None, None, _PhaseLines()
    with Progress(*columns, console=notes, transient=True, disable=not notes.is_terminal) as progress:
        task = progress.add_task("looking at images", total=None)
        for event in scan_events(data, labels=labels, layout=layout, limits=limits, deep=deep):
            match event:
                case ScanProgress():
                    lines.show("looking at images", event.num_done, event.num_images)
                    if event.num_done % 100 == 0 or event.num_done == event.num_images:
                        progress.update(task, completed=event.num_done, total=event.num_images)
                case DeepProgress():
                    lines.show(event.stage, event.num_done, event.num_all)
                    if progress.tasks[0].description != event.stage:
                        progress.reset(task, description=event.stage)
                    progress.update(task, completed=event.num_done, total=event.num_all)
                case ScanReport():
                    report = event
                case Examination():
                    examined = event
    if report is None:
        raise DataError(f"{data} was not scanned.")
    return report, examined


class _PhaseLines:
    """In a file or pipe, which show no bar, one line for each phase that takes over NOTED_S, or whose end cannot be told."""

    def __init__(self) -> None:
        self._stage, self._started, self._is_noted = "", 0.0, notes.is_terminal

    def show(self, stage: str, num_done: int, num_all: int) -> None:
        if stage != self._stage:
            self._stage, self._started, self._is_noted = stage, time.perf_counter(), notes.is_terminal
        passed_s = time.perf_counter() - self._started
        if self._is_noted or (passed_s < NOTED_S and num_all > 1):
            return
        self._is_noted = True
        left = f": {num_done:,} of {num_all:,}, {passed_s * (num_all - num_done) / max(1, num_done):.0f} s left"
        print_note(f"{stage}{left if num_all > 1 else ''}")


def _write_findings(examined: Examination, out: Path | None, data: str) -> Path:
    from recog.core.files import claim_folder
    from recog.core.outputs import derive_name
    from recog.verbs.scan import write_findings

    if out is None:
        folder = claim_folder(FINDINGS, derive_name(examined.dataset.name))
    else:
        out.mkdir(parents=True)
        folder = out
    write_findings(examined, folder, data=data)
    return folder


def _print_findings(found: Findings, folder: Path, data: str) -> None:
    from rich.table import Table
    from rich.text import Text

    from recog.doctor.findings import KINDS
    from recog.verbs.scan import FINDINGS_CSV, FINDINGS_PAGE

    if found.counts:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for name, justify in (("finding", "left"), ("severity", "left"), ("count", "right"), ("the first", "left")):
            table.add_column(name, justify=justify, overflow="ellipsis", no_wrap=True)  # type: ignore[arg-type]
        for kind, count in found.counts.items():
            first = found.of_kind(kind)[0]
            shown = f"{_name(found, first)}: {first.reason}" if first.images else first.reason
            table.add_row(KINDS[kind].title, KINDS[kind].severity, f"{count:,}", Text(visible(shown)))
        print_rendered(lambda console: console.print(table))
    else:
        print_lines("deep scan: nothing was found")
    _print_some("not listed", found.notes)
    print_lines(f"look and mark: {folder / FINDINGS_PAGE}", f"as a table: {folder / FINDINGS_CSV}")
    marked = "findings-marked.csv"
    print_lines(f"then: recog train {shlex.quote(data)} --exclude {marked} --relabel {marked}")


def _name(found: Findings, finding: Finding) -> str:
    return found.names[finding.images[0]]


def _print_report(report: ScanReport) -> None:
    images = report.images
    print_lines(f"{report.name}: {report.layout} ({report.why})" if report.why else f"{report.name}: {report.layout}")
    measures = TASK_MEASURES[report.task]
    num_classes = f"{plural(len(report.class_names), measures.thing, measures.things)}{_PER_IMAGE[report.task]}"
    unusable = f", of which {len(report.bad):,} cannot be used" if report.bad else ""
    print_lines(f"{plural(report.num_images, 'image')}{unusable}, {num_classes}")
    _print_classes(report)
    if images.num_images:
        print_lines(f"sizes: {_sizes(images.widths_px, images.heights_px)}")
        # an array that stands in memory has no file format
        formats = "no files, but pixels" if set(images.formats) == {"memory"} else f"formats: {_tally(images.formats)}"
        print_lines(f"{formats}; modes: {_tally(images.modes)}")
    if images.grey16_max is not None:
        print_lines(f"16-bit images: the highest level is {images.grey16_max:,}")
    if report.num_groups:
        print_lines(f"groups: {report.num_groups:,}, each of which stays within one split where splits are made")
    if report.columns:
        print_lines(f"further columns, for evaluate --slice: {_listed(report.columns)}")
    for split, classes in report.class_map_gaps.items():
        print_lines(f"split {split} lacks {plural(len(classes), 'class', 'classes')}: {_listed(classes)}")
    print_lines(f"bad files: {len(report.bad)}")
    _print_exclusions(report.bad)
    if report.left_out:
        print_lines(f"left out: {len(report.left_out)}")
        _print_exclusions(report.left_out)
    num_copies = sum(len(same) - 1 for same in report.copies)
    print_lines(
        f"identical files: {_copies(num_copies, len(report.copies))}; {len(report.across_classes)} across classes, "
        f"{len(report.across_splits)} across splits"
    )
    _print_some("note", report.notes)
    _print_some("warning", [_of_train(text) for text in report.warnings])
    shown = {f"{bad.name}: {bad.reason}" for bad in report.bad[:_MAX_LISTED]}
    for text in report.problems:
        first, *listed = _of_train(text).split("\n  ")  # as guard prints an error; other newlines come from names
        new = [line for line in listed if line not in shown]
        print_lines(f"cannot be trained on: {first}", *(f"  {line}" for line in new))
    if not report.problems:
        print_lines("can be trained on")


def _print_classes(report: ScanReport) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(TASK_MEASURES[report.task].thing, overflow="fold")
    for split in report.counts:
        table.add_column(split, justify="right")
    totals = [sum(counts) for counts in zip(*report.counts.values(), strict=True)]
    order = list(range(len(totals)))
    num_hidden = len(order) - _MAX_CLASSES
    if num_hidden > 0:
        by_size = sorted(order, key=lambda label: (-totals[label], label))
        order = [*by_size[: _MAX_CLASSES // 2], *by_size[-_MAX_CLASSES // 2 :]]
    for row, label in enumerate(order):
        if num_hidden > 0 and row == _MAX_CLASSES // 2:
            table.add_row(Text(f"({num_hidden} classes between)"))
        name = report.class_names[label]
        table.add_row(Text(visible(name)), *(f"{counts[label]:,}" for counts in report.counts.values()))
    if len(report.class_names) > 1:
        table.add_row(Text(_TOTAL[report.task]), *(f"{n:,}" for n in report.num_usable_of.values()), style="bold")
    print_rendered(lambda console: console.print(table, soft_wrap=True))
    if report.label_cardinality is not None:
        _print_cardinality(report, report.label_cardinality)
    if report.imbalance is not None and report.imbalance >= _MIN_NAMED_IMBALANCE:
        print_lines(f"the largest class has {report.imbalance:.1f} times the images of the smallest")


def _print_cardinality(report: ScanReport, mean: float) -> None:
    longest = max(map(len, report.num_labels_per_image.values()))
    totals = [sum(n[k] for n in report.num_labels_per_image.values() if k < len(n)) for k in range(longest)]
    spread = ", ".join(f"{n:,} with {k}" for k, n in enumerate(totals) if n)
    print_lines(f"labels per image: {mean:.2f} on average; {spread}")


def _of_train(text: str) -> str:
    """`text` with the options that only `recog train` has called so."""
    return re.sub(r"(?<!train )--(?=(?:min-images|split|balance|bad-images) )", "recog train --", text)


def _sizes(widths: Sequence[int], heights: Sequence[int]) -> str:
    if widths[0] == widths[-1] and heights[0] == heights[-1]:
        return f"all {widths[0]} x {heights[0]} px"
    sides = (
        f"{name} {span(sides[0], sides[-1], 'd')}"
        + ("" if sides[0] == sides[-1] else f" (90 %: {span(sides[1], sides[3], 'd')})")
        for name, sides in (("width", widths), ("height", heights))
    )
    return f"median {widths[2]} x {heights[2]} px; {', '.join(sides)}"


def _tally(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MAX_LISTED} more" if len(names) > _MAX_LISTED else ""
    return ", ".join(names[:_MAX_LISTED]) + more


def _copies(num_copies: int, num_images: int) -> str:
    return f"{plural(num_copies, 'copy', 'copies')} of {plural(num_images, 'image')}" if num_copies else "none"


def _print_some(kind: str, texts: Sequence[str]) -> None:
    """The first few, as a thousand shards may have a note each."""
    for text in texts[:_MAX_LISTED]:
        print_lines(f"{kind}: {text}")
    if len(texts) > _MAX_LISTED:
        print_lines(f"  and {len(texts) - _MAX_LISTED:,} {kind}s more; --json lists all")


def _print_exclusions(exclusions: Sequence[Exclusion]) -> None:
    for exclusion in exclusions[:_MAX_LISTED]:
        print_lines(f"  {exclusion.name}: {exclusion.reason}")
    if len(exclusions) > _MAX_LISTED:
        print_lines(f"  and {len(exclusions) - _MAX_LISTED} more; --json lists all")
