import csv
from dataclasses import replace

from small_studies import Curve

from recog.tuning.optimism import Optimism
from recog.tuning.result import (
    StudyResult,
    count_states,
    describe_settings,
    importances_of,
    points,
    short,
    trial_line,
    trials_csv,
)
from recog.tuning.storage import TrialRow

DEFAULT = TrialRow(number=0, state="done", recipe="head", score=0.9, nll=0.31, is_default=True, seconds=2.0)
BEST = TrialRow(
    number=1,
    state="done",
    recipe="head",
    settings={"head.l2": 0.01234, "head.mirror": True},
    score=0.95,
    nll=0.2,
    seconds=3.0,
)
PRUNED = TrialRow(number=2, state="pruned", recipe="scratch", settings={"optim.lr": 0.5}, epochs=3, reason="=cmd()")
FAILED = TrialRow(number=3, state="failed", recipe="scratch", reason="out of memory: no room")
LUCK = Optimism(
    apparent=0.95,
    corrected=0.93,
    ci95=(0.9, 0.96),
    num_trials=2,
    num_images=200,
    num_resamples=1000,
    gain=0.02,
    gain_ci95=(-0.01, 0.05),
)


def result_of(*rows, luck=LUCK):
    return StudyResult(
        name="s",
        data="flowers",
        rows=rows,
        score_name="accuracy",
        measured_on="cross-validation",
        num_images=200,
        sampler="TPE",
        fingerprint="sha256:a",
        optimism=luck,
        importances={"head/head.l2": 1.0},
    )


def test_the_conclusions_name_the_best_its_luck_and_the_gain():
    assert result_of(DEFAULT, BEST, PRUNED, FAILED).conclusions() == [
        "4 trials: 2 done, 1 pruned, 1 failed",
        "failed, 1 trial: out of memory",
        "best: trial 1, cross-validated accuracy 95.0% on 200 images; recipe head, head.l2=0.0123, head.mirror=true",
        "the default recipe, trial 0: accuracy 90.0%",
        "the best of 2 is optimistic by 2.0 points: expected on new images 93.0% (bootstrap, 95% interval 90.0-96.0%)",
        "gain over the default recipe, optimism removed: +2.0 points (95% interval -1.0 to +5.0); no reliable gain",
    ]


def test_the_default_may_be_the_best_and_nothing_may_be_found():
    assert "the default recipe is the best; the search found none that is better" in result_of(DEFAULT).conclusions()
    assert result_of(FAILED).conclusions()[-1] == "no trial ended with a result"
    assert "was not estimated" in result_of(DEFAULT, luck=None).conclusions()[-1]


def test_the_summary_is_of_the_best_trial_whether_or_not_others_failed():
    assert result_of(FAILED, DEFAULT).summary.startswith("best: trial 0, cross-validated accuracy 90.0%")
    assert result_of(FAILED).summary == "no trial ended with a result"


def test_remarks_say_what_the_numbers_mean_without_repeating_them():
    failed, verdict = result_of(DEFAULT, BEST, FAILED).remarks()
    assert failed == "Failed, 1 trial: out of memory."
    assert verdict == "No reliable gain over the default recipe: the 95% interval of the gain includes 0."
    sure = result_of(DEFAULT, BEST, luck=replace(LUCK, gain_ci95=(0.001, 0.05))).remarks()
    assert sure == ["The best trial is better than the default recipe: the 95% interval of the gain is above 0."]
    assert result_of(DEFAULT).remarks() == ["The default recipe is the best; the search found none that is better."]
    assert "was not estimated" in result_of(BEST, luck=None).remarks()[0]


def test_a_study_as_json():
    table = result_of(DEFAULT, BEST, PRUNED).to_dict()
    assert table["best"] == {
        "number": 1,
        "recipe": "head",
        "score": 0.95,
        "nll": 0.2,
        "epochs": 0,
        "seconds": 3.0,
        "settings": {"head.l2": 0.01234, "head.mirror": True},
    }
    assert table["default"]["score"] == 0.9
    assert table["optimism"]["corrected"] == 0.93
    assert table["trials"] == {"done": 2, "pruned": 1}


def test_trials_as_csv():
    rows = list(csv.DictReader(trials_csv([DEFAULT, BEST, PRUNED]).splitlines()))
    assert [row["trial"] for row in rows] == ["0", "1", "2"]
    assert rows[0] == {
        **{"trial": "0", "state": "done", "default": "true", "recipe": "head", "score": "0.9", "nll": "0.31"},
        **{"epochs": "0", "seconds": "2.00", "head.l2": "", "head.mirror": "", "optim.lr": "", "reason": ""},
    }
    assert (rows[1]["head.l2"], rows[1]["head.mirror"]) == ("0.01234", "true")
    assert (rows[2]["score"], rows[2]["reason"]) == ("", "'=cmd()")  # which no spreadsheet runs


def test_trials_in_words():
    assert trial_line(BEST, score_name="accuracy", is_best=True) == (
        "trial 1: accuracy 95.0%, the best so far (3.0 s); recipe head, head.l2=0.0123, head.mirror=true"
    )
    assert (
        trial_line(FAILED, score_name="accuracy", is_best=False)
        == "trial 3: failed, out of memory: no room; recipe scratch"
    )
    assert describe_settings(DEFAULT) == "the default recipe (head)"
    assert [points(share) for share in (0.0234, -0.0001, -0.02)] == ["+2.3", "+0.0", "-2.0"]
    assert [short(value) for value in (True, 0.000123456, 32, "sgd")] == ["true", "0.000123", "32", "sgd"]
    assert count_states([BEST, DEFAULT, FAILED]) == {"done": 2, "failed": 1}


def test_importance_is_of_the_setting_that_decides_pruned_trials_included(study_of, tmp_path):
    study, search = study_of(Curve(), num_trials=16, sampler="random")
    list(search.trials())
    shares = importances_of(study)
    assert abs(sum(shares.values()) - 1) < 1e-9
    assert max(shares, key=shares.get) in (
        "scratch/optim.lr",
        "scratch/optim.name",
    )  # of which the default rate depends
    few, search = study_of(Curve(), num_trials=3, path=tmp_path / "few.log")
    list(search.trials())
    assert importances_of(few) == {}


def test_a_factor_is_not_shown_as_the_setting_itself():
    row = replace(PRUNED, settings={"optim.lr": 8.24, "optim.name": "adamw"}, factors=frozenset({"optim.lr"}))
    assert describe_settings(row) == "recipe scratch, optim.lr x default=8.24, optim.name=adamw"
    (cells,) = csv.DictReader(trials_csv([row]).splitlines())
    assert (cells["optim.lr x default"], cells["optim.name"]) == ("8.24", "adamw")
