"""`recog tune`, and the printing of a study."""

from __future__ import annotations

import contextlib
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from recog.cli.guard import Threads, guarded, pop_start
from recog.cli.labels import DataOptions, TaskOption, with_data_options
from recog.cli.output import activity, notes, print_json, print_note, print_rendered
from recog.cli.train import NOTHING_KEPT, open_data, read_budget, read_options
from recog.core.errors import TrainingStopped
from recog.report.text import percent

if TYPE_CHECKING:
    from rich.console import Console, Group
    from rich.live import Live
    from rich.table import Table

    from recog.recipes.config import TrainConfig
    from recog.tuning.result import TrialEnded
    from recog.tuning.space import Space
    from recog.tuning.storage import TrialRow
    from recog.tuning.study import TuneOptions
    from recog.verbs.tune import TuneRun


@guarded
@with_data_options
def tune(
    data: Annotated[
        str | None, typer.Argument(help="Class folders, a CSV, Parquet, zip, tar or shards, or a name such as digits.")
    ] = None,
    trials: Annotated[
        int | None, typer.Option(help="Number of trials; 30 if neither this nor --budget is given.")
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(help="Time for the whole command, such as 10m or 2h: the search and the winner's own run."),
    ] = None,
    workers: Annotated[int, typer.Option(help="Processes on this machine, which share its cores.")] = 1,
    storage: Annotated[
        str,
        typer.Option(
            help="Share the study: a journal file, or a database such as postgresql+psycopg://USER@HOST/DB; with --name."
        ),
    ] = "",
    space: Annotated[Path | None, typer.Option(help="A TOML file that narrows or extends the space.")] = None,
    show_space: Annotated[bool, typer.Option("--show-space", help="Show what is searched, and stop.")] = False,
    sampler: Annotated[str, typer.Option(help="tpe, or random for comparison.")] = "tpe",
    recipe: Annotated[
        str | None, typer.Option(help="head, finetune or scratch; chosen from the data by default.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Use this network in all trials.")] = None,
    seed: Annotated[int | None, typer.Option(help="Random seed of splits, trials and the sampler.")] = None,
    *,
    data_options: DataOptions,
    task: TaskOption = None,
    bad_images: Annotated[str | None, typer.Option(help="Unreadable images: auto, skip, error or quarantine.")] = None,
    refit: Annotated[bool, typer.Option(" /--no-refit", help="Do not train the winner.")] = True,
    test: Annotated[
        bool, typer.Option("--test", help="Measure the winner's own run on the test split, once, at the end.")
    ] = False,
    name: Annotated[str | None, typer.Option(help="Name of the study, and of its folder in studies/.")] = None,
    resume: Annotated[str | None, typer.Option(help="Continue a study, by name or folder.")] = None,
    config: Annotated[Path | None, typer.Option(help="A TOML file with settings that all trials have.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="A setting that all trials have, such as optim.epochs=5; repeatable."),
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda.")] = None,
    threads: Threads = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Print every epoch of the winner's own run.")] = False,
) -> None:
    """Search for better settings of training, train the best ones, and write a page about it."""
    started = pop_start()
    from recog.recipes.config import given_options
    from recog.tuning.space import read_space
    from recog.tuning.storage import check_sampler
    from recog.tuning.study import TuneOptions
    from recog.verbs.python.wording import as_typed, reworded

    options = given_options(locals() | data_options.values | {"workers": None})
    with reworded(lambda text: as_typed(text, options)):
        chosen = read_options(config, data, options, settings or [])
        if show_space:
            found = read_space(space, chosen)
            print_rendered(lambda console: _print_space(found, console))
            return
        wanted = TuneOptions(
            trials=trials,
            budget=read_budget(budget, started),
            workers=workers,
            storage=storage,
            space=space,
            sampler=check_sampler(sampler),
            name=name,
            resume=resume,
            refit=refit,
            test=test,
        )
        run_study(chosen, wanted, as_json=as_json, verbose=verbose)


def run_study(config: TrainConfig, options: TuneOptions, *, as_json: bool, verbose: bool) -> None:
    """Conduct a study and print its events."""
    from recog.tuning.space import read_space
    from recog.verbs.tune import tune_events

    read_space(options.space, config)
    dataset = None
    if options.resume is None:
        with _nothing_kept():
            dataset = open_data(config, is_noted=True)
    printer = _Printer(verbose=verbose)
    try:
        for event in tune_events(config, options, dataset=dataset, watch=printer.watch):
            printer.show(event)
        if printer.result is not None:
            _print_outcome(printer.result, as_json=as_json)
    except (KeyboardInterrupt, SystemExit, TrainingStopped):
        printer.close()
        print_note(f"To resume: {options.how_to_resume(printer.folder)}" if printer.folder else NOTHING_KEPT)
        raise
    finally:
        printer.close()


@contextlib.contextmanager
def _nothing_kept() -> Iterator[None]:
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        print_note("The study had not begun, so nothing was kept. Start it again with the same command.")
        raise


class _Printer:
    """On a terminal a table of the best five that is redrawn, else a line per trial; then as recog train prints a run."""

    def __init__(self, *, verbose: bool) -> None:
        self.result: TuneRun | None = None
        self.folder = ""
        self._verbose = verbose
        self._waiting = contextlib.ExitStack()  # until the first trial runs
        self._waiting.enter_context(activity("preparing the study"))
        self._live: Live | None = None
        self._last: TrialEnded | None = None
        self._running: Sequence[TrialRow] = ()
        self._told_at = 0.0  # time.perf_counter of what is known of the trials that run
        self._train: object | None = None

    def show(self, event: object) -> None:
        from recog.tuning.result import TrialEnded
        from recog.verbs.run import Note, Planned, Run
        from recog.verbs.tune import TuneRun

        if isinstance(event, TrialEnded):
            self._show_trial(event)
        elif isinstance(event, TuneRun):
            self.result = event
        elif isinstance(event, Note) and self._train is None and not isinstance(event, Run):
            self._show_note(event.text)
        else:
            self._show_training(event)
            if isinstance(event, Planned):
                self.close()

    def close(self) -> None:
        self._waiting.close()
        self._close_live()

    def _close_live(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _show_note(self, text: str) -> None:
        if text.startswith("study folder: "):
            self.folder = text.removeprefix("study folder: ")
        self._close_live()
        print_note(text)

    def watch(self, running: Sequence[TrialRow]) -> None:
        """What is known of the trials that run."""
        self._running, self._told_at = running, time.perf_counter()
        self._open_live()

    def _show_trial(self, event: TrialEnded) -> None:
        self._last, self._running = event, ()
        if not notes.is_terminal:
            print_note(event.line)
        self._open_live()

    def _open_live(self) -> None:
        if not notes.is_terminal or self._live is not None:
            return
        from rich.live import Live

        self._waiting.close()
        self._live = Live(console=notes, refresh_per_second=2, get_renderable=self._view)
        self._live.start()

    def _view(self) -> Group:
        """The best five trials, and a line for each that runs, as of now."""
        from rich.console import Group
        from rich.text import Text

        from recog.core.text import visible
        from recog.tuning.result import running_line

        since = time.perf_counter() - self._told_at
        lines = [Text(visible(running_line(row, since=since)), style="dim") for row in self._running]
        return Group(*([] if self._last is None else [_best_table(self._last)]), *lines)

    def _show_training(self, event: object) -> None:
        from recog.cli.progress import TrainPrinter

        if self._train is None:
            self.close()
            self._train = TrainPrinter(verbose=self._verbose)
        self._train.show(event)  # type: ignore[attr-defined]


def _best_table(event: TrialEnded) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    from recog.core.text import visible
    from recog.tuning.result import describe_settings

    states = ", ".join(f"{count} {state}" for state, count in event.counts.items() if state != "running")
    table = Table(
        title=f"The best trials so far ({states}; {event.left})", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1)
    )
    for column in ("Trial", event.score_name, "NLL", "s"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("Settings", overflow="fold")
    for row in event.best:
        numbers = (str(row.number), percent(row.score), f"{row.nll or 0:.3f}", f"{row.seconds or 0:.0f}")
        table.add_row(*numbers, Text(visible(describe_settings(row))))
    return table


def _print_space(space: Space, console: Console) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    recipes = ", ".join(space.recipes) or "chosen from the data: head and finetune, or scratch"
    console.print(f"recipes: {recipes}")
    table = Table(box=SIMPLE_HEAD, padding=(0, 1))
    for column in ("Recipe", "Setting", "Values", "Only where"):
        table.add_column(column, overflow="fold")
    for recipe in space.recipes or ("head", "finetune", "scratch"):
        for each in space.of(recipe):
            when = "" if each.when is None else f"{each.when[0]}={str(each.when[1]).lower()}"
            table.add_row(recipe, each.setting, str(each), when)
    console.print(table)


def _print_outcome(outcome: TuneRun, *, as_json: bool) -> None:
    from recog.report.brief import MAX_NAME, brief_lines
    from recog.verbs.tune import PAGE

    run = outcome.run
    if as_json:
        print_json(outcome.to_dict())
    elif run is not None:
        print_note(*brief_lines(run.report, max_name=MAX_NAME if sys.stderr.isatty() else None))
    print_note(f"study: {outcome.folder / PAGE}")
    if run is not None:
        print_note(f"bundle: {run.bundle}", f"report: {run.folder / 'report.html'}")
    again = f"recog train --config {shlex.quote(str(outcome.best_config))}"
    print_note(f"done in {outcome.result.duration_s:.1f} s; the winner again: {again}")
