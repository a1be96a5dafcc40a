"""`recog tune`: a search for settings that is resumable and honest, the winner's run, and the page of the study."""

from __future__ import annotations

import importlib
import math
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from recog.bundle.manifest import RUNS
from recog.core import notebook
from recog.core.errors import CheckpointError, ConfigError, DiskError, RecogError, TrainingError
from recog.core.files import claim_folder, pretty_json, write_bytes_atomic
from recog.core.records import read_bytes
from recog.core.text import plural
from recog.data.dataset import Dataset
from recog.data.sources import Source, open_source
from recog.recipes.config import BY_STEPS, Recipe, TrainConfig, given_options, with_options
from recog.recipes.cost import Budget, describe_seconds, parse_budget
from recog.report.text import percent
from recog.runs.folder import RUN_CONFIG, check_new_run, load_run_config, locked, read_config, write_run_config
from recog.tuning.result import StudyResult, TrialEnded, count_states, running_line, short, trials_csv
from recog.tuning.space import read_space
from recog.tuning.storage import TrialRow, best_of, describe_sampler, open_storage, quiet_optuna
from recog.tuning.study import (
    BEST,
    Study,
    TuneOptions,
    describe_short,
    open_in,
    refit_deadline,
    summarise,
    whole_epochs,
    write_best,
)
from recog.verbs.run import Note, Planned, Run

if TYPE_CHECKING:
    from recog.tuning.search import Rules
    from recog.verbs.train import TrainEvent

STUDIES = Path("studies")
STUDY_CONFIG, SPACE_FILE = "study.toml", "space.toml"
TRIALS, PAGE, RESULT = "trials.csv", "study.html", "study.json"
NUM_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class TuneRun:
    """A finished study: its folder, what it found, and the winner's own Run, if it was trained."""

    folder: Path
    result: StudyResult
    run: Run | None = None

    @property
    def best_config(self) -> Path:
        """A config file for recog train --config, with every setting of the winner."""
        return self.folder / BEST

    def __repr__(self) -> str:
        return f"TuneRun({str(self.folder)!r}, {self.result.summary!r})"

    def _repr_html_(self) -> str:
        result = self.result
        rows = []
        for row in best_of(result.rows, NUM_SHOWN):
            settings = ", ".join(f"{name} {short(value)}" for name, value in row.settings.items())
            rows.append((str(row.number), row.recipe, percent(row.score), "default" if row.is_default else settings))
        parts = [notebook.paragraph(text) for text in result.conclusions()]
        parts.append(notebook.table(("Trial", "Recipe", result.score_name, "Settings"), rows))
        shares = (result.importances or {}).items()
        parts.append(notebook.bars((name, share, f"{share:.0%}") for name, share in shares))
        parts.append(notebook.paragraph(f"Page: {self.folder / PAGE}; config: {self.best_config}", soft=True))
        card = notebook.card(f"Study {result.name}", result.data, *parts)
        page = self.folder / PAGE
        if not page.is_file():  # the folder was moved
            return card
        return card + notebook.page_frame(read_bytes(page).decode(), f"Page of study {result.name}")

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        run = None if self.run is None else {"run": str(self.run.folder), "report": self.run.report.to_dict()}
        return {"folder": str(self.folder), "config": str(self.best_config), **self.result.to_dict(), "refit": run}


TuneEvent = Note | TrialEnded | TuneRun


def tune(  # noqa: PLR0913  keywords of a public verb
    source: Source | None = None,
    config: TrainConfig | str | Path | None = None,
    *,
    trials: int | None = None,
    budget: str | None = None,
    workers: int = 1,
    storage: str = "",
    space: str | Path | None = None,
    sampler: Literal["tpe", "random"] = "tpe",
    recipe: Recipe | None = None,
    model: str | None = None,
    seed: int | None = None,
    threads: int | None = None,
    settings: Mapping[str, Any] = MappingProxyType({}),
    refit: bool = True,
    test: bool = False,
    name: str | None = None,
    resume: str | Path | None = None,
    class_names: Sequence[str] | None = None,
    verbose: bool = True,
) -> TuneRun:
    """Search for better settings of training on `source`, given as to `recog.train`, and train the best ones.

    The study ends after `trials`, or within `budget`, such as '10m'; without either after 30 trials. `space` is a TOML file that
    narrows or extends what is searched. `recipe` to `settings` are the same in all trials. `storage` and `name` share a study
    with other machines, `resume` continues one. With `test`, the winner's own run is measured on the test split, which the
    study does not use; else on the validation split, or by cross-validation.

    `verbose` shows a line per trial on stderr, and below them one of the trial that runs, then of the winner's training. torch's
    thread count and all random generators are left as found.
    """
    options = given_options({"recipe": recipe, "model": model, "seed": seed, "threads": threads})
    chosen = with_options(read_config(config), options, settings)
    wanted = TuneOptions(
        trials=trials,
        budget=None if budget is None else Budget(seconds=parse_budget(budget), started=time.perf_counter()),
        workers=workers,
        storage=storage,
        space=None if space is None else Path(space),
        sampler=sampler,
        name=name,
        resume=None if resume is None else str(resume),
        refit=refit,
        test=test,
    )
    dataset = None
    if source is not None and not isinstance(source, (str, Path)):
        dataset = open_source(source, labels=chosen.data.labels, layout=chosen.data.layout, class_names=class_names)
    if source is not None:
        chosen = replace(chosen, data=replace(chosen.data, source="" if dataset is not None else str(source)))
    return _finish(partial(tune_events, chosen, wanted, dataset=dataset), verbose=verbose)


def _finish(begin: Callable[..., Iterator[TuneEvent | TrainEvent]], *, verbose: bool) -> TuneRun:
    """The TuneRun at the end of the events of `begin(watch=...)`, within another program."""
    from recog.verbs.python.embedded import progress_line, state_kept

    best = ""

    def watch(running: Sequence[TrialRow]) -> None:
        line.state("; ".join([*([best] if best else []), *(running_line(row) for row in running[:1])]))

    with state_kept(), progress_line(sys.stderr if verbose else None) as line:
        for event in begin(watch=watch):
            if isinstance(event, TuneRun):
                return event
            if isinstance(event, TrialEnded):
                line.note([event.line])
                best = f"best {percent(event.best[0].score)}" if event.best else ""
            elif isinstance(event, Planned):
                line.begin(event.folder.name, num_steps=event.num_steps, num_epochs=event.config.optim.epochs or 0)
            elif isinstance(event, Run):
                line.finish(event.report, event.duration_s)
            elif not isinstance(event, Note):
                line.show(event)
    raise ConfigError("the study ended without a result.")


def tune_events(
    config: TrainConfig,
    options: TuneOptions,
    *,
    dataset: Dataset | None = None,
    runs: Path = RUNS,
    watch: Callable[[Sequence[TrialRow]], None] = lambda running: None,
) -> Iterator[TuneEvent | TrainEvent]:
    """The events of a study as they happen, then those of the winner's run, the TuneRun last.

    `watch` is told of the trials that run, as they begin and after each of their epochs.

    `config` has what is the same in all trials. What the user got wrong raises before the data are read, or torch is imported.
    """
    started = time.perf_counter() if options.budget is None else options.budget.started
    config, options = _resumed(config, options)
    space = read_space(options.space, config)
    _check(config, options, dataset, runs)
    importlib.import_module("optuna")  # if it is missing, that is known before the data are read
    with quiet_optuna():
        if options.storage:
            open_storage(options.storage)
        folder = Path(options.resume) if options.resume else None
        from recog.recipes.prepare import prepare_data
        from recog.training.distributed import World

        data = prepare_data(config, dataset, world=World())
        for text in data.notes:
            yield Note(text=text)
        folder = folder or _claim(config, options, data.dataset.name)
        with locked(folder):
            try:
                study = open_in(folder, config, options, space, data, started=started)
            except RecogError:
                if options.resume is None:
                    shutil.rmtree(folder, ignore_errors=True)  # nothing has begun in it
                raise
            for text in _describe(study, options):
                yield Note(text=text)
            yield from _search(study, watch)
            result = summarise(study)
            if result.best is None:
                raise TrainingError(_nothing_found(study, options))
            write_best(study, result.best, options)
            before_page = time.perf_counter()
            _write(study, result, None)
            page_s = time.perf_counter() - before_page
            for text in result.conclusions():
                yield Note(text=text)
            run = None
            if options.refit:
                for event in _refit(study, result.best, options, runs, page_s=page_s):
                    run = event if isinstance(event, Run) else run
                    yield event
                result = replace(result, duration_s=time.perf_counter() - started)
                _write(study, result, run)
            shutil.rmtree(folder / "features", ignore_errors=True)
            yield TuneRun(folder=folder, result=result, run=run)


def _resumed(config: TrainConfig, options: TuneOptions) -> tuple[TrainConfig, TuneOptions]:
    """With the settings and the space of the study that is resumed."""
    if options.resume is None:
        return config, options
    folder = next(
        (each for each in (Path(options.resume), STUDIES / options.resume) if (each / STUDY_CONFIG).is_file()), None
    )
    if folder is None:
        raise CheckpointError(
            f"there is no study '{options.resume}' to resume: neither {options.resume} nor {STUDIES / options.resume} holds a "
            f"{STUDY_CONFIG}. To start one: recog tune DATA; a study in --storage continues with the command that began it"
        )
    if options.space is not None or options.storage or options.name:
        raise ConfigError(
            "--resume uses the study's own space, storage and name; leave --space, --storage and --name out."
        )
    saved = folder / SPACE_FILE
    source = config.data.source
    config = load_run_config(folder / STUDY_CONFIG)
    if source:
        config = replace(config, data=replace(config.data, source=source))
    return config, replace(options, resume=str(folder), space=saved if saved.is_file() else None)


def _check(config: TrainConfig, options: TuneOptions, dataset: Dataset | None, runs: Path) -> None:
    if not config.data.source and dataset is None:
        raise ConfigError("no data to tune on; give a folder of class folders, or 'digits'.")
    if config.model.parent:
        raise ConfigError("a study starts from published or random weights; leave --from out.")
    if config.head.compare:
        raise ConfigError("head.compare chooses a network, as the study does; leave it out.")
    if config.noisy_labels:
        raise ConfigError(
            "--noisy-labels has no effect on the trials of a study. Tune without it, then: recog train --config best.toml "
            "--noisy-labels."
        )
    if options.workers > 1 and dataset is not None and not config.data.source:
        raise ConfigError(
            "--workers starts processes, which read the data from disk; give a folder or a file, or leave it out."
        )
    if config.report_split != "auto":
        raise ConfigError(
            "a study opens the test split only for its winner, and only with --test; leave report_split out."
        )
    check_new_run(config, None, runs)
    is_own = options.resume is None and not options.storage
    if is_own and options.name is not None and os.path.lexists(STUDIES / options.name):
        raise ConfigError(
            f"{STUDIES / options.name} already exists; continue it with --resume {options.name}, or choose another --name."
        )


def _claim(config: TrainConfig, options: TuneOptions, data_name: str) -> Path:
    """A new folder for the study, with what --resume reads; a study in --storage continues with the command that began it."""
    try:
        if options.name is not None and not options.storage:
            (STUDIES / options.name).mkdir(parents=True)
            folder = STUDIES / options.name
        else:
            folder = claim_folder(STUDIES, options.name or data_name)
    except OSError as error:
        raise DiskError(f"cannot create a folder in {STUDIES.absolute()}: {error.strerror}.") from None
    if not options.storage:
        write_run_config(folder, config, STUDY_CONFIG)
    if options.space is not None:
        shutil.copyfile(options.space, folder / SPACE_FILE)
    return folder


def _describe(study: Study, options: TuneOptions) -> Iterator[str]:
    rules, rows = study.job.rules, study.rows
    yield f"study folder: {study.folder}"
    yield from study.notes
    if rules.num_trials is not None and rules.deadline is None:
        end = f"up to {plural(rules.num_trials, 'trial')}"
    else:
        end = f"for {describe_seconds(max(1.0, (rules.deadline or 0.0) - time.time()))}"
    longest = f", trials of up to {plural(rules.longest, 'epoch')}" if set(rules.space.recipes) & set(BY_STEPS) else ""
    everything = "all images that are not for testing, by cross-validation"
    where = everything if study.job.out_of_fold else "the validation split"
    yield f"recipes {', '.join(rules.space.recipes)}, {end}{longest}; trials are measured on {where}, the test split is not used"
    yield from describe_short(study)
    yield f"sampler: {describe_sampler(rules.sampler, rules.seed)}; trial 0 is the default recipe"
    if options.workers > 1:
        yield f"{options.workers} processes, {plural(rules.config.compute.num_threads or 1, 'thread')} each"
    ended = [row for row in rows if row.state in ("done", "pruned", "failed")]
    if ended:
        yield f"resuming a study with {plural(len(ended), 'finished trial')}"


def _search(study: Study, watch: Callable[[Sequence[TrialRow]], None]) -> Iterator[TuneEvent]:
    from recog.tuning.search import Search
    from recog.tuning.workers import run_in_processes
    from recog.verbs.python.embedded import state_kept

    job = study.job
    with state_kept():
        if job.num_workers > 1:
            rows = run_in_processes(job, study.study, watch=watch)
        else:
            rows = Search(study.study, job.runner(), job.rules, job.data, watch=watch).trials()
        for row in rows:
            known = study.rows
            counts = count_states(known)
            yield TrialEnded(
                row=row,
                best=tuple(best_of(known, NUM_SHOWN)),
                counts=counts,
                score_name=job.facts.score_name,
                left=_describe_left(job.rules, sum(counts.values())),
            )


def _describe_left(rules: Rules, num_trials: int) -> str:
    if rules.deadline is not None:
        return f"{describe_seconds(max(0.0, rules.deadline - time.time()))} left"
    return f"{plural(max(0, (rules.num_trials or 0) - num_trials), 'trial')} left"


def _nothing_found(study: Study, options: TuneOptions) -> str:
    failed = [row for row in study.rows if row.state == "failed"]
    if failed:
        return f"all {plural(len(failed), 'trial')} failed; the first: {failed[0].reason}"
    budget = "" if options.budget is None else f"--budget {describe_seconds(options.budget.seconds)} was too short: "
    again = options.how_to_resume(study.folder)
    return f"{budget}no trial of the study ended with a result. Give more time or trials: {again}"


def _refit(study: Study, best: TrialRow, options: TuneOptions, runs: Path, *, page_s: float) -> Iterator[TrainEvent]:
    """Train the winner from best.toml, once. What the time cuts off is recorded in best.toml as in the run's own run.toml."""
    from recog.verbs.run import Clock
    from recog.verbs.train import train_events

    epochs = whole_epochs(study, best, options, page_s)
    config = read_config(study.folder / BEST)
    if epochs is not None:
        yield Note(text=f"the winner's own run: {plural(epochs, 'epoch')} instead of the {best.epochs} of its trial")
        config = with_options(config, {}, {"optim.epochs": epochs})
        write_run_config(study.folder, config, BEST)
    deadline = math.inf
    if options.budget is not None and best.recipe in study.job.rules.paces:
        deadline = refit_deadline(study, best, options.budget, page_s)
    clock = Clock(started=time.perf_counter(), deadline=deadline)
    for event in train_events(
        config, runs=runs, clock=clock, dataset=None if config.data.source else study.all_data.dataset
    ):
        yield event
        if isinstance(event, Run):
            trained = load_run_config(event.folder / RUN_CONFIG)
            if trained.stop.max_steps is not None:
                write_run_config(study.folder, trained, BEST)


def _write(study: Study, result: StudyResult, run: Run | None) -> None:
    from recog.tuning.page import render_study

    folder = study.folder
    write_bytes_atomic(folder / TRIALS, trials_csv(result.rows).encode())
    write_bytes_atomic(folder / RESULT, pretty_json(result.to_dict()))
    page = render_study(
        result, study.job.rules.space, run=None if run is None else run.report, runs_as=str(folder / BEST)
    )
    write_bytes_atomic(folder / PAGE, page.encode())
