import time

import pytest
from small_studies import FACTS

from recog.core.errors import ConfigError
from recog.recipes.budget import Pace
from recog.recipes.config import DataConfig, TrainConfig
from recog.recipes.cost import AIM, Budget
from recog.recipes.prepare import prepare_data
from recog.training.distributed import World
from recog.tuning.space import DEFAULT, suited
from recog.tuning.storage import open_storage, open_study, quiet_optuna
from recog.tuning.study import TuneOptions, _recipes_of, _rules


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trials": 0}, "--trials is 0; it must be 1 or more"),
        ({"workers": 0}, "--workers is 0; it must be from 1 to"),
        ({"sampler": "grid"}, "--sampler is 'grid'"),
        ({"test": True, "refit": False}, "remove one of them"),
        ({"storage": "/no/such/folder/x"}, "expected a journal file"),
        ({"name": "a/b"}, "--name is 'a/b'"),
    ],
)
def test_what_is_wrong_is_one_sentence(options, message):
    with pytest.raises(ConfigError, match=message):
        TuneOptions(**options)


@pytest.fixture(scope="module")
def digits():
    return prepare_data(TrainConfig(data=DataConfig(source="digits")), world=World())


def planned(data, *, seconds=None, epoch_s=1.0, **options):
    """Rules for recipe scratch, which is planned for 40 epochs of `epoch_s`, with 10 s before and 10 s after them.

    `seconds` are what is planned of the budget.
    """
    space = suited(DEFAULT, recipes=("scratch",), task="multiclass", networks=("resnet8",))
    budget = None if seconds is None else Budget(seconds=seconds / AIM, started=time.perf_counter())
    paces = {"scratch": Pace(epoch_s=epoch_s, before_s=10.0, after_s=10.0)}
    return _rules(TrainConfig(), space, "scratch", TuneOptions(budget=budget, **options), data, paces)


def test_without_a_budget_trials_are_counted(digits):
    rules = planned(digits)
    assert (rules.num_trials, rules.deadline, rules.max_epochs, rules.longest) == (30, None, None, 40)
    assert rules.first_rung == 4  # 40 epochs by three, twice
    assert planned(digits, trials=7).num_trials == 7


def test_a_long_budget_has_whole_trials_and_time_for_the_winner(digits):
    rules = planned(digits, seconds=1000.0)
    assert rules.max_epochs == 40
    # 1000 s less 1.15 times (10 + 10 + 40) s, and 4 s for the page
    assert rules.deadline - time.time() == pytest.approx(996 - 1.15 * 60, abs=2)
    assert rules.refit_s == 40
    assert rules.rest_s == pytest.approx(4 + 1.15 * 10)  # the page, and what follows the winner's training
    assert rules.num_trials is None


def test_a_short_budget_has_short_trials_and_most_of_it_for_the_winner(digits):
    rules = planned(digits, seconds=82.0)
    # 82 - 4 - 1.15 * 20 = 55 s for training, of which 40 % for the search, and a fifth of them for a trial
    assert rules.deadline - time.time() == pytest.approx(22, abs=2)
    assert rules.max_epochs == 4
    assert rules.refit_s == float("inf")
    alone = planned(digits, seconds=82.0, refit=False)
    assert (alone.deadline - time.time(), alone.max_epochs) == (pytest.approx(78, abs=2), 15)


def test_where_not_even_one_run_fits_the_search_is_shorter_still(digits):
    rules = planned(digits, seconds=47.0)
    # 47 - 4 - 23 = 20 s for training, half of what 40 epochs take: so 0.4 / 2 of them for the search
    assert rules.deadline - time.time() == pytest.approx(4, abs=1)


def test_the_winner_gets_no_more_than_all_its_epochs_take(digits):
    rules = planned(digits, seconds=148.0)
    # 121 s for training, of which 1.15 * 40 s for the winner's 40 epochs
    assert rules.deadline - time.time() == pytest.approx(75, abs=2)
    assert rules.max_epochs in (14, 15)  # a fifth, less what the test itself has taken


def test_a_budget_that_is_too_short_is_refused(digits):
    with pytest.raises(
        ConfigError, match="--budget 20s is too short for a study of these data.*Give --budget 1m or more"
    ):
        planned(digits, seconds=19.0)


@pytest.mark.parametrize("problem", ["slow", "error"])
def test_fine_tuning_that_the_budget_cannot_afford_is_left_out(problem, digits, monkeypatch):
    from recog.tuning import study

    def paces(config, data, space, budget):
        if problem == "error" and "finetune" in space.recipes:
            raise ConfigError("too short")
        return {recipe: Pace(epoch_s=30.0, before_s=5.0, after_s=5.0) for recipe in space.recipes}

    monkeypatch.setattr(study, "_paces", paces)
    monkeypatch.setattr("recog.recipes.plan.choose_recipe", lambda config, *_, **__: (config.recipe or "head", []))
    budget = Budget(seconds=200.0, started=time.perf_counter())
    rules, notes = study._plan(TrainConfig(), TuneOptions(budget=budget), DEFAULT, digits)
    assert rules.space.recipes == ("head",)
    assert rules.default_recipe == "head"
    assert "recipe finetune is left out" in notes[0]
    longer = Budget(seconds=2000.0, started=time.perf_counter())
    if problem == "slow":
        rules, notes = study._plan(TrainConfig(), TuneOptions(budget=longer), DEFAULT, digits)
        assert (rules.space.recipes, notes) == (("head", "finetune"), ())


def test_a_study_goes_on_with_the_recipes_that_it_was_begun_with(tmp_path):
    where = str(tmp_path / "journal.log")
    with quiet_optuna():
        assert _recipes_of(where, "s") == ()
        open_study(open_storage(where), "s", FACTS, where=where)
        assert _recipes_of(where, "s") == ("scratch",)
        assert _recipes_of(where, "other") == ()
