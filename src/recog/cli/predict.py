"""`recog predict`."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from recog.cli.guard import Threads, ViewsOption, guarded
from recog.cli.labels import Encoding, Images, NameEncoding, PathColumn
from recog.cli.output import notes, print_cells, print_note
from recog.core.errors import BadImage, ConfigError, DataError
from recog.core.task import Task
from recog.core.text import visible
from recog.report.text import listing, percent, plural

if TYPE_CHECKING:
    from rich.progress import Progress

    from recog.answers.stream import Answer, Summary
    from recog.answers.writers import Writer
    from recog.runtime.prediction import MultilabelPrediction, Prediction
    from recog.verbs.predict import AnswerFiles, AnswerJob, AnswerOptions

Form = Literal["table", "csv", "json", "counts"]

NUM_WITHOUT_BAR = 200  # images up to which no bar is shown; also the images of one page of a table on a terminal
_SEPARATOR = " | "


@guarded
def predict(
    bundle: Annotated[str, typer.Argument(help="A bundle, a run's folder, or a run's name.")],
    images: Annotated[
        list[str] | None,
        typer.Argument(
            help="Image files, folders, patterns, zip or tar archives, CSV lists; '-': one image from standard input."
        ),
    ] = None,
    list_file: Annotated[
        str | None,
        typer.Option("--from", metavar="LIST", help="A list of image files, one a line; '-': standard input."),
    ] = None,
    top: Annotated[int, typer.Option(help="Number of classes to show per image.", min=1)] = 1,
    sets: Annotated[bool, typer.Option("--sets", help="Show the prediction set of each image.")] = False,
    reject: Annotated[bool, typer.Option("--reject", help="Answer 'unknown' for images unlike every class.")] = False,
    explain: Annotated[
        bool,
        typer.Option("--explain", help="Show where each image counts for its answer, in --save, --sheet and JSON."),
    ] = False,
    min_confidence: Annotated[
        float | None, typer.Option(help="Answer 'unsure' below this confidence.", min=0.0, max=1.0)
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="New file for the answers: .csv, .json, .jsonl or .parquet.")
    ] = None,
    columns: Annotated[
        str, typer.Option(help="Columns of the table, such as id,label or image=name,probs; default: all.")
    ] = "",
    sort_into: Annotated[Path | None, typer.Option(help="Copy each image into this folder, by answer.")] = None,
    link: Annotated[bool, typer.Option("--link", help="With --sort-into: hard links instead of copies.")] = False,
    sheet: Annotated[Path | None, typer.Option(help="New HTML file with thumbnails by answer.")] = None,
    save: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write a copy of each image with its answer into this folder.")
    ] = None,
    shard: Annotated[
        str | None, typer.Option(metavar="I/N", help="Part I of N of the images, to divide them among machines.")
    ] = None,
    path_column: PathColumn = "",
    image_folders: Images = None,
    encoding: Encoding = "",
    names: NameEncoding = "",
    engine: Annotated[
        str, typer.Option(help="What runs the network: auto, or an engine that recog bench lists.")
    ] = "auto",
    views: ViewsOption = "one",
    threads: Threads = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV on stdout.")] = False,
    csv_raw: Annotated[
        bool, typer.Option("--csv-raw", help="CSV without the quote before cells that a spreadsheet would run.")
    ] = False,
) -> None:
    """Classify images with a bundle. Exit code 3 if any image could not be read; the others are still classified."""
    form = _stdout_form(output, is_filed=bool(sort_into or sheet or save), as_json=as_json, as_csv=as_csv or csv_raw)
    from recog.answers.inputs import ListOptions, gather, parse_shard
    from recog.bundle.manifest import find_bundle
    from recog.verbs.predict import AnswerFiles, AnswerOptions, load_for, plan_answers

    options = AnswerOptions(
        top=top,
        sets=sets,
        reject=reject,
        explain=explain,
        min_confidence=min_confidence,
        columns=columns,
        raw=csv_raw,
    )
    _check_used(options, form, output)
    files = AnswerFiles(output=output, sort_into=sort_into, link=link, sheet=sheet, save=save)
    if explain:
        _check_shows_maps(files, form, has_columns=bool(columns))
    files.check()
    part = None if shard is None else parse_shard(shard)
    folder = find_bundle(bundle)
    lists = ListOptions(names=names, path_column=path_column, images=tuple(image_folders or ()), encoding=encoding)
    inputs = gather(images or [], lists, list_file=list_file)
    predictor = load_for(folder, engine, num_images=len(inputs.names), views=views)
    job = plan_answers(predictor, inputs, options, files, shard=part)
    for note in job.inputs.notes:
        print_note(note)
    summary = _run(job, form)
    if job.price:
        print_note(job.price)
    for line in _summary_lines(job, summary, form):
        print_note(line)
    if summary.num_bad:
        raise typer.Exit(DataError.exit_code)


def to_output(arguments: Sequence[str]) -> list[str]:
    """`arguments` with the habit --csv FILE.csv and --json FILE.json written as --output FILE."""
    found: list[str] = []
    pending = list(arguments)
    while pending:
        argument = pending.pop(0)
        option, _, value = argument.partition("=")
        suffix = {"--csv": ".csv", "--json": ".json"}.get(option)
        if suffix and not value and pending and pending[0].lower().endswith(suffix):
            value = pending.pop(0)
            if os.path.lexists(value):
                raise ConfigError(
                    f"{option} {value} is ambiguous, as {value} exists. To write a file, give --output a new name; to read the "
                    f"list {value}, write --from {value}."
                )
        found += ["--output", value] if suffix and value else [argument]
    return found


def _stdout_form(output: Path | None, *, is_filed: bool, as_json: bool, as_csv: bool) -> Form:
    """What is asked of stdout. With --output, --csv and --json only confirm the format of the file."""
    if as_json and as_csv:
        raise ConfigError("--json cannot be combined with --csv or --csv-raw. Choose one of them.")
    form: Form = "json" if as_json else "csv" if as_csv else "table"
    if output is None:
        return "counts" if is_filed and form == "table" else form
    if form != "table" and not output.suffix.lower().startswith(f".{form}"):
        raise ConfigError(
            f"--{form} and --output {output} disagree. The name's ending decides the format: remove --{form}."
        )
    return "counts"


def _check_used(options: AnswerOptions, form: Form, output: Path | None) -> None:
    """ConfigError for an option that would change nothing."""
    if options.columns and form not in ("csv", "json") and output is None:
        raise ConfigError("--columns is for a file, CSV or JSON. Add --output FILE.csv, --csv or --json.")
    if options.columns and options.top > 1:
        raise ConfigError(
            "--top is for the default columns; with --columns, name prob:CLASS or probs. Remove one of them."
        )
    if form == "counts" and output is None and (options.top > 1 or options.sets):
        raise ConfigError(
            "--top and --sets are for a table of answers. Add --output FILE, --csv or --json, or remove them."
        )


def _check_shows_maps(files: AnswerFiles, form: Form, *, has_columns: bool) -> None:
    """ConfigError where nothing that is written can hold a map."""
    is_json = form == "json" or (files.output is not None and files.output.suffix.lower() in (".json", ".jsonl"))
    if files.save is None and files.sheet is None and not (is_json and not has_columns):
        raise ConfigError(
            "--explain draws maps, which need a place: add --save DIR (pictures), --sheet FILE.html, or --json (numbers; without "
            "--columns)."
        )


def _run(job: AnswerJob, form: Form) -> Summary:
    """Answer all images and print what `form` asks for."""
    from recog.answers.stream import Summary

    summary = Summary()
    with contextlib.closing(job.events()) as events, _bar(job, form) as bar:
        printer = _printer(job, form, bar)
        for event in events:
            if isinstance(event, Summary):
                summary = event
                continue
            if printer is not None:
                printer.add(event)
            if bar is not None:
                bar.advance(bar.task_ids[0])
        if printer is not None:
            printer.close()
    if form == "counts":
        _print_counts(summary)
    return summary


@contextlib.contextmanager
def _bar(job: AnswerJob, form: Form) -> Iterator[Progress | None]:
    """A bar on stderr for many images, unless rows that run over the same terminal show the progress."""
    total = len(job.inputs.names)
    runs_over = form in ("csv", "json") and sys.stdout.isatty()
    if total <= NUM_WITHOUT_BAR or not notes.is_terminal or runs_over:
        yield None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # stdout is left alone: it may be a file
    with Progress(*columns, console=notes, transient=True, redirect_stdout=False) as bar:
        bar.add_task("predicting", total=total)
        yield bar


def _printer(job: AnswerJob, form: Form, bar: Progress | None) -> Writer[Answer] | None:
    if form == "counts":
        return None
    if form == "table":
        return TablePrinter(*_TABLES[job.predictor.manifest.task](job), bar)
    from recog.answers.writers import CsvWriter, JsonWriter
    from recog.verbs.predict import layout_of

    layout = layout_of(job.predictor, job.options)
    return CsvWriter(sys.stdout, layout) if form == "csv" else JsonWriter(sys.stdout, layout, ascii_only=True)


LinesOf = Callable[["Answer", Any], Sequence[Sequence[str]]]
_Table = tuple[
    list[Column], LinesOf
]  # the columns behind that of the image, and what gives the cells of an answer's lines


def _table_of_label(job: AnswerJob) -> _Table:
    options = job.options
    columns = [Column("label"), Column("confidence", justify="right")]
    if options.sets:
        columns.append(Column(f"set ({_set_rate(job)})", overflow="fold"))

    def lines_of(answer: Answer, result: Prediction) -> list[tuple[str, ...]]:
        lines = _classes(answer, result, options.top)
        if not options.sets:
            return list(lines)
        label_set = _SEPARATOR.join(result.label_set or ())
        return [(*line, label_set if i == 0 else "") for i, line in enumerate(lines)]

    return columns, lines_of


def _classes(answer: Answer, result: Prediction, top: int) -> list[tuple[str, str]]:
    """The most probable classes and their probabilities; of an unknown image that alone, as it has no probability."""
    if result.is_unknown:
        return [(result.label, "")]
    lines = [(label, f"{prob:.1%}") for label, prob in result.top(top)]
    if answer.num_dropped:
        lines[0] = (f"{answer.labels[0]} ({lines[0][0]})", lines[0][1])
    return lines


def _set_rate(job: AnswerJob) -> str:
    """Of how many images the set contains the true class."""
    sets = job.predictor.calibration.sets
    return "" if sets is None else f"{100 - 100 * sets.alpha:.3g}%"


def _table_of_labels(job: AnswerJob) -> _Table:
    return [Column("labels", overflow="fold"), Column("probability", justify="right")], _lines_of_labels


def _lines_of_labels(answer: Answer, result: MultilabelPrediction) -> list[tuple[str, str]]:
    probs = result.probs_by_label
    return [(label, f"{probs[label]:.1%}") for label in answer.labels] or [("(no label)", "")]


_TABLES: Mapping[Task, Callable[[AnswerJob], _Table]] = MappingProxyType(
    {"multiclass": _table_of_label, "multilabel": _table_of_labels}
)
_BELOW: Mapping[Task, Callable[[Summary, float], str]] = MappingProxyType(  # what --min-confidence left out
    {
        "multiclass": lambda summary, least: (
            f"unsure: {summary.num_dropped:,} of {plural(summary.num_images, 'image')}, below confidence {least:g}"
        ),
        "multilabel": lambda summary, least: (
            f"left out: {plural(summary.num_dropped, 'label')} below confidence {least:g}"
        ),
    }
)


class TablePrinter:
    """A line per class of each answer: on a terminal a table, in pages; into a file or pipe cells separated by tabs, at once."""

    def __init__(self, columns: Sequence[Column], lines_of: LinesOf, bar: Progress | None = None) -> None:
        self._columns, self._lines_of, self._bar = columns, lines_of, bar
        self._console = Console(highlight=False)
        self._page: list[list[str]] = []
        self._num_answers = 0
        if not self._console.is_terminal:
            print_cells(["image", *(str(column.header) for column in columns)])

    def add(self, answer: Answer) -> None:
        result = answer.result
        lines = [[f"not used: {result.reason}"]] if isinstance(result, BadImage) else self._lines_of(answer, result)
        if not self._console.is_terminal:
            for line in lines:
                print_cells([answer.name, *line])
            return
        self._page += ([answer.name if i == 0 else "", *line] for i, line in enumerate(lines))
        self._num_answers += 1
        if self._num_answers % NUM_WITHOUT_BAR == 0:
            self.close()

    def close(self) -> None:
        """Print what is not printed yet."""
        if not self._page:
            return
        table = Table(Column("image", overflow="fold"), *self._columns, box=None, pad_edge=False, header_style="bold")
        for line in self._page:
            table.add_row(*(Text(visible(cell)) for cell in line))
        self._page.clear()
        if self._bar is not None:
            self._bar.stop()  # removes it from the terminal
        self._console.print(table)
        if self._bar is not None:
            self._bar.start()


def _print_counts(summary: Summary) -> None:
    """How many images have each answer, the most frequent first."""
    for label, count in (("label", "images"), *((k, f"{n:,}") for k, n in summary.num_of_label.most_common())):
        print_cells([label, count])


def _summary_lines(job: AnswerJob, summary: Summary, form: Form) -> Iterator[str]:
    """What was written, how many answers are none, and what could not be used, each reason once, unless a table has it."""
    of_all = f"of {plural(summary.num_images, 'image')}"
    rule = job.predictor.calibration.unknown
    if job.options.reject and rule is not None:
        yield (
            f"unknown: {summary.num_unknown:,} {of_all}; the threshold allows "
            f"{percent(rule.false_alarm_rate)} false alarms on images of known classes"
        )
    if job.options.sets and form == "table":
        yield f"set: contains the true class of {_set_rate(job)} of images like the calibration images"
    if job.options.min_confidence is not None:
        yield _BELOW[job.predictor.manifest.task](summary, job.options.min_confidence)
    if job.files.output is not None:
        yield f"answers: {job.files.output}"
    if job.files.sheet is not None:
        yield f"sheet: {job.files.sheet}"
    if job.files.save is not None:
        yield f"annotated images: {job.files.save}"
    if job.files.sort_into is not None:
        verb = "linked" if job.files.link else "copied"
        yield f"{verb} {plural(summary.num_sorted, 'file')} into {job.files.sort_into}"
    if summary.num_bad:
        yield f"{summary.num_bad:,} {of_all} could not be used"
        for group in summary.bad:
            more = f" and {group.count - len(group.names):,} more" if group.count > len(group.names) else ""
            reason = "" if form == "table" else f"{group.reason}. "
            yield f"  {listing(group.names, len(group.names))}{more}: {reason}{group.remedy}"
