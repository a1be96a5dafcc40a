"""`recog train`."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recog.cli.guard import Threads, guarded, pop_start
from recog.cli.labels import DataOptions, TaskOption, with_data_options
from recog.cli.output import activity, print_json, print_note, print_rendered
from recog.core.errors import ConfigError

if TYPE_CHECKING:
    from recog.data.dataset import Dataset
    from recog.recipes.config import TrainConfig
    from recog.recipes.cost import Budget
    from recog.verbs.run import Run
    from recog.verbs.train import TrainEvent

NOTHING_KEPT = "The run had not begun, so nothing was kept. Start it again with the same command."


@guarded
@with_data_options
def train(
    data: Annotated[
        str | None, typer.Argument(help="Class folders, a CSV, Parquet, zip, tar or shards, or a name such as digits.")
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(help="head, finetune or scratch; chosen from the data by default.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Model name, built in or from timm; see recog models.")] = None,
    weights: Annotated[
        str | None, typer.Option(help="Weights file (.safetensors, .pth, ...), run or bundle to start from, or 'none'.")
    ] = None,
    parent: Annotated[
        str | None, typer.Option("--from", help="Run or bundle to continue from, on more images or other classes.")
    ] = None,
    channels: Annotated[
        int | None, typer.Option(help="1 (grey) or 3 (colour); chosen from the data by default.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Number of training epochs.")] = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate; the default depends on the optimiser.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images per batch.")] = None,
    optimizer: Annotated[str | None, typer.Option(help="sgd, adam, adamw, rmsprop or muon.")] = None,
    find_lr: Annotated[
        bool, typer.Option("--find-lr", help="Run a learning rate range test first and use the suggested rate.")
    ] = False,
    budget: Annotated[
        str | None,
        typer.Option(
            help="Time for the whole command, such as 90s, 10m or 2h: what to train, and for how long, is planned to fit."
        ),
    ] = None,
    tune: Annotated[
        str | None,
        typer.Option(
            help="Search for better settings within this time, such as 10m, and train the best ones: see recog tune."
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Random seed for splits, initial weights and augmentation.")] = None,
    balance: Annotated[
        str | None, typer.Option(help="none, weights or sampler: how to handle class imbalance.")
    ] = None,
    noisy_labels: Annotated[
        bool | None,
        typer.Option(
            "--noisy-labels",
            help="Some training labels are wrong: leave out images whose label looks wrong, and list them in pruned.csv.",
        ),
    ] = None,
    threshold: Annotated[
        str | None,
        typer.Option(help="Of two classes, choose the threshold for: f1, 'recall>=0.95', or cost=MISS:FALSE_ALARM."),
    ] = None,
    positive: Annotated[
        str | None, typer.Option(help="Positive class of --threshold; the second one by default.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Data loading processes; the result does not depend on it.")
    ] = None,
    *,
    data_options: DataOptions,
    task: TaskOption = None,
    bad_images: Annotated[
        str | None,
        typer.Option(
            help="Unreadable images: auto (skip up to 1 % or 3), skip, error (stop), or quarantine (skip and list in a file)."
        ),
    ] = None,
    min_images: Annotated[
        int | None, typer.Option(help="Leave out classes with fewer different images; default: none.", min=0)
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="auto, or none: carve no split, train a head on all images and estimate its accuracy by cross-validation."
        ),
    ] = None,
    report_images: Annotated[
        bool | None, typer.Option(" /--no-images", help="Write report.html without thumbnails.")
    ] = None,
    log_to: Annotated[
        str | None, typer.Option(help="mlflow or wandb: report settings, metrics and report there too.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the run folder in runs/.")] = None,
    resume: Annotated[
        str | None, typer.Option(help="Resume an interrupted run, by name or folder (and DATA if moved).")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="A TOML file, such as an earlier run's run.toml.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any other setting, such as optim.lr=0.05; repeatable."),
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda.")] = None,
    threads: Threads = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Print every epoch and the report's tables.")] = False,
) -> None:
    """Train a classifier on labelled images; write a bundle and a report."""
    started = pop_start()
    from recog.recipes.config import given_options
    from recog.verbs.python.wording import as_typed, reworded

    options = given_options(locals() | data_options.values)
    others = {"name": name, "config": config, "find-lr": find_lr, "budget": budget, "tune": tune, "set": settings}
    with _joined(), reworded(lambda text: as_typed(text, options)):
        chosen = read_options(config, data, options, settings or [])
        if resume is not None:
            _check_resume(resume, [*options, *(option for option, value in others.items() if value)])
            events = _resume(resume, data, started=started)
        elif tune is not None:
            _check_tune([option for option in ("name", "find-lr", "budget") if others[option]])
            _tune(chosen, read_budget(tune, started, option="--tune"), as_json=as_json, verbose=verbose)
            return
        else:
            limit = read_budget(budget, started)
            events = _begin(chosen, name, choose_lr=find_lr, budget=limit, started=started)
        run = _show(_reworded_notes(events, options), resumed=resume, as_json=as_json, verbose=verbose)
        if run is not None:
            took_s = time.perf_counter() - started
            print_note(f"done in {took_s:.1f} s; next: recog predict {shlex.quote(run.folder.name)} photo.jpg")
    _end()


def read_budget(text: str | None, started: float, *, option: str = "--budget") -> Budget | None:
    from recog.recipes.cost import Budget, parse_budget

    return None if text is None else Budget(seconds=parse_budget(text, option=option), started=started)


def _check_tune(given: Sequence[str]) -> None:
    if given:
        raise ConfigError(
            f"--tune searches and then trains within its own time; leave out --{', --'.join(given)}. recog tune has more options."
        )
    if _is_under_torchrun():
        raise ConfigError("--tune trains one network at a time in one process; recog tune --workers starts several.")


def _tune(config: TrainConfig, budget: Budget | None, *, as_json: bool, verbose: bool) -> None:
    """A study within `budget`, whose winner is measured on the test split, as every run of recog train is."""
    from recog.cli.tune import run_study
    from recog.tuning.study import TuneOptions

    run_study(config, TuneOptions(budget=budget, test=True), as_json=as_json, verbose=verbose)


def _begin(
    config: TrainConfig, name: str | None, *, choose_lr: bool, budget: Budget | None, started: float
) -> Iterator[TrainEvent]:
    """The events of a new run. What can be checked without torch, whose import takes seconds, is checked before it."""
    from recog.runs.folder import check_new_run

    is_alone = not _is_under_torchrun()
    if is_alone:  # torchrun may restart a run, and so find its folder
        check_new_run(config, name)
    with _nothing_kept():
        dataset = open_data(config, is_noted=is_alone)
        with _loading():
            from recog.verbs.run import Clock
            from recog.verbs.train import train_events

    clock = Clock(started=started)
    return train_events(config, name=name, choose_lr=choose_lr, dataset=dataset, budget=budget, clock=clock)


def _resume(run: str, data: str | None, *, started: float) -> Iterator[TrainEvent]:
    if not _is_under_torchrun():
        print_note(f"resuming {run}")
    with _loading():
        from recog.verbs.run import Clock
        from recog.verbs.train import resume_events

    return resume_events(run, source=data, clock=Clock(started=started))


def _loading() -> contextlib.AbstractContextManager[object]:
    return contextlib.nullcontext() if _is_under_torchrun() else activity("loading PyTorch")


@contextlib.contextmanager
def _nothing_kept() -> Iterator[None]:
    """A note where the block is interrupted, as no run folder is made in it."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        print_note(NOTHING_KEPT)
        raise


def _reworded_notes(events: Iterator[TrainEvent], options: Collection[str]) -> Iterator[TrainEvent]:
    """`events`, in whose notes the settings that were given as options are called as these."""
    from recog.verbs.python.wording import as_typed
    from recog.verbs.run import Note

    for event in events:
        yield replace(event, text=as_typed(event.text, options)) if isinstance(event, Note) else event


def _check_resume(resume: str, given: Sequence[str]) -> None:
    from recog.runs.folder import find_unfinished

    if given:
        given = [
            "--" + {"parent": "from", "report_images": "no-images"}.get(option, option.replace("_", "-"))
            for option in given
        ]
        raise ConfigError(
            f"--resume continues with the settings of {resume}; no other options are allowed (got: {', '.join(given)}). "
            "To train with other settings, start a new run: recog train --config RUN/run.toml --set ..."
        )
    find_unfinished(resume)


def _show(events: Iterator[TrainEvent], *, resumed: str | None, as_json: bool, verbose: bool) -> Run | None:
    """Returns the finished run, in the process that writes it."""
    from recog.cli.progress import TrainPrinter
    from recog.training.distributed import read_world
    from recog.verbs.run import Run

    is_writer, run = read_world().is_writer, None
    printer = TrainPrinter(verbose=verbose)
    try:
        for event in events:
            if not is_writer:
                continue
            printer.show(event)
            if isinstance(event, Run):
                run = event
                _print_outcome(run, as_json=as_json, verbose=verbose)
    except (KeyboardInterrupt, SystemExit):
        printer.close()
        folder = printer.folder or resumed
        print_note(f"To resume: recog train --resume {shlex.quote(str(folder))}" if folder else NOTHING_KEPT)
        raise
    finally:
        printer.close()
    return run


def _joined() -> contextlib.AbstractContextManager[object]:
    """Join torchrun's processes first, so that an error is reported once."""
    if not _is_under_torchrun():
        return contextlib.nullcontext()
    from recog.training.distributed import joined

    return joined()


def _is_under_torchrun() -> bool:
    return "RANK" in os.environ or "WORLD_SIZE" in os.environ


def _end() -> None:
    """End one of torchrun's processes, whose run is written, without the interpreter's last steps.

    In these a thread of torch's now and then aborts the process ("terminate called without an active exception"), which
    torchrun takes for a failure of the run.
    """
    if _is_under_torchrun():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def read_options(
    path: Path | None, source: str | None, options: Mapping[str, Any], settings: Sequence[str]
) -> TrainConfig:
    """The config file, the options over it, --set over both."""
    from recog.core.config import override
    from recog.models.config import check_network, with_known_name
    from recog.models.hub import check_download
    from recog.recipes.config import with_options, with_parent
    from recog.runs.folder import read_config
    from recog.runs.trackers import check_tracker

    config = read_config(path)
    if source is not None:
        config = replace(config, data=replace(config.data, source=source))
    chosen = with_options(config, options, override({}, settings))
    with_parent(chosen)
    check_network(chosen.model)
    if chosen.recipe != "scratch" and not chosen.model.parent:
        check_download(with_known_name(chosen.model))
    check_tracker(chosen.log_to)
    return chosen


def open_data(config: TrainConfig, *, is_noted: bool) -> Dataset | None:
    """The data that `config` names, opened and checked; None for data that recog knows by name, which need no check.

    `is_noted`: one line tells at once that the program is at work.
    """
    from recog.data.dataset import check_trainable
    from recog.data.sources import NAMED_SOURCES, open_source

    source = config.data.source
    if not source:
        raise ConfigError("there is no data to train on; name a folder of class folders, or 'digits'.")
    if is_noted:
        print_note(f"reading {source}")
    if source in NAMED_SOURCES and not Path(source).exists():
        return None
    dataset = open_source(source, labels=config.data.labels, layout=config.data.layout)
    check_trainable(dataset)
    return dataset


def _print_outcome(run: Run, *, as_json: bool, verbose: bool) -> None:
    from recog.report.brief import MAX_NAME, brief_lines
    from recog.report.table import print_report

    if as_json:
        outcome = {
            "run": str(run.folder),
            "bundle": str(run.bundle),
            "duration_s": round(run.duration_s, 3),
            "report": run.report.to_dict(),
        }
        print_json(outcome)
    elif verbose:
        print_rendered(lambda console: print_report(run.report, console), to_stderr=True)
    else:
        print_note(*brief_lines(run.report, max_name=MAX_NAME if sys.stderr.isatty() else None))
    print_note(f"bundle: {run.bundle}")
    print_note(f"report: {run.folder / 'report.html'}")
