"""The loop of a study: which trial comes next, pruning by successive halving, and what is recorded of each."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import spearmanr

from recog.core.errors import TrainingStopped
from recog.recipes.config import BY_STEPS, Recipe, TrainConfig
from recog.recipes.plan import Plan
from recog.recipes.prepare import PreparedData
from recog.tuning.lost_trials import kept_alive, queue_again, requeue
from recog.tuning.optimism import pack_targets
from recog.tuning.space import Dimension, Space, Value, active
from recog.tuning.storage import (
    NUM_NEAR,
    Sampler,
    TrialRow,
    best_of,
    build_sampler,
    rows_of,
)
from recog.tuning.trials import TrialEndedError, TrialRunner, config_of, planned

if TYPE_CHECKING:
    import optuna

    from recog.recipes.budget import Pace

REDUCTION = 3  # of successive halving: about a third of the trials goes on at each rung
SPARE = 1.15  # of the winner's time, for a machine whose speed varies
MIN_RUNG = 2  # epochs: the first one is mostly warm-up
HEAD_SHARE = 1 / 3  # of the trials, or of the time, before gradient training begins
FEATURE_SETTINGS = ("model.name", "model.image_size", "head.layers", "head.mirror")  # of recipe head
REDRAWN = 1 / 3  # of the settings, in a trial near the default recipe
MAX_REPEATED = 30  # settings in a row that had been tried: the space has no others
MIN_CORRELATED = 5  # finished trials from which the rank correlation of a rung with the end is taken
MIN_CORRELATION = 0.3  # below, a rung predicts the final result too poorly to prune there


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What all processes of a study on one machine go by. Times are of time.time, which they share."""

    config: TrainConfig
    space: Space
    default_recipe: Recipe
    sampler: Sampler = "tpe"
    seed: int = 0
    num_trials: int | None = None  # of all processes together
    started: float = 0.0
    deadline: float | None = None  # after which no trial runs
    refit_s: float = math.inf  # that are kept free for what the winner's own training takes; inf: as long as it needs
    rest_s: float = 0.0  # that are kept free for what follows both, as planned
    paces: Mapping[str, Pace] = field(default_factory=dict)  # as measured before the study; without a budget none
    max_epochs: int | None = None  # of a trial; None: as planned without a budget
    longest: int = 1  # epochs of the longest trial, of which the rungs are parts

    @property
    def has_phases(self) -> bool:
        """Whether heads, which cost seconds, come before gradient training."""
        return "head" in self.space.recipes and len(self.space.recipes) > 1

    @property
    def first_rung(self) -> int:
        """Epochs after which a trial may be pruned."""
        return max(MIN_RUNG, self.longest // REDUCTION**2)


def slowness(row: TrialRow, paces: Mapping[str, Pace]) -> float:
    """How many times longer the trial took than planned, at least 1: the machine may be busier than when it was measured."""
    pace = paces.get(row.recipe)
    planned_s = 0.0 if pace is None else pace.before_s + row.epochs * pace.epoch_s
    return max(1.0, row.full_s / planned_s) if planned_s > 0 else 1.0


def default_settings(space: Space, config: TrainConfig, data: PreparedData, recipe: Recipe) -> dict[str, Value]:
    """By name of the dimension, the values of the recipe without a search, as far as the space has them."""
    usual = planned(replace(config, recipe=recipe), data)
    values = {each.name: _value_in(usual, each) for each in space.of(recipe)}
    found = {each.name: values[each.name] for each in space.of(recipe) if each.contains(values[each.name])}
    if len(space.recipes) > 1:
        found = {"recipe": recipe, **found}
    return {name: value for name, value in found.items() if isinstance(value, (bool, int, float, str))}


def _value_in(usual: Plan, dimension: Dimension) -> object:
    """As a choice of the space: a size of two equal sides is one number, a list of one strength the strength."""
    if dimension.times_default:
        return 1.0
    section, _, key = dimension.setting.partition(".")
    value = getattr(getattr(usual, section), key) if key else getattr(usual, section)
    if isinstance(value, tuple) and len(set(value)) == 1:
        return value[0]
    if value is None and dimension.setting == "head.layers":
        return "multi"
    return value


Watch = Callable[[Sequence[TrialRow]], None]


def unwatched(rows: Sequence[TrialRow]) -> None:
    pass


class Search:
    """The part of a study that one process runs."""

    def __init__(
        self, study: optuna.Study, runner: TrialRunner, rules: Rules, data: PreparedData, *, watch: Watch = unwatched
    ) -> None:
        """`watch` is told of the trials that run, at the start of one of this process and after each of its epochs."""
        import optuna

        self._watch = watch
        self._study, self._runner, self._rules, self._data = study, runner, rules, data
        self._defaults = {each: default_settings(rules.space, rules.config, data, each) for each in rules.space.recipes}
        self._default = self._defaults[rules.default_recipe]
        study.pruner = optuna.pruners.SuccessiveHalvingPruner(
            min_resource=rules.first_rung, reduction_factor=REDUCTION, min_early_stopping_rate=0
        )

    def queue_default(self) -> None:
        """The recipe without a search is the first trial."""
        if not self._study.get_trials(deepcopy=False):
            self._study.enqueue_trial(self._default, user_attrs={"default": True})

    def trials(self) -> Iterator[TrialRow]:
        """Run trials until their number or the time is reached, or all settings are tried; each row as it ends."""
        num_repeated = 0
        requeue(self._study)
        while (recipes := self._next(rows_of(self._study, self._rules.space))) is not None:
            ended = self._run_one(recipes[0] if len(recipes) == 1 else None)
            num_repeated = 0 if ended else num_repeated + 1
            if num_repeated >= MAX_REPEATED:
                return
            yield from ended
            requeue(self._study)

    @property
    def _has_choice(self) -> bool:
        return len(self._rules.space.recipes) > 1

    def _run_one(self, recipe: Recipe | None) -> list[TrialRow]:
        """The row of the trial that ran; none where an earlier one has its settings, or another process took it over."""
        import optuna

        number = len(self._study.get_trials(deepcopy=False))
        fixed = {} if recipe is None else self._fixed(recipe, number)
        self._study.sampler = build_sampler(self._rules.sampler, seed=self._rules.seed, number=number, fixed=fixed)
        ran: list[int] = []
        taken_over: list[int] = []

        def objective(trial: optuna.Trial) -> float:
            ran.append(trial.number)
            try:
                return self._objective(trial)
            except (
                optuna.exceptions.UpdateFinishedTrialError
            ):  # this process had been silent, such as a suspended machine
                taken_over.append(trial.number)
                raise

        try:
            self._study.optimize(objective, n_trials=1, catch=(_FailedError,))
        except ValueError:  # of Optuna, which cannot end a trial a second time
            if not taken_over:
                raise
        return [row for row in rows_of(self._study, self._rules.space) if row.number in ran]

    def _fixed(self, recipe: Recipe, number: int) -> dict[str, Value]:
        """What trial `number` does not choose: its recipe, and at first most settings of the recipe without a search.

        These are good, and few random ones are.
        """
        fixed: dict[str, Value] = {"recipe": recipe} if self._has_choice else {}
        fixed |= self._known_features() if recipe == "head" else {}
        num_before = sum(row.recipe == recipe for row in rows_of(self._study, self._rules.space))
        usual = [(name, value) for name, value in self._defaults[recipe].items() if name != "recipe"]
        if self._rules.sampler == "random" or num_before >= NUM_NEAR or not usual:
            return fixed
        rng = np.random.default_rng((self._rules.seed, number))
        is_redrawn = rng.random(len(usual)) < REDRAWN
        is_redrawn[rng.integers(len(usual))] = True
        return dict(pair for pair, redrawn in zip(usual, is_redrawn, strict=True) if not redrawn) | fixed

    def _objective(self, trial: optuna.Trial) -> float:
        try:
            with kept_alive(trial):
                recipe, values = self._suggest(trial)
                self._check_new(trial)
                return self._measure(trial, recipe, values)
        except TrialEndedError as ended:
            import optuna

            trial.set_user_attr("epochs", ended.epochs)
            trial.set_user_attr("reason", ended.reason)
            if ended.has_failed:
                raise _FailedError(ended.reason) from None
            raise optuna.TrialPruned(ended.reason) from None
        except (KeyboardInterrupt, TrainingStopped):
            queue_again(self._study, trial)
            raise

    def _suggest(self, trial: optuna.Trial) -> tuple[Recipe, dict[str, Value]]:
        """Recipe and settings of `trial`."""
        rules = self._rules
        if trial.user_attrs.get("default"):
            for dimension in rules.space.of(rules.default_recipe):
                if dimension.name in self._default:
                    _suggest(trial, dimension)
            if self._has_choice:
                trial.suggest_categorical("recipe", rules.space.recipes)
            recipe, values = rules.default_recipe, dict[str, Value]()
        else:
            recipe = rules.space.recipes[0]
            if self._has_choice:
                chosen = trial.suggest_categorical("recipe", rules.space.recipes)
                recipe = next(each for each in rules.space.recipes if each == chosen)
            named = active(rules.space.of(recipe), lambda dimension: _suggest(trial, dimension))
            values = {name.partition("/")[2]: value for name, value in named.items()}
        trial.set_user_attr("recipe", recipe)
        return recipe, values

    def _check_new(self, trial: optuna.Trial) -> None:
        """End `trial` where an earlier one has its settings, or as many as wanted are there without it."""
        import optuna

        def ends(because: int) -> optuna.TrialPruned:
            trial.set_user_attr("repeats", because)
            return optuna.TrialPruned(f"repeats trial {because}")

        is_default = bool(trial.user_attrs.get("default"))
        earlier = [
            each
            for each in self._study.get_trials(deepcopy=False)
            if each.number < trial.number
            and "repeats" not in each.user_attrs
            and not (each.state.name == "FAIL" and "reason" not in each.user_attrs)
            and each.state.name != "WAITING"
        ]
        for each in earlier:
            if each.params == trial.params and (each.user_attrs.get("default") or not is_default):
                raise ends(each.number)
        if self._rules.num_trials is not None and len(earlier) >= self._rules.num_trials:
            raise ends(-1)

    def _measure(self, trial: optuna.Trial, recipe: Recipe, values: Mapping[str, Value]) -> float:
        rules = self._rules
        factors = frozenset(each.setting for each in rules.space.of(recipe) if each.times_default)
        config = config_of(rules.config, self._data, recipe, values, factors=factors, max_epochs=rules.max_epochs)
        left = self._left(rows_of(self._study, rules.space))
        trial.set_user_attr("num_epochs", config.optim.epochs or 0)
        self._tell()

        def report(epoch: int, score: float) -> str:
            trial.report(score, epoch)
            self._tell()
            is_kept = trial.user_attrs.get("default") or epoch >= (config.optim.epochs or 1)
            if is_kept or not trial.should_prune() or not self._is_telling(epoch):
                return ""
            return f"pruned after epoch {epoch}: not among the best third at this point"

        outcome = self._runner.run(config, report, deadline=time.perf_counter() + left)
        if self._runner.targets is not None and "targets" not in self._study.user_attrs:
            self._study.set_user_attr("targets", pack_targets(self._runner.targets))
        facts: dict[str, Any] = {
            "nll": outcome.nll,
            "epochs": outcome.epochs,
            "full_s": round(outcome.full_s, 3),
            "own_s": round(outcome.own_s, 3),
            "answers": outcome.answers,
            "plan": dict(outcome.plan),
        }
        for key, value in facts.items():
            trial.set_user_attr(key, value)
        return outcome.score

    def _tell(self) -> None:
        self._watch([row for row in rows_of(self._study, self._rules.space) if row.state == "running"])

    def _is_telling(self, epoch: int) -> bool:
        """Whether the scores after `epoch` order the trials about as their ends do, as far as that is known."""
        found = rank_correlation(rows_of(self._study, self._rules.space), epoch)
        return found is None or found >= MIN_CORRELATION

    def _next(self, rows: Sequence[TrialRow]) -> tuple[Recipe, ...] | None:
        """The recipes among which the next trial chooses; None where the study ends."""
        rules, counted = self._rules, [row for row in rows if row.state != "waiting"]
        if rules.num_trials is not None and len(counted) >= rules.num_trials:
            return None
        if not counted:
            return rules.space.recipes
        fitting = [recipe for recipe in rules.space.recipes if self._fits(rows, recipe)]
        if not fitting:
            return None
        if not rules.has_phases:
            return tuple(fitting)
        by_steps = tuple(recipe for recipe in fitting if recipe in BY_STEPS)
        is_first = self._is_phase_of_heads(counted) and "head" in fitting
        return ("head",) if is_first or not by_steps else by_steps

    def _is_phase_of_heads(self, counted: Sequence[TrialRow]) -> bool:
        rules = self._rules
        is_early = rules.deadline is None or time.time() < rules.started + HEAD_SHARE * (rules.deadline - rules.started)
        limit = max(2, round(HEAD_SHARE * (rules.num_trials or 120)))
        return is_early and sum(row.recipe == "head" for row in counted) < limit

    def _left(self, rows: Sequence[TrialRow]) -> float:
        """Seconds for the search. Where the best trial took longer than planned, so will the winner's own run and its report."""
        rules, best = self._rules, best_of(rows, 1)
        if rules.deadline is None:
            return math.inf
        longer = max((SPARE * row.full_s - rules.refit_s for row in best), default=0.0)
        later = (slowness(best[0], rules.paces) - 1) * rules.rest_s if best else 0.0
        return rules.deadline - max(0.0, longer) - later - time.time()

    def _known_features(self) -> dict[str, Value]:
        """What decides the features of the best head, where the time left is too short for a head that needs others."""
        rows = [row for row in rows_of(self._study, self._rules.space) if row.recipe == "head" and row.state == "done"]
        if not rows or self._left(rows) > SPARE * max(row.full_s for row in rows):
            return {}
        own = self._rules.space.of("head")
        needed = {each.setting for each in own if each.setting in FEATURE_SETTINGS and each.when is None}
        whole = [
            row for row in rows if needed <= row.settings.keys()
        ]  # the default may be of a size that is not in the space
        found = best_of(whole, 1)[0].settings if whole else {}
        return {f"head/{name}": found[name] for name in FEATURE_SETTINGS if name in found}

    def _fits(self, rows: Sequence[TrialRow], recipe: Recipe) -> bool:
        """Whether a trial that starts now is expected to tell something before the time is up."""
        left = self._left(rows)
        if left == math.inf:
            return True
        of_recipe = [row for row in rows if row.recipe == recipe and row.seconds is not None]
        if recipe == "head":
            times = [row.own_s for row in of_recipe]  # the last ones use features that are there
        else:
            times = [(row.seconds or 0.0) / row.epochs * self._rules.first_rung for row in of_recipe if row.epochs]
        return left > (statistics.median(times) if times else 0.0)


class _FailedError(Exception):
    """A trial that is recorded as failed."""


def _suggest(trial: optuna.Trial, dimension: Dimension) -> Value:
    if dimension.choices:
        value = trial.suggest_categorical(dimension.name, dimension.choices)
        return dimension.choices[0] if value is None else value
    if dimension.is_whole:
        return trial.suggest_int(dimension.name, int(dimension.low), int(dimension.high), log=dimension.log)
    return trial.suggest_float(dimension.name, dimension.low, dimension.high, log=dimension.log)


def rank_correlation(rows: Sequence[TrialRow], epoch: int) -> float | None:
    """Spearman's, of the scores after `epoch` with those at the end, over the trials that were trained further.

    None for fewer than MIN_CORRELATED, or where all are equal.
    """
    pairs = [
        (row.by_epoch[epoch], row.score)
        for row in rows
        if row.state == "done" and row.score is not None and epoch in row.by_epoch and row.epochs > epoch
    ]
    if len(pairs) < MIN_CORRELATED:
        return None
    early, late = zip(*pairs, strict=True)
    if len(set(early)) == 1 or len(set(late)) == 1:
        return None
    return float(spearmanr(early, late).statistic)
