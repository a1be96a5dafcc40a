"""`recog tune`: a search for settings that is resumable and honest, the winner's run, and the page of the study."""

from __future__ import annotations

import importlib
import math
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from recog.bundle.locate import RUNS
from recog.core import notebook
from recog.core.config import build_config, config_to_dict
from recog.core.errors import CheckpointError, ConfigError, DiskError, TrainingError
from recog.core.files import claim_folder, pretty_json, write_bytes_atomic
from recog.core.hardware import num_cores
from recog.core.outputs import check_name, derive_name
from recog.core.text import plural
from recog.core.version import __version__
from recog.data.dataset import Dataset
from recog.data.inspection import fingerprint
from recog.evaluation.measures.task import TASK_MEASURES
from recog.recipes.config import BY_STEPS, Recipe, TrainConfig, with_options
from recog.recipes.cost import Budget, describe_seconds
from recog.runs.folder import RUN_CONFIG, check_new_run, load_run_config, locked, read_config, write_run_config
from recog.tuning.optimism import estimate, unpack_targets
from recog.tuning.result import StudyResult, count_states, importances_of, short, trials_csv
from recog.tuning.space import Space, read_space, suited
from recog.tuning.storage import (
    Sampler,
    StudyFacts,
    TrialRow,
    best_of,
    check_storage,
    cut_torn_line,
    describe_sampler,
    open_storage,
    open_study,
    quiet_optuna,
    requeue,
    rows_of,
)
from recog.verbs.run import Note, Run

if TYPE_CHECKING:
    import optuna

    from recog.recipes.budget import Pace
    from recog.recipes.prepare import PreparedData
    from recog.tuning.search import Rules
    from recog.tuning.workers import Job
    from recog.verbs.train import TrainEvent

STUDIES = Path("studies")
STUDY_CONFIG, SPACE_FILE, JOURNAL = "study.toml", "space.toml", "journal.log"
BEST, TRIALS, PAGE, RESULT = "best.toml", "trials.csv", "study.html", "study.json"
DEFAULT_TRIALS = 30  # without --trials and --budget
NUM_SHOWN = 5
TRIAL_SHARE = 1 / 6  # of the time of the search: what the longest trial may take
SEARCH_SHARE = 0.5  # of what is left, where trials are shorter than the winner's own training
SPARE = 1.15  # of an expected time, for a machine whose speed varies


@dataclass(frozen=True, kw_only=True)
class TuneOptions:
    """How a study is conducted. The Run of the winner is measured on the test split only with `test`."""

    trials: int | None = None
    budget: Budget | None = None
    workers: int = 1
    storage: str = ""  # a journal file or an RDB URL; in the study's folder if empty
    space: Path | None = None
    sampler: Sampler = "tpe"
    name: str | None = None
    resume: str | None = None
    refit: bool = True
    test: bool = False

    def __post_init__(self) -> None:
        if self.trials is not None and self.trials < 1:
            raise ConfigError(f"--trials is {self.trials}; it must be 1 or more.")
        if not 1 <= self.workers <= max(1, num_cores()):
            raise ConfigError(
                f"--workers is {self.workers}; it must be from 1 to {num_cores()}, the cores that this process may use."
            )
        if self.sampler not in get_args(Sampler):
            raise ConfigError(f"--sampler is '{self.sampler}'; it must be one of {', '.join(get_args(Sampler))}.")
        if self.test and not self.refit:
            raise ConfigError("--test measures the winner's own run, which --no-refit leaves out; remove one of them.")
        if self.storage:
            check_storage(self.storage)
        if self.name is not None:
            check_name(self.name, "--name")


@dataclass(frozen=True, kw_only=True)
class TrialEnded:
    """A trial has ended; `best` are the best rows so far, `counts` the trials by state."""

    row: TrialRow
    best: tuple[TrialRow, ...]
    counts: dict[str, int]
    score_name: str


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
        return f"TuneRun({str(self.folder)!r}, {self.result.conclusions()[1]!r})"

    def _repr_html_(self) -> str:
        result = self.result
        rows = [
            (str(row.number), row.recipe, f"{row.score or 0:.1%}", "default" if row.is_default else _settings(row))
            for row in best_of(result.rows, NUM_SHOWN)
        ]
        parts = [notebook.paragraph(text) for text in result.conclusions()]
        parts.append(notebook.table(("Trial", "Recipe", result.score_name, "Settings"), rows))
        shares = (result.importances or {}).items()
        parts.append(notebook.bars((name, share, f"{share:.0%}") for name, share in shares))
        parts.append(notebook.paragraph(f"Page: {self.folder / PAGE}; config: {self.best_config}", soft=True))
        return notebook.card(f"Study {result.name}", result.data, *parts)

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        run = None if self.run is None else {"run": str(self.run.folder), "report": self.run.report.to_dict()}
        return {"folder": str(self.folder), "config": str(self.best_config), **self.result.to_dict(), "refit": run}


def _settings(row: TrialRow) -> str:
    return ", ".join(f"{name} {short(value)}" for name, value in row.settings.items())


TuneEvent = Note | TrialEnded | TuneRun


@dataclass(frozen=True, kw_only=True, eq=False)
class _Study:
    """A study that is open in this process."""

    folder: Path
    study: optuna.Study
    job: Job
    all_data: PreparedData  # with the test split
    started: float  # time.perf_counter
    paces: dict[Recipe, Pace] = field(default_factory=dict)

    @property
    def rows(self) -> list[TrialRow]:
        return rows_of(self.study, self.job.rules.space)


def tune_events(
    config: TrainConfig, options: TuneOptions, *, dataset: Dataset | None = None, runs: Path = RUNS
) -> Iterator[TuneEvent | TrainEvent]:
    """The events of a study as they happen, then those of the winner's run, the TuneRun last.

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
            study = _open(folder, config, options, space, data, started=started)
            for text in _describe(study, options):
                yield Note(text=text)
            yield from _search(study)
            result = _summary(study)
            if result.best is None:
                raise TrainingError(_nothing_found(study, options))
            write_best(study, result.best)
            _write(study, result, None)
            for text in result.conclusions():
                yield Note(text=text)
            run = None
            if options.refit:
                for event in _refit(study, result.best, options, runs):
                    run = event if isinstance(event, Run) else run
                    yield event
                _write(study, replace(result, duration_s=time.perf_counter() - started), run)
            shutil.rmtree(folder / "features", ignore_errors=True)
            yield TuneRun(folder=folder, result=result, run=run)


def _resumed(config: TrainConfig, options: TuneOptions) -> tuple[TrainConfig, TuneOptions]:
    """With the settings and the space of the study that is resumed."""
    if options.resume is None:
        return config, options
    folder = next((each for each in (Path(options.resume), STUDIES / options.resume) if (each / STUDY_CONFIG).is_file()), None)
    if folder is None:
        raise CheckpointError(
            f"there is no study '{options.resume}' to resume: neither {options.resume} nor {STUDIES / options.resume} holds a "
            f"{STUDY_CONFIG}. To start one: recog tune DATA"
        )
    if options.space is not None or options.storage or options.name:
        raise ConfigError("--resume goes on with the study's own space, storage and name; leave --space, --storage and --name out.")
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
    if options.workers > 1 and dataset is not None and not config.data.source:
        raise ConfigError("--workers starts processes, which read the data from disk; give a folder or a file, or leave it out.")
    check_new_run(config, None, runs)
    if options.resume is None and options.name is not None and os.path.lexists(STUDIES / options.name):
        if not options.storage:
            raise ConfigError(
                f"{STUDIES / options.name} already exists; go on with it by --resume {options.name}, or choose another --name."
            )


def _claim(config: TrainConfig, options: TuneOptions, data_name: str) -> Path:
    """A new folder for the study, with what resumes it."""
    try:
        if options.name is not None and not options.storage:
            (STUDIES / options.name).mkdir(parents=True)
            folder = STUDIES / options.name
        else:
            folder = claim_folder(STUDIES, options.name or data_name)
    except OSError as error:
        raise DiskError(f"cannot create a folder in {STUDIES.absolute()}: {error.strerror}.") from None
    write_run_config(folder, config, STUDY_CONFIG)
    if options.space is not None:
        shutil.copyfile(options.space, folder / SPACE_FILE)
    return folder


def _open(
    folder: Path, config: TrainConfig, options: TuneOptions, space: Space, data: PreparedData, *, started: float
) -> _Study:
    from recog.recipes.from_scratch import FAST_NETWORKS
    from recog.recipes.plan import choose_recipe
    from recog.tuning.search import Search
    from recog.tuning.trials import measured_out_of_fold, planned, without_test
    from recog.tuning.workers import Job

    has_val = "val" in data.dataset.given_splits
    usual, _ = choose_recipe(config, data.facts, has_val=has_val)
    networks = ["resnet8"]
    if usual == "scratch" or "scratch" in space.recipes:
        name = planned(replace(config, recipe="scratch"), data).model.name
        networks += list(FAST_NETWORKS)[: list(FAST_NETWORKS).index(name) + 1] if name in FAST_NETWORKS else []
    recipes: tuple[Recipe, ...] = ("head", "finetune") if usual == "head" and has_val else (usual,)
    space = suited(space, recipes=recipes, task=data.dataset.task, networks=networks)
    default = usual if usual in space.recipes else space.recipes[0]
    out_of_fold = measured_out_of_fold(data, space.recipes) or not has_val
    if options.workers > 1:
        threads = max(1, num_cores() // options.workers)
        config = replace(config, compute=replace(config.compute, num_threads=threads))
    tried = without_test(data)
    paces = _paces(config, tried, space) if options.budget is not None else {}
    where = options.storage or str(folder / JOURNAL)
    if not options.storage:
        cut_torn_line(folder / JOURNAL)
    rules = _rules(config, space, default, options, tried, paces)
    facts = StudyFacts(
        fingerprint=fingerprint(data.dataset, data.hashes),
        space=space.to_dict(),
        config=_same_everywhere(config),
        measured_on="cross-validation" if out_of_fold else "val",
        score_name=TASK_MEASURES[data.dataset.task].score_name,
    )
    name = folder.name if not options.storage else derive_name(options.name or data.dataset.name)
    study = open_study(open_storage(where), name, facts, where=where)
    requeue(study)
    job = Job(
        where=where,
        name=name,
        folder=folder,
        facts=facts,
        rules=rules,
        data=tried,
        out_of_fold=out_of_fold,
        num_workers=options.workers,
    )
    Search(study, job.runner(), rules, tried).queue_default()
    return _Study(folder=folder, study=study, job=job, all_data=data, started=started, paces=paces)


def _same_everywhere(config: TrainConfig) -> dict[str, Any]:
    """The settings without those that may differ between machines."""
    table = config_to_dict(config)
    for key in ("source", "images", "exclude", "relabel"):
        table["data"].pop(key, None)
    for key in ("compute", "checkpoint", "log_to", "report_images"):
        table.pop(key, None)
    return table


def _paces(config: TrainConfig, data: PreparedData, space: Space) -> dict[Recipe, Pace]:
    """What a run of each recipe takes on this machine, measured on its usual network."""
    from recog.recipes.budget import measure_pace
    from recog.tuning.trials import planned

    found = {}
    for recipe in space.recipes:
        usual = planned(replace(config, recipe=recipe), data).model
        model = {"recipe": recipe, "model.name": usual.name}
        size = {} if usual.image_size is None else {"model.image_size": usual.image_size}
        found[recipe] = measure_pace(with_options(config, {}, {**model, **size}), data)
    return found


def _rules(
    config: TrainConfig,
    space: Space,
    default: Recipe,
    options: TuneOptions,
    data: PreparedData,
    paces: dict[Recipe, Pace],
) -> Rules:
    """With the time for the search, and the epochs of its longest trial, as planned for the budget."""
    from recog.tuning.search import Rules
    from recog.tuning.trials import planned

    by_steps = [recipe for recipe in space.recipes if recipe in BY_STEPS]
    usual = max((planned(replace(config, recipe=recipe), data).optim.epochs or 1 for recipe in by_steps), default=1)
    trials = options.trials if options.trials is not None or options.budget is not None else DEFAULT_TRIALS
    rules = Rules(
        config=config,
        space=space,
        default_recipe=default,
        sampler=options.sampler,
        seed=config.seed,
        num_trials=trials,
        started=time.time(),
        longest=usual,
    )
    if options.budget is None:
        return rules
    left = options.budget.seconds - (time.perf_counter() - options.budget.started)
    rest = max((pace.before_s + pace.after_s for pace in paces.values()), default=0.0) * SPARE if options.refit else 0.0
    search_s, max_epochs = left - rest, None
    if by_steps:
        epoch_s = max(paces[recipe].epoch_s for recipe in by_steps)
        max_epochs = max(1, min(usual, int(TRIAL_SHARE * search_s / epoch_s)))
        is_short = max_epochs < usual and options.refit
        search_s *= SEARCH_SHARE if is_short else 1.0
        if options.refit and not is_short:
            search_s -= SPARE * max_epochs * epoch_s
    if search_s <= 0:
        raise ConfigError(
            f"--budget {describe_seconds(options.budget.seconds)} is too short for a study of these data: the winner's own run "
            f"is expected to take {describe_seconds(rest)}. Give more time, or --no-refit."
        )
    return replace(
        rules, deadline=time.time() + search_s, max_epochs=max_epochs, longest=max_epochs or rules.longest
    )


def _describe(study: _Study, options: TuneOptions) -> Iterator[str]:
    rules, rows = study.job.rules, study.rows
    yield f"study folder: {study.folder}"
    if rules.num_trials is not None and rules.deadline is None:
        end = f"until {plural(rules.num_trials, 'trial')} have ended"
    else:
        end = f"for {describe_seconds(max(1.0, (rules.deadline or 0.0) - time.time()))}"
    longest = f", trials of up to {plural(rules.longest, 'epoch')}" if set(rules.space.recipes) & set(BY_STEPS) else ""
    where = "the validation split" if not study.job.out_of_fold else "all images that are not for testing, by cross-validation"
    yield f"recipes {', '.join(rules.space.recipes)}, {end}{longest}; trials are measured on {where}, the test split is not used"
    yield f"sampler: {describe_sampler(rules.sampler, rules.seed)}; trial 0 is the default recipe"
    if options.workers > 1:
        yield f"{options.workers} processes, {plural(rules.config.compute.num_threads or 1, 'thread')} each"
    ended = [row for row in rows if row.state in ("done", "pruned", "failed")]
    if ended:
        yield f"resuming a study with {plural(len(ended), 'trial')} that have ended"


def _search(study: _Study) -> Iterator[TuneEvent]:
    from recog.tuning.search import Search
    from recog.tuning.workers import run_in_processes
    from recog.verbs.embedded import state_kept

    job = study.job
    with state_kept():
        if job.num_workers > 1:
            rows = run_in_processes(job, study.study)
        else:
            rows = Search(study.study, job.runner(), job.rules, job.data).trials()
        for row in rows:
            known = study.rows
            counts = count_states(known)
            yield TrialEnded(row=row, best=tuple(best_of(known, NUM_SHOWN)), counts=counts, score_name=job.facts.score_name)


def _summary(study: _Study) -> StudyResult:
    rows, job, packed = study.rows, study.job, study.study.user_attrs.get("targets")
    targets = None if packed is None else unpack_targets(packed)
    done = [row for row in rows if row.state == "done"]
    default = next((i for i, row in enumerate(done) if row.is_default), None)
    luck = None
    if targets is not None:
        luck = estimate([row.answers for row in done], [row.nll or 0.0 for row in done], targets, default=default)
    return StudyResult(
        name=job.name,
        data=job.data.dataset.name,
        rows=tuple(rows),
        score_name=job.facts.score_name,
        measured_on=job.facts.measured_on,
        num_images=0 if targets is None else len(targets),
        sampler=describe_sampler(job.rules.sampler, job.rules.seed),
        fingerprint=job.facts.fingerprint,
        optimism=luck,
        importances=importances_of(study.study),
        duration_s=time.perf_counter() - study.started,
        version=__version__,
    )


def _nothing_found(study: _Study, options: TuneOptions) -> str:
    failed = [row for row in study.rows if row.state == "failed"]
    if failed:
        return f"all {plural(len(failed), 'trial')} failed; the first: {failed[0].reason}"
    budget = "" if options.budget is None else f"--budget {describe_seconds(options.budget.seconds)} was too short: "
    return f"{budget}no trial of the study ended with a result. Give more time or trials: recog tune --resume {study.folder}"


def write_best(study: _Study, best: TrialRow) -> None:
    """best.toml: every setting of the winner, for the whole machine and, where its trial was short, the epochs of a whole run."""
    config = study.job.rules.config
    found = build_config(TrainConfig, dict(best.plan))
    threads = config.compute.num_threads if study.job.num_workers == 1 else None
    found = replace(
        found,
        data=replace(found.data, **{key: getattr(config.data, key) for key in ("source", "images", "exclude", "relabel")}, fingerprint=None),
        compute=replace(found.compute, num_threads=threads or num_cores()),
    )
    write_run_config(study.folder, found, BEST)


def _refit(study: _Study, best: TrialRow, options: TuneOptions, runs: Path) -> Iterator[TrainEvent]:
    """Train the winner from best.toml, once. What the time cuts off is recorded in best.toml as in the run's own run.toml."""
    from recog.verbs.train import Clock, train_events

    epochs = _whole_epochs(study, best, options)
    config = read_config(study.folder / BEST)
    if epochs is not None:
        yield Note(text=f"the winner's own run: {plural(epochs, 'epoch')} instead of the {best.epochs} of its trial")
        config = with_options(config, {}, {"optim.epochs": epochs})
        write_run_config(study.folder, config, BEST)
    deadline = math.inf
    if options.budget is not None and best.recipe in study.paces:
        deadline = options.budget.started + options.budget.seconds - study.paces[best.recipe].after_s
    clock = Clock(started=time.perf_counter(), deadline=deadline, opens_test=options.test)
    for event in train_events(config, runs=runs, clock=clock, dataset=None if config.data.source else study.all_data.dataset):
        yield event
        if isinstance(event, Run):
            trained = load_run_config(event.folder / RUN_CONFIG)
            if trained.stop.max_steps is not None:
                write_run_config(study.folder, trained, BEST)


def _whole_epochs(study: _Study, best: TrialRow, options: TuneOptions) -> int | None:
    """The epochs of the winner's run that the time left allows, where those of its trial were shortened for the search."""
    rules = study.job.rules
    if options.budget is None or best.recipe not in BY_STEPS or rules.max_epochs is None or not best.epochs:
        return None
    from recog.tuning.trials import planned

    usual = planned(replace(build_config(TrainConfig, dict(best.plan)), optim=replace(rules.config.optim, epochs=None)), study.job.data)
    most = usual.optim.epochs or 1
    pace = study.paces[best.recipe]
    left = options.budget.started + options.budget.seconds - time.perf_counter() - SPARE * (pace.before_s + pace.after_s)
    fitting = int(left / (best.full_s / best.epochs))
    epochs = max(best.epochs, min(most, fitting))
    return epochs if epochs > best.epochs else None


def _write(study: _Study, result: StudyResult, run: Run | None) -> None:
    from recog.tuning.page import render_study

    folder = study.folder
    write_bytes_atomic(folder / TRIALS, trials_csv(result.rows).encode())
    write_bytes_atomic(folder / RESULT, pretty_json(result.to_dict()))
    page = render_study(result, study.job.rules.space, run=None if run is None else run.report, runs_as=str(folder / BEST))
    write_bytes_atomic(folder / PAGE, page.encode())
