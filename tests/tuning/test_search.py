import time
from dataclasses import replace

import pytest
from small_studies import SPACE, Curve, share_of

from recog.recipes.budget import Pace
from recog.recipes.config import TrainConfig
from recog.tuning.search import default_settings, rank_correlation, slowness
from recog.tuning.space import Dimension, Space
from recog.tuning.storage import TrialRow, best_of, rows_of


def settings_of(study):
    return [(row.recipe, dict(row.settings)) for row in rows_of(study, SPACE)]


def test_the_default_comes_first_and_every_trial_is_recorded(study_of):
    runner = Curve()
    study, search = study_of(runner)
    ended = list(search.trials())
    rows = rows_of(study, SPACE)
    numbers = [row.number for row in rows]
    assert [row.number for row in ended] == numbers == sorted(numbers)
    assert len(numbers) == 12  # a trial that would repeat another one has a number, but is none
    assert rows[0].is_default
    assert rows[0].settings["optim.lr"] == 1.0  # times the default
    assert runner.configs[0].optim.lr is None
    assert runner.configs[0].optim.epochs == 9
    assert runner.configs[1].optim.lr == pytest.approx(rows[1].settings["optim.lr"] * 0.1, rel=0.2) or (
        rows[1].settings["optim.name"] == "adamw"
    )
    for row, config in zip(rows, runner.configs, strict=True):
        assert ("optim.momentum" in row.settings) == (row.settings.get("optim.name") == "sgd" or row.is_default)
        if row.state == "done":
            assert row.score == pytest.approx(share_of(config) if config.optim.lr else row.score)
            assert row.epochs == 9
    assert study.user_attrs["targets"]


def test_the_first_trials_change_a_few_settings_of_the_default_and_random_search_all(study_of, tmp_path):
    near, search = study_of(Curve(), num_trials=10)
    list(search.trials())
    usual = {"optim.lr": 1.0, "optim.name": "sgd", "optim.momentum": 0.9}
    changed = [
        [name for name, value in row.settings.items() if value != usual[name]] for row in rows_of(near, SPACE)[1:]
    ]
    assert all(len(names) <= 2 for names in changed)  # two of three: momentum is gone where adamw is drawn
    assert any(names for names in changed)
    assert "optim.lr" not in changed[0] or "optim.lr" not in changed[1] or "optim.lr" not in changed[2]
    far, search = study_of(Curve(), num_trials=10, path=tmp_path / "random.log", sampler="random")
    list(search.trials())
    assert all(row.settings["optim.lr"] != 1.0 for row in rows_of(far, SPACE)[1:])


def test_hopeless_trials_are_pruned_but_not_the_default(study_of):
    study, search = study_of(Curve(), num_trials=20)
    list(search.trials())
    rows = rows_of(study, SPACE)
    pruned = [row for row in rows if row.state == "pruned"]
    assert pruned
    assert rows[0].state == "done"
    assert all(row.reason.startswith(f"pruned after epoch {row.epochs}") for row in pruned)
    assert {row.epochs for row in pruned} <= {2, 6}  # rungs of 9 epochs: the second one, and three times that
    best, last = best_of(rows, 1)[0], max(row.by_epoch[max(row.by_epoch)] for row in pruned)
    assert best.score > last


def test_a_study_repeats_and_goes_on_as_if_it_had_not_stopped(study_of, tmp_path):
    first, search = study_of(Curve(), num_trials=14)
    list(search.trials())
    path = tmp_path / "other.log"
    _, search = study_of(Curve(), num_trials=5, path=path)
    list(search.trials())
    second, search = study_of(Curve(), num_trials=14, path=path)
    list(search.trials())
    assert settings_of(first) == settings_of(second)
    third, search = study_of(Curve(), num_trials=14, path=tmp_path / "third.log", seed=1)
    list(search.trials())
    assert settings_of(first)[1:] != settings_of(third)[1:]


def test_a_failed_trial_is_recorded_and_the_study_goes_on(study_of):
    study, search = study_of(Curve(fails=(2,)), num_trials=5)
    list(search.trials())
    rows = rows_of(study, SPACE)
    assert [row.state for row in rows].count("failed") == 1
    assert rows[2].reason == "the loss is not finite"
    assert len(rows) == 5


def test_an_interrupted_trial_is_run_again_with_its_settings(study_of):
    study, search = study_of(Curve(interrupted=(3,)), num_trials=6)
    with pytest.raises(KeyboardInterrupt):
        list(search.trials())
    lost = study.get_trials(deepcopy=False)[3]
    _, search = study_of(Curve(), num_trials=6)
    list(search.trials())
    rows = rows_of(study, SPACE)
    assert len(rows) == 6
    assert dict(lost.params) == {f"scratch/{name}": value for name, value in rows[3].settings.items()}
    assert lost.number not in [row.number for row in rows]


def test_the_same_settings_are_not_run_twice(study_of):
    few = Space(
        recipes=("scratch",), dimensions=(Dimension(recipe="scratch", setting="optim.name", choices=("sgd", "adamw")),)
    )
    runner = Curve()
    study, search = study_of(runner, space=few, num_trials=3)
    list(search.trials())
    assert len(runner.configs) == 2  # the default, which is sgd, and the other choice
    assert [row.settings["optim.name"] for row in rows_of(study, few)] == ["sgd", "adamw"]


def test_heads_come_before_gradient_training(study_of):
    space = Space(
        recipes=("head", "scratch"),
        dimensions=SPACE.dimensions + (Dimension(recipe="head", setting="head.l2", low=0.001, high=1.0, log=True),),
    )
    study, search = study_of(Curve(), space=space, num_trials=12, default_recipe="head")
    list(search.trials())
    recipes = [row.recipe for row in rows_of(study, space)]
    assert recipes[:4] == ["head"] * 4  # a third
    assert recipes[4:] == ["scratch"] * 8


def test_no_trial_begins_once_the_time_is_up(study_of):
    study, search = study_of(Curve(), num_trials=None, started=time.time() - 10, deadline=time.time() - 1)
    assert len(list(search.trials())) == 1  # the default, so that there is a result
    assert len(study.get_trials(deepcopy=False)) == 1


def test_the_default_is_part_of_the_space_where_that_has_its_values(digits):
    from recog.recipes.config import TrainConfig

    found = default_settings(SPACE, TrainConfig(), digits, "scratch")
    assert found == {"scratch/optim.lr": 1.0, "scratch/optim.name": "sgd", "scratch/optim.momentum": 0.9}


def row(number, early, late):
    return TrialRow(number=number, state="done", score=late, epochs=4, by_epoch={1: early, 4: late})


def test_rank_correlation_of_a_rung_with_the_end():
    rows = [row(i, early, i / 10) for i, early in enumerate((0.1, 0.2, 0.3, 0.5, 0.4))]
    # ranks differ by 1 in two places: 1 - 6 * 2 / (5 * 24) = 0.9
    assert rank_correlation(rows, 1) == pytest.approx(0.9)
    assert rank_correlation(rows[:4], 1) is None
    assert rank_correlation(rows, 4) is None  # the end itself


def test_the_search_ends_earlier_where_the_winner_takes_longer_than_planned(study_of):
    _, search = study_of(Curve(), num_trials=None, deadline=time.time() + 100, refit_s=10.0)
    slow = TrialRow(number=0, state="done", score=0.9, full_s=60.0)
    assert search._left([]) == pytest.approx(100, abs=2)
    assert search._left([slow]) == pytest.approx(100 - (1.15 * 60 - 10), abs=2)
    assert search._left([TrialRow(number=0, state="done", score=0.9, full_s=5.0)]) == pytest.approx(100, abs=2)


def test_a_machine_that_became_busier_gets_more_time_for_what_follows(study_of):
    paces = {"scratch": Pace(epoch_s=1.0, before_s=2.0, after_s=10.0)}
    row = TrialRow(number=0, state="done", recipe="scratch", score=0.9, epochs=8, full_s=20.0)
    assert slowness(row, paces) == 2.0  # 20 s in place of 2 + 8 * 1
    assert slowness(replace(row, full_s=5.0), paces) == 1.0
    assert slowness(replace(row, recipe="head"), paces) == 1.0
    _, search = study_of(
        Curve(), num_trials=None, deadline=time.time() + 100, refit_s=float("inf"), rest_s=15.0, paces=paces
    )
    assert search._left([row]) == pytest.approx(100 - 15, abs=2)


def test_the_last_heads_use_features_that_are_there(study_of):
    space = Space(
        recipes=("head",),
        dimensions=(
            Dimension(recipe="head", setting="model.image_size", choices=(224, 288)),
            Dimension(recipe="head", setting="head.l2", low=0.001, high=1.0, log=True),
        ),
    )

    class Slow(Curve):
        def run(self, config, report, *, deadline):
            return replace(super().run(config, report, deadline=deadline), full_s=50.0)

    config = TrainConfig(recipe="head")
    study, search = study_of(
        Slow(),
        space=space,
        num_trials=None,
        deadline=time.time() + 100,
        default_recipe="head",
        config=config,
        rest_s=0.0,
    )
    trials = search.trials()
    next(trials)
    assert search._known_features() == {}
    rows = [next(trials) for _ in range(2)]
    search._rules = replace(search._rules, deadline=time.time() + 40)
    found = search._known_features()
    assert found == {"head/model.image_size": rows[0].settings["model.image_size"]}  # the earlier of equals
    assert next(trials).settings["model.image_size"] == rows[0].settings["model.image_size"]
