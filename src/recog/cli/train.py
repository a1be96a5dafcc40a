"""`recog train`."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recog.cli.guard import guarded, notes
from recog.cli.labels import LabelColumns, LabelSeparator, split_columns
from recog.core.errors import ConfigError

if TYPE_CHECKING:
    from recog.data.dataset import Dataset
    from recog.recipes.config import TrainConfig
    from recog.verbs.train import Run, TrainEvent


@guarded
def train(
    data: Annotated[
        str | None, typer.Argument(help="Class folders, a CSV, Parquet, zip, tar or shards, or a name such as digits.")
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(help="head, finetune or scratch; chosen from the data if left out.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="A network of recog's, or any name of timm.")] = None,
    weights: Annotated[str | None, typer.Option(help="Pretrained weights from a .safetensors file, or 'none'.")] = None,
    channels: Annotated[
        int | None, typer.Option(help="1: images are made or kept grey; 3: colour. Planned if left out.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training images.")] = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate; the optimiser's usual one if left out.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images that go through the network at once.")] = None,
    optimizer: Annotated[str | None, typer.Option(help="sgd, adam, adamw, rmsprop or muon.")] = None,
    find_lr: Annotated[
        bool, typer.Option("--find-lr", help="Try rising learning rates first, draw what the loss does, take the best.")
    ] = False,
    seed: Annotated[int | None, typer.Option(help="Decides splits, first weights and augmentation.")] = None,
    balance: Annotated[
        str | None, typer.Option(help="none, weights or sampler: what is done about classes of unequal size.")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that augment; they do not change the result.")] = None,
    label_separator: LabelSeparator = "",
    label_columns: LabelColumns = "",
    bad_images: Annotated[
        str | None,
        typer.Option(
            help="skip: leave bad images out, counted and named; error: stop; quarantine: skip and list them."
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the run's folder below runs/.")] = None,
    resume: Annotated[
        str | None, typer.Option(help="A run that ended before its time: go on with it as if nothing had happened.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="A TOML file, such as an earlier run's run.toml.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any other setting, such as optim.lr=0.05; may be given again."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the outcome as JSON on stdout.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Print every epoch and the report's tables.")] = False,
) -> None:
    """Train a classifier on labelled images; write a bundle and a report."""
    flags = {
        "recipe": recipe,
        "seed": seed,
        "balance": balance,
        "data": {
            "source": data,
            "bad_images": bad_images,
            "label_separator": label_separator or None,
            "label_columns": list(split_columns(label_columns)) or None,
        },
        "model": {"name": model, "weights": weights, "channels": channels},
        "optim": {"epochs": epochs, "lr": lr, "name": optimizer},
        "loader": {"batch_size": batch_size, "num_workers": workers},
    }
    others = {"name": name, "config": config, "find-lr": find_lr or None, "set": settings or None}
    with _joined():
        # whatever can be checked without torch, whose import takes seconds, is checked before it
        dataset = None
        if resume is not None:
            _check_resume(resume, _given({**flags, **others}))
        chosen = _read_config(config, flags, settings or [])
        if resume is None:
            dataset = _open_data(chosen)
        from recog.verbs.train import resume_events, train_events

        begun = train_events(chosen, name=name, choose_lr=find_lr, dataset=dataset) if resume is None else None
        _show(begun or resume_events(str(resume)), as_json=as_json, verbose=verbose)
    _end()


def _check_resume(resume: str, given: Mapping[str, Any]) -> None:
    from recog.runs.folder import find_unfinished

    if given:
        raise ConfigError(
            f"--resume goes on with the data and settings of {resume}; nothing else can be given ({', '.join(given)} was). "
            "To train with other settings, begin a run: recog train --config RUN/run.toml --set ..."
        )
    find_unfinished(resume)


def _show(events: Iterator[TrainEvent], *, as_json: bool, verbose: bool) -> None:
    from recog.cli.progress import TrainPrinter
    from recog.training.distributed import read_world
    from recog.verbs.train import Run

    is_writer = read_world().is_writer
    printer = TrainPrinter(verbose=verbose)
    try:
        for event in events:
            if not is_writer:
                continue
            printer.show(event)
            if isinstance(event, Run):
                _print_outcome(event, as_json=as_json, verbose=verbose)
    except (KeyboardInterrupt, SystemExit):
        printer.close()
        if printer.folder is not None:
            notes.print(f"to go on: recog train --resume {printer.folder}", soft_wrap=True, markup=False)
        raise
    finally:
        printer.close()


def _joined() -> contextlib.AbstractContextManager[object]:
    """torchrun's processes know of each other before anything can go wrong, so that one of them says it for all."""
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


def _read_config(path: Path | None, flags: Mapping[str, Any], settings: Sequence[str]) -> TrainConfig:
    """The config file, the flags over it, --set over both."""
    from recog.core.config import build_config, config_to_dict, merge, override
    from recog.models.config import check_network
    from recog.recipes.config import TrainConfig
    from recog.runs.folder import load_run_config

    table = config_to_dict(load_run_config(path)) if path is not None else {}
    chosen = build_config(TrainConfig, override(merge(table, _given(flags)), settings))
    check_network(chosen.model)
    return chosen


def _open_data(config: TrainConfig) -> Dataset | None:
    """The data that `config` names, opened and checked; None for data that recog knows by name, which need no check."""
    from recog.data.dataset import check_trainable
    from recog.data.sources import NAMED_SOURCES, open_source

    source = config.data.source
    if not source:
        raise ConfigError("there is no data to train on; name a folder of class folders, or 'digits'.")
    if source in NAMED_SOURCES and not Path(source).exists():
        return None
    dataset = open_source(source, labels=config.data.labels)
    check_trainable(dataset)
    return dataset


def _given(flags: Mapping[str, Any]) -> dict[str, Any]:
    """The flags that the user gave, nested tables without their empty ones."""
    given = {key: _given(value) if isinstance(value, Mapping) else value for key, value in flags.items()}
    return {key: value for key, value in given.items() if value is not None and value != {}}


def _print_outcome(run: Run, *, as_json: bool, verbose: bool) -> None:
    from recog.report.brief import brief_lines
    from recog.report.table import print_report

    if as_json:
        outcome = {
            "run": str(run.folder),
            "bundle": str(run.bundle),
            "duration_s": round(run.duration_s, 3),
            "report": run.report.to_dict(),
        }
        print(json.dumps(outcome, ensure_ascii=False))
    elif verbose:
        print_report(run.report, notes)
    else:
        notes.print("\n".join(brief_lines(run.report)), soft_wrap=True, markup=False)
    notes.print(f"bundle: {run.bundle}", soft_wrap=True, markup=False)
    notes.print(f"report: {run.folder / 'report.html'}", soft_wrap=True, markup=False)
    notes.print(f"done in {run.duration_s:.1f} s; next: recog predict {run.folder.name} photo.jpg", soft_wrap=True)
