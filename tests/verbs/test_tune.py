"""A study from its data to the winner's bundle, on digits with one epoch."""

import contextlib
import csv
import hashlib
import html
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import recog
from recog.core.errors import CheckpointError, ConfigError
from recog.recipes.config import TrainConfig
from recog.runs.splits import TEST_OPENINGS
from recog.tuning.study import TuneOptions
from recog.verbs.tune import _claim

FEW = {"optim.epochs": 1, "compute.precision": "float32", "model.name": "resnet8"}


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture(scope="module")
def seen():
    """What a program's terminal shows of the study."""
    return Terminal()


@pytest.fixture(scope="module")
def study(tmp_path_factory, seen):
    """A finished study of three trials, and the folder that it was made in."""
    folder, before = tmp_path_factory.mktemp("study"), Path.cwd()
    os.chdir(folder)
    try:
        with contextlib.redirect_stderr(seen):
            return recog.tune("digits", trials=3, threads=1, settings=FEW, test=True, name="s"), folder
    finally:
        os.chdir(before)


def test_a_program_sees_the_trial_that_runs_and_a_line_of_each_that_ended(study, seen):
    text = seen.getvalue()
    assert "\rtrial 0: epoch 1/1, 0 s; the default recipe (scratch)" in text
    ended = [line.rpartition("\r")[2] for line in text.split("\n")]
    assert [line.partition(":")[0] for line in ended[:3]] == ["trial 0", "trial 1", "trial 2"]
    best = max(row.score for row in study[0].result.rows[:2] if row.score is not None)
    assert f"\rbest {100 * best:.1f}%; trial 2: epoch 1/1" in text
    assert len(ended) == 5  # three trials, the winner's run, and the end of its line
    assert " of " in ended[3]
    assert ended[4] == ""


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_study_leaves_its_files_and_the_winners_run(study):
    found, base = study
    folder = base / found.folder
    assert found.folder == Path("studies/s")
    names = {path.name for path in folder.iterdir()}
    assert names >= {"best.toml", "journal.log", "study.html", "study.json", "study.toml", "trials.csv"}
    assert "features" not in names
    rows = list(csv.DictReader((folder / "trials.csv").read_text().splitlines()))
    assert [row["trial"] for row in rows] == ["0", "1", "2"]
    assert rows[0]["default"] == "true"
    table = json.loads((folder / "study.json").read_text())
    assert table["sampler"].startswith("TPE, seed 0")
    assert table["num_images"] == 269
    assert found.run is not None
    assert found.run.bundle.name == "bundle"


def test_the_test_split_is_opened_once_by_the_winners_run(study):
    found, base = study
    assert found.run.report.data.split == "test"
    assert len((base / found.run.folder / TEST_OPENINGS).read_text().splitlines()) == 1


def test_the_study_shows_itself(study, monkeypatch):
    found, base = study
    without_page = found._repr_html_()  # the folder is relative to where it was made
    assert "<iframe" not in without_page
    monkeypatch.chdir(base)
    page = found._repr_html_()
    assert page.startswith(without_page)
    (inner,) = re.findall(r'srcdoc="([^"]*)"', page)
    assert html.unescape(inner) == (found.folder / "study.html").read_text()  # history, slices, parallel coordinates
    assert "Study s" in page
    assert "best.toml" in page
    assert "best: trial" in repr(found)
    assert found.to_dict()["refit"]["report"]["accuracy"] == found.run.report.accuracy


def digests(bundle):
    """Of all files of the bundle, its report included."""
    return {path.name: digest(path) for path in bundle.iterdir()}


@pytest.mark.slow
def test_best_toml_repeats_the_winner_to_the_same_bytes(study, monkeypatch):
    found, base = study
    monkeypatch.chdir(base)
    again = recog.train(config=found.best_config, verbose=False)
    assert digests(again.bundle) == digests(found.run.bundle)
    assert len((again.folder / TEST_OPENINGS).read_text().splitlines()) == 1  # as the study was asked to


@pytest.mark.slow
def test_without_test_the_winner_is_measured_on_val_and_a_study_goes_on(study, monkeypatch):
    found, base = study
    monkeypatch.chdir(base)
    more = recog.tune(resume="s", trials=4, verbose=False)
    assert len(more.result.rows) == 4
    assert more.result.rows[:3] == found.result.rows
    assert more.run.report.data.split == "val"
    assert not (more.run.folder / TEST_OPENINGS).exists()
    again = recog.train(config=more.best_config, verbose=False)
    assert again.report.data.split == "val"
    assert not (again.folder / TEST_OPENINGS).exists()
    assert digests(again.bundle) == digests(more.run.bundle)


@pytest.mark.slow
def test_a_study_that_was_killed_goes_on_with_its_trials(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = [
        sys.executable,
        "-m",
        "recog",
        "tune",
        "digits",
        "--name",
        "k",
        "--trials",
        "4",
        "--no-refit",
        "--threads",
        "1",
    ]
    command += [text for name, value in FEW.items() for text in ("--set", f"{name}={value}")]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    journal = tmp_path / "studies" / "k" / "journal.log"
    deadline = time.time() + 300
    while not (journal.is_file() and journal.read_text().count('"state":1') >= 1) and process.poll() is None:
        assert time.time() < deadline
        time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    found = recog.tune(resume="studies/k", refit=False, threads=1, verbose=False)
    assert found.run is None
    assert len(found.result.rows) == 4
    assert all(row.state in ("done", "pruned") for row in found.result.rows)
    assert found.result.rows[0].is_default


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resume": "nothing"}, "there is no study 'nothing' to resume"),
        ({"resume": "s", "space": "x.toml"}, "leave --space, --storage and --name out"),
        ({"name": "s"}, "already exists; continue it with --resume s"),
        ({"settings": {"head.compare": True}}, "head.compare chooses a network"),
        ({"space": "missing.toml"}, "there is no config file missing.toml"),
        ({"budget": "5"}, "expected a time with its unit"),
        ({"settings": {"report_split": "val"}}, "only with --test; leave report_split out"),
    ],
)
def test_what_is_wrong_is_one_sentence(options, message, study, monkeypatch):
    from recog.verbs.tune import tune  # whose messages name options as the command line does

    monkeypatch.chdir(study[1])
    with pytest.raises((ConfigError, CheckpointError), match=message):
        tune("digits", verbose=False, **options)


def test_a_shared_study_continues_with_its_own_command(tmp_path, monkeypatch):
    """Its folder holds no journal: resuming it would begin another study."""
    monkeypatch.chdir(tmp_path)
    shared = TuneOptions(storage=str(tmp_path / "journal.log"), name="s")
    folder = _claim(TrainConfig(), shared, "digits")
    with pytest.raises(CheckpointError, match="a study in storage continues with the command that began it"):
        recog.tune(resume=folder)
    assert shared.how_to_resume(folder) == "the same command again"
    assert TuneOptions().how_to_resume(folder) == "recog tune --resume studies/s-1"


def test_nothing_to_tune_on():
    with pytest.raises(ConfigError, match="no data to tune on"):
        recog.tune(verbose=False)


def test_optuna_opens_the_journal_as_its_dashboard_does(study):
    """By the calls that optuna-dashboard 0.21 makes for the path of a journal."""
    import optuna

    found, base = study
    backend = optuna.storages.journal.JournalFileBackend(str(base / found.folder / "journal.log"))
    storage = optuna.storages.JournalStorage(backend)
    (summary,) = optuna.get_all_study_summaries(storage)
    assert (summary.study_name, summary.direction.name) == ("s", "MAXIMIZE")
    opened = optuna.load_study(study_name="s", storage=storage)
    assert opened.best_value == found.result.best.score
    numbers = [row.number for row in found.result.rows]  # another test may have gone on with the study
    assert [trial.number for trial in opened.trials][: len(numbers)] == numbers


@pytest.mark.slow
def test_train_with_tune_is_one_command(tmp_path):
    command = [sys.executable, "-m", "recog", "train", "digits", "--tune", "1m", "--threads", "1", "--json"]
    command += ["--model", "resnet8", "--set", "optim.epochs=3", "--set", "compute.precision=float32"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    table = json.loads(done.stdout)
    assert table["default"]["number"] == 0
    assert table["refit"]["report"]["data"]["split"] == "test"
    run = tmp_path / table["refit"]["run"]
    assert len((run / TEST_OPENINGS).read_text().splitlines()) == 1
    assert (run / "bundle" / "recog.json").is_file()
    assert {path.name for path in (tmp_path / table["folder"]).iterdir()} >= {"best.toml", "study.html", "trials.csv"}
    lines = [line for line in done.stderr.splitlines() if line.startswith("trial ")]
    assert len(lines) == sum(table["trials"].values())  # one for each, as stderr is no terminal
