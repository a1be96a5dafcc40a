import os

import pytest
from small_studies import FACTS

from recog.core.errors import RecogError
from recog.recipes.config import DataConfig, TrainConfig, with_options
from recog.tuning.search import Rules, Search
from recog.tuning.space import DEFAULT, suited
from recog.tuning.storage import open_storage, open_study, rows_of
from recog.tuning.trials import without_test
from recog.tuning.workers import Job, _threads, run_in_processes


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    """Processes share decoded images in the cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def job_of(tmp_path, digits, **changes):
    config = with_options(
        TrainConfig(recipe="scratch", data=DataConfig(source="digits")),
        {},
        {"optim.epochs": 1, "compute.num_threads": 1, "compute.precision": "float32"},
    )
    space = suited(DEFAULT, recipes=("scratch",), task="multiclass", networks=("resnet8",))
    rules = Rules(config=config, space=space, default_recipe="scratch", num_trials=4)
    where = str(tmp_path / "journal.log")
    values = {
        "where": where,
        "name": "s",
        "folder": tmp_path,
        "facts": FACTS,
        "rules": rules,
        "data": without_test(digits),
    }
    return Job(**values | {"out_of_fold": False, "num_workers": 2} | changes)


def opened(job):
    study = open_study(open_storage(job.where), job.name, job.facts, where=job.where)
    Search(study, job.runner(), job.rules, job.data).queue_default()
    return study


def test_the_environment_is_left_as_found(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    with _threads(1):
        assert os.environ["OMP_NUM_THREADS"] == "1"
    assert os.environ["OMP_NUM_THREADS"] == "3"
    monkeypatch.delenv("OMP_NUM_THREADS")
    with _threads(2):
        assert os.environ["OMP_NUM_THREADS"] == "2"
    assert "OMP_NUM_THREADS" not in os.environ


@pytest.mark.slow
def test_two_processes_share_a_study_without_a_duplicate(tmp_path, digits):
    job = job_of(tmp_path, digits)
    study = opened(job)
    ended = list(run_in_processes(job, study))
    rows = rows_of(study, job.rules.space)
    assert sorted(row.number for row in ended) == [row.number for row in rows]
    assert [row.state for row in rows].count("done") >= 1
    assert len(rows) == 4
    assert len({str(row.settings) for row in rows}) == 4
    owners = {trial.user_attrs["owner"] for trial in study.get_trials()}
    assert len(owners) == 2


@pytest.mark.slow
def test_the_error_of_a_process_ends_the_study(tmp_path, digits):
    job = job_of(tmp_path, digits)
    study = opened(job)
    other = job_of(tmp_path, digits, facts=FACTS.__class__(**{**vars(FACTS), "fingerprint": "sha256:other"}))
    with pytest.raises(RecogError, match="made with other data"):
        list(run_in_processes(other, study))
