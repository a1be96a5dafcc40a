"""A study that is open in this process: its plan within the time, its summary, and the config of its winner."""

from __future__ import annotations

import math
import os
import shlex
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recog.core.config import build_config, config_to_dict
from recog.core.errors import ConfigError
from recog.core.hardware import num_cores
from recog.core.outputs import check_name, derive_name
from recog.core.text import plural
from recog.core.version import __version__
from recog.data.inspection import fingerprint
from recog.evaluation.measures.task import TASK_MEASURES
from recog.recipes.config import BY_STEPS, Recipe, TrainConfig, with_options
from recog.recipes.cost import AIM, LATE, Budget, describe_seconds
from recog.runs.folder import write_run_config
from recog.tuning.lost_trials import describe_running, requeue
from recog.tuning.optimism import estimate, unpack_targets
from recog.tuning.result import StudyResult, importances_of
from recog.tuning.space import Space, suited
from recog.tuning.storage import (
    Sampler,
    StudyFacts,
    TrialRow,
    check_sampler,
    check_storage,
    describe_sampler,
    open_storage,
    open_study,
    repair_journal,
    rows_of,
)

if TYPE_CHECKING:
    import optuna

    from recog.recipes.budget import Pace
    from recog.recipes.prepare import PreparedData
    from recog.tuning.search import Rules
    from recog.tuning.workers import Job

JOURNAL, BEST = "journal.log", "best.toml"
NUM_TRIALS = "num_trials"  # the study's own attribute
DEFAULT_TRIALS = 30  # without --trials and --budget
TRIAL_SHARE = 1 / 5  # of the time of the search: what the longest trial may take
SEARCH_SHARE = 0.4  # of the time for training, where the winner's own run cannot have all its epochs
HEAD_COST = 2.0  # of a head's usual input over that of fine-tuning
SUMMARY_S, SUMMARY_SHARE = 4.0, 0.3  # for importances and the page: at least, and of what follows a run's training
MIN_SHARE = 0.5  # of a recipe's usual epochs: with fewer, its trials tell little and it is left out


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
        most = max(num_cores(), os.cpu_count() or 1)
        if not 1 <= self.workers <= most:
            raise ConfigError(f"--workers is {self.workers}; it must be from 1 to {most}, the cores of this machine.")
        check_sampler(self.sampler)
        if self.test and not self.refit:
            raise ConfigError("--test measures the winner's own run, which --no-refit leaves out; remove one of them.")
        if self.storage:
            check_storage(self.storage)
        if self.name is not None:
            check_name(self.name, "--name")

    def how_to_resume(self, folder: str | Path) -> str:
        """The command for the study in `folder`, in words."""
        return "the same command again" if self.storage else f"recog tune --resume {shlex.quote(str(folder))}"


@dataclass(frozen=True, kw_only=True, eq=False)
class Study:
    """A study that is open in this process."""

    folder: Path
    study: optuna.Study
    job: Job
    all_data: PreparedData  # with the test split
    started: float  # time.perf_counter
    notes: tuple[str, ...] = ()

    @property
    def rows(self) -> list[TrialRow]:
        return rows_of(self.study, self.job.rules.space)


def open_in(
    folder: Path, config: TrainConfig, options: TuneOptions, space: Space, data: PreparedData, *, started: float
) -> Study:
    """The study in `folder`, new or resumed: planned within the budget, with the default recipe as its first trial."""
    from recog.tuning.search import Search
    from recog.tuning.trials import measured_out_of_fold, without_test
    from recog.tuning.workers import Job

    if options.workers > 1:
        threads = max(1, num_cores() // options.workers)
        config = replace(config, compute=replace(config.compute, num_threads=threads))
    where = options.storage or str(folder / JOURNAL)
    name = folder.name if not options.storage else derive_name(options.name or data.dataset.name)
    if not options.storage:
        repair_journal(folder / JOURNAL)
    tried = without_test(data)
    begun = space.recipes or _recipes_of(where, name)  # whatever its time now allows
    rules, notes = _plan(config, options, replace(space, recipes=begun), data)
    out_of_fold = measured_out_of_fold(data, rules.space.recipes) or "val" not in data.dataset.given_splits
    facts = StudyFacts(
        fingerprint=fingerprint(data.dataset, data.hashes),
        space=rules.space.to_dict(),
        config=_same_everywhere(config),
        measured_on="cross-validation" if out_of_fold else "val",
        score_name=TASK_MEASURES[data.dataset.task].score_name,
    )
    study = open_study(open_storage(where), name, facts, where=where)
    notes = (*notes, *requeue(study), *describe_running(study))
    rules = _as_begun(study, rules, options)
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
    return Study(folder=folder, study=study, job=job, all_data=data, started=started, notes=notes)


def _recipes_of(where: str, name: str) -> tuple[Recipe, ...]:
    """Those of the study, if it has begun: a study goes on with them, whatever would fit the time that it is given now."""
    import optuna

    try:
        facts = optuna.load_study(study_name=name, storage=open_storage(where)).user_attrs
    except KeyError:
        return ()
    return tuple(facts.get("space", {}).get("recipes", ()))


def _as_begun(study: optuna.Study, rules: Rules, options: TuneOptions) -> Rules:
    """A study that is resumed without --trials or --budget goes on to as many trials as it was begun with."""
    if options.resume is not None and options.trials is None and options.budget is None:
        return replace(rules, num_trials=study.user_attrs.get(NUM_TRIALS, rules.num_trials))
    if rules.num_trials is not None:
        study.set_user_attr(NUM_TRIALS, rules.num_trials)
    return rules


def _plan(config: TrainConfig, options: TuneOptions, space: Space, data: PreparedData) -> tuple[Rules, tuple[str, ...]]:
    """The rules for these data, and notes. Recipes that no one asked for must be affordable."""
    from recog.recipes.plan import choose_recipe
    from recog.tuning.trials import without_test

    measured, data = data if options.test else without_test(data), without_test(data)
    has_val = "val" in data.dataset.given_splits
    usual, _ = choose_recipe(config, data.facts, has_val=has_val)
    recipes: tuple[Recipe, ...] = ("head", "finetune") if usual == "head" and has_val else (usual,)
    suiting = suited(space, recipes=recipes, task=data.dataset.task, networks=_networks(config, usual, space, data))
    default = usual if usual in suiting.recipes else suiting.recipes[0]
    if options.budget is None:
        return _rules(config, suiting, default, options, data, {}), ()
    is_open = not space.recipes and len(recipes) > 1
    heads = replace(suiting, recipes=("head",), dimensions=suiting.of("head"))
    try:
        paces = _paces(config, measured, suiting, options.budget)
        rules = _rules(config, suiting, default, options, data, paces)
    except ConfigError:
        if not is_open:
            raise
        paces = _paces(config, measured, heads, options.budget)
        return _rules(config, heads, default, options, data, paces), (_LEFT_OUT,)
    if not is_open or rules.longest >= MIN_SHARE * _usual_epochs(config, suiting, data):
        return rules, ()
    return _rules(config, heads, default, options, data, paces), (_LEFT_OUT,)


_LEFT_OUT = (
    "recipe finetune is left out, as its trials would be too short within this budget; a space file with "
    'recipe = ["head", "finetune"] asks for it'
)


def _networks(config: TrainConfig, usual: Recipe, space: Space, data: PreparedData) -> list[str]:
    """Of recipe scratch, those that the images are large and many enough for."""
    from recog.recipes.from_scratch import FAST_NETWORKS
    from recog.tuning.trials import planned

    if usual != "scratch" and "scratch" not in space.recipes:
        return []
    name = planned(replace(config, recipe="scratch"), data).model.name
    fast = FAST_NETWORKS[: FAST_NETWORKS.index(name) + 1] if name in FAST_NETWORKS else ()
    return ["resnet8", *fast]


def _usual_epochs(config: TrainConfig, space: Space, data: PreparedData) -> int:
    """Those that the recipes are planned for without a budget."""
    from recog.tuning.trials import planned

    by_steps = [recipe for recipe in space.recipes if recipe in BY_STEPS]
    return max((planned(replace(config, recipe=recipe), data).optim.epochs or 1 for recipe in by_steps), default=1)


def _same_everywhere(config: TrainConfig) -> dict[str, Any]:
    """The settings without those that may differ between machines."""
    table = config_to_dict(config)
    for key in ("source", "images", "exclude", "relabel"):
        table["data"].pop(key, None)
    for key in ("compute", "checkpoint", "log_to", "report_images", "report_split"):
        table.pop(key, None)
    return table


def _paces(config: TrainConfig, data: PreparedData, space: Space, budget: Budget) -> dict[str, Pace]:
    """What a run of each recipe takes on this machine, measured on the usual network of those that take longest."""
    from recog.recipes.budget import measure_pace
    from recog.tuning.trials import planned

    found: dict[str, Pace] = {}
    for recipe in [each for each in space.recipes if each in BY_STEPS] or space.recipes:
        usual = planned(replace(config, recipe=recipe), data).model
        model = {"recipe": recipe, "model.name": usual.name}
        size = {} if usual.image_size is None else {"model.image_size": usual.image_size}
        found[recipe] = measure_pace(with_options(config, {}, {**model, **size}), data, budget)
    if "head" in space.recipes and "head" not in found:
        slowest = max(found.values(), key=lambda pace: pace.before_s)
        found["head"] = replace(slowest, epoch_s=0.0, before_s=HEAD_COST * slowest.before_s)
    return found


def _rules(
    config: TrainConfig,
    space: Space,
    default: Recipe,
    options: TuneOptions,
    data: PreparedData,
    paces: dict[str, Pace],
) -> Rules:
    """With the time for the search, and the epochs of its longest trial, as planned for the budget."""
    from recog.tuning.search import SPARE, Rules

    by_steps = [recipe for recipe in space.recipes if recipe in BY_STEPS]
    usual = _usual_epochs(config, space, data)
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
    used = time.perf_counter() - options.budget.started
    left = AIM * options.budget.seconds - used
    slowest = max(paces.values(), key=lambda pace: pace.before_s + pace.after_s)
    rest = SPARE * (slowest.before_s + slowest.after_s) if options.refit else 0.0
    summary_s = max(SUMMARY_S, SUMMARY_SHARE * slowest.after_s)
    search_s, max_epochs, refit_s = left - rest - summary_s, None, slowest.before_s
    if by_steps:
        epoch_s = max(paces[recipe].epoch_s for recipe in by_steps)
        if options.refit:  # the winner's own run has all its epochs, or those that fit
            search_s = max(0.0, search_s)
            share = SEARCH_SHARE * min(1.0, search_s / (usual * epoch_s))  # less where not even one whole run fits
            search_s -= min(SPARE * usual * epoch_s, (1 - share) * search_s)
        max_epochs = max(1, min(usual, int(TRIAL_SHARE * search_s / epoch_s)))
        refit_s = (
            math.inf if max_epochs < usual else max_epochs * epoch_s
        )  # where shorter, a run has the epochs that then fit
    if search_s <= 0:
        needed = 60 * math.ceil((used + 2 * rest) / 60)
        raise ConfigError(
            f"--budget {describe_seconds(options.budget.seconds)} is too short for a study of these data: the winner's own run "
            f"is expected to take {describe_seconds(rest)}. Give --budget {describe_seconds(needed)} or more, or --no-refit."
        )
    return replace(
        rules,
        deadline=time.time() + search_s,
        refit_s=refit_s if options.refit else math.inf,
        rest_s=summary_s + SPARE * slowest.after_s,
        paces=paces,
        max_epochs=max_epochs,
        longest=max_epochs or rules.longest,
    )


def describe_short(study: Study) -> list[str]:
    """A note where the budget makes trials so short that they tell little."""
    rules = study.job.rules
    usual = _usual_epochs(rules.config, rules.space, study.job.data)
    if rules.max_epochs is None or rules.max_epochs >= MIN_SHARE * usual:
        return []
    return [
        f"note: a whole run has {plural(usual, 'epoch')}, of which short trials tell little; without a search, "
        "recog train --budget spends the same time on a longer run"
    ]


def summarise(study: Study) -> StudyResult:
    job, packed = study.job, study.study.user_attrs.get("targets")
    rows = [row for row in study.rows if row.state != "waiting"]  # queued again, but the study ended before
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


def write_best(study: Study, best: TrialRow, options: TuneOptions) -> None:
    """best.toml: every setting of the winner's own run, for the whole machine."""
    config = study.job.rules.config
    found = build_config(TrainConfig, dict(best.plan))
    threads = config.compute.num_threads if study.job.num_workers == 1 else None
    found = replace(
        found,
        data=replace(
            found.data,
            **{key: getattr(config.data, key) for key in ("source", "images", "exclude", "relabel")},
            fingerprint=None,
        ),
        compute=replace(found.compute, num_threads=threads or num_cores()),
        report_split="auto" if options.test else "val",
    )
    write_run_config(study.folder, found, BEST)


def refit_deadline(study: Study, best: TrialRow, budget: Budget, page_s: float) -> float:
    """When the winner's training has to end, in seconds of time.perf_counter: what follows takes longer by as much as its trial
    did. `page_s` are for the page of the study, as it took before.
    """
    from recog.tuning.search import slowness

    paces = study.job.rules.paces
    after_s = LATE * slowness(best, paces) * paces[best.recipe].after_s
    return budget.started + AIM * budget.seconds - after_s - page_s


def whole_epochs(study: Study, best: TrialRow, options: TuneOptions, page_s: float) -> int | None:
    """The epochs of the winner's run that the time left allows, where those of its trial were shortened for the search."""
    from recog.tuning.search import SPARE

    rules = study.job.rules
    if options.budget is None or best.recipe not in BY_STEPS or rules.max_epochs is None or not best.epochs:
        return None
    usual = _usual_epochs(rules.config, rules.space, study.job.data)
    most = round(best.epochs * usual / rules.max_epochs)

    left = (
        refit_deadline(study, best, options.budget, page_s)
        - time.perf_counter()
        - SPARE * rules.paces[best.recipe].before_s
    )
    fitting = int(left / (best.full_s / best.epochs))
    epochs = max(best.epochs, min(most, fitting))
    return epochs if epochs > best.epochs else None
