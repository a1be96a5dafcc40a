from dataclasses import replace

import pytest
from small_studies import FACTS, SPACE, Curve

from recog.core.errors import ConfigError, DataError
from recog.tuning.space import Dimension
from recog.tuning.storage import (
    TrialRow,
    best_of,
    check_sampler,
    check_storage,
    describe_sampler,
    open_storage,
    open_study,
    quiet_optuna,
    repair_journal,
    rows_of,
)


@pytest.fixture(autouse=True)
def _quiet():
    with quiet_optuna():
        yield


def test_a_study_of_other_data_or_settings_is_refused(tmp_path):
    where = str(tmp_path / "journal.log")
    open_study(open_storage(where), "s", FACTS, where=where)
    assert open_study(open_storage(where), "s", FACTS, where=where).user_attrs["measured_on"] == "val"
    with pytest.raises(
        DataError, match="made with other data: its fingerprint is sha256:a, that of these images sha256:b"
    ):
        open_study(open_storage(where), "s", replace(FACTS, fingerprint="sha256:b"), where=where)
    for change in ({"space": {}}, {"config": {"seed": 1}}, {"measured_on": "cross-validation"}):
        with pytest.raises(ConfigError, match=f"started with another {next(iter(change))}"):
            open_study(open_storage(where), "s", replace(FACTS, **change), where=where)


def test_a_study_of_another_program_is_refused(tmp_path):
    import optuna

    storage = open_storage(f"sqlite:///{tmp_path / 'x.db'}")
    optuna.create_study(storage=storage, study_name="s", direction="maximize").optimize(lambda trial: 1.0, n_trials=1)
    with pytest.raises(ConfigError, match="is not one of recog tune"):
        open_study(storage, "s", FACTS, where="x")


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("/no/such/folder/j.log", "expected a journal file in a folder that exists"),
        ("", "expected a journal file"),
    ],
)
def test_a_path_that_can_be_no_journal(where, message):
    with pytest.raises(ConfigError, match=message):
        check_storage(where)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("sqlite:////no/such/folder/x.db", "unable to open database file"),
        ("nosuchdatabase://x/y", "nosuchdatabase"),
        ("postgresql:///", "."),
    ],
)
def test_a_database_that_cannot_be_used_is_one_sentence(where, message):
    from recog.core.errors import RecogError

    with pytest.raises(RecogError, match=message) as found:
        open_storage(where)
    assert "\n" not in str(found.value)


def test_a_file_that_is_no_journal(tmp_path):
    path = tmp_path / "photo.log"
    path.write_bytes(b"not json\n\x00\n")
    with pytest.raises(ConfigError, match="is no journal of a study"):
        open_storage(str(path))


def test_passwords_are_not_shown():
    with pytest.raises(ConfigError) as found:
        open_storage("nosuchdatabase://me:secret@host/y")
    assert "secret" not in str(found.value)
    assert "me:***@host" in str(found.value)


def test_what_a_killed_process_left_is_removed_and_the_study_goes_on(study_of, tmp_path):
    study, search = study_of(Curve(), num_trials=3)
    list(search.trials())
    path = tmp_path / "journal.log"
    with path.open("ab") as file:
        file.write(b'{"op_code":4,"work')
    (tmp_path / "journal.log.lock").symlink_to("studies/nowhere/journal.log")
    repair_journal(path)
    study, search = study_of(Curve(), num_trials=5)
    list(search.trials())
    assert len(rows_of(study, SPACE)) == 5


def test_two_processes_on_a_database_do_not_repeat_each_other(study_of, tmp_path):
    """Two studies opened on one database stand for two processes; each runs in turn and sees the other's trials."""
    where = f"sqlite:///{tmp_path / 'study.db'}"
    runners = Curve(), Curve()
    (study, one), (_, two) = (study_of(runner, path=where, num_trials=8) for runner in runners)
    for search in (one, two, one, two):
        next(search.trials(), None)
    list(one.trials())
    rows = rows_of(study, SPACE)
    assert len(rows) == 8 == sum(len(runner.configs) for runner in runners)
    assert len({str(row.settings) for row in rows}) == 8
    assert [row.is_default for row in rows].count(True) == 1


def test_the_best_are_ordered_by_score_then_nll_then_number():
    rows = [
        TrialRow(number=0, state="done", score=0.5, nll=0.2),
        TrialRow(number=1, state="done", score=0.7, nll=0.4),
        TrialRow(number=2, state="pruned", score=None),
        TrialRow(number=3, state="done", score=0.7, nll=0.3),
        TrialRow(number=4, state="done", score=0.7, nll=0.3),
    ]
    assert [row.number for row in best_of(rows, 3)] == [3, 4, 1]


def test_the_sampler_is_named():
    text = describe_sampler("tpe", 7)
    assert all(
        word in text for word in ("TPE", "seed 7", "multivariate", "constant liar", "after 10 trials that change a few")
    )
    assert describe_sampler("random", 7).startswith("random search, seed 7")
    assert check_sampler("random") == "random"
    with pytest.raises(ConfigError, match="--sampler is 'grid'; it must be one of tpe, random"):
        check_sampler("grid")


def test_whole_numbers_are_sampled_as_such():
    assert Dimension(recipe="scratch", setting="loader.batch_size", low=16, high=64).is_whole
