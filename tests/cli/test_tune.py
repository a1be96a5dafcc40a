import io
import subprocess
import sys
from dataclasses import replace

import pytest
import typer
from rich.console import Console
from small_studies import FACTS

from recog.cli import train as train_command
from recog.cli.tune import _Printer, tune
from recog.tuning.result import TrialEnded
from recog.tuning.storage import TrialRow, open_storage, open_study, quiet_optuna
from recog.verbs.run import Note


def test_the_space_is_shown(capsys):
    tune(show_space=True, recipe="head", settings=["model.image_size=224"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "recipes: head"
    rows = {line.split()[1]: line for line in lines if line.strip().startswith("head ")}
    assert rows["head.l2"].endswith("head.method=logistic")
    assert "0.001 to 1, log" in rows["head.l2"]
    assert "model.image_size" not in rows
    assert "optim.lr" not in rows


@pytest.mark.parametrize(
    ("options", "message", "code"),
    [
        ({"data": "digits", "trials": 0}, "--trials is 0; it must be 1 or more", 2),
        ({"data": "digits", "sampler": "grid"}, "--sampler is 'grid'", 2),
        ({"data": "digits", "budget": "soon"}, "--budget is 'soon'", 2),
        ({"data": "digits", "storage": "/no/such/folder/x"}, "--storage is '/no/such/folder/x'", 2),
        ({"data": "nothing/here"}, "nothing/here", 3),
        ({"resume": "nothing"}, "there is no study 'nothing' to resume", 7),
        ({"data": "digits", "model": "resnet9", "show_space": True}, "resnet9", 2),
    ],
)
def test_what_is_wrong_is_one_line(options, message, code, capsys):
    with pytest.raises(typer.Exit) as left:
        tune(**options)
    assert left.value.exit_code == code
    shown = capsys.readouterr().err
    assert message in shown
    assert shown.splitlines()[-1].startswith("error: ")


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ('[scratch]\n"optim.learning" = [0.1]', "optim.learning is no setting"),
        ('[scratch]\n"optim.lr" = {low = 0.1, high = 0.1}', "is an empty interval: low is 0.1 and high is 0.1"),
        ('[scratsh]\n"optim.lr" = [0.1]', "unknown recipe 'scratsh'"),
        ("[scratch\n", "space.toml"),
    ],
)
def test_what_is_wrong_in_a_space_is_one_line(space, message, tmp_path, capsys):
    path = tmp_path / "space.toml"
    path.write_text(space)
    with pytest.raises(typer.Exit) as left:
        tune(data="digits", space=path)
    assert left.value.exit_code == 2
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line != "reading digits")
    assert line.startswith("error: ")
    assert message in line


@pytest.mark.parametrize(
    ("storage", "message", "code"),
    [
        ("sqlite:////no/such/folder/study.db", "--storage sqlite:////no/such/folder/study.db cannot be used", 2),
        ("nosuchdatabase://me:secret@host/db", "--storage nosuchdatabase://me:***@host/db cannot be used", 2),
        ("{folder}/journal.log", "was made with other data: its fingerprint is sha256:a", 3),
    ],
)
def test_a_storage_that_cannot_be_used_is_one_line(storage, message, code, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    where = storage.format(folder=tmp_path)
    with quiet_optuna():
        if "://" not in where:
            open_study(open_storage(where), "other", FACTS, where=where)
    with pytest.raises(typer.Exit) as left:
        tune(data="digits", storage=where, name="other", trials=1, model="resnet8")
    assert left.value.exit_code == code
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("error: "))
    assert message in line
    assert "secret" not in line
    assert not list(tmp_path.glob("studies/*"))  # nothing has begun


def test_bad_input_is_found_without_torch_and_optuna(tmp_path):
    (tmp_path / "space.toml").write_text('[scratch]\n"optim.lr" = {low = 1, high = 1}')
    code = (
        "import pathlib, sys, typer\nfrom recog.cli.tune import tune\n"
        "try:\n    tune(data='digits', space=pathlib.Path(sys.argv[1]))\nexcept typer.Exit as e:\n    print(e.exit_code)\n"
        "print(sorted({'torch', 'optuna', 'sklearn'} & sys.modules.keys()))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "space.toml")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["2", "[]"]
    assert "empty interval" in done.stderr


def test_trials_are_a_line_each_where_there_is_no_terminal(capsys):
    printer = _Printer(verbose=False)
    row = TrialRow(number=3, state="done", recipe="head", settings={"head.l2": 0.1}, score=0.9, nll=0.3, seconds=1.0)
    printer.show(Note(text="study folder: studies/x"))
    printer.show(TrialEnded(row=row, best=(row,), counts={"done": 1}, score_name="accuracy"))
    assert printer.folder == "studies/x"
    assert capsys.readouterr().err.splitlines() == [
        "study folder: studies/x",
        "trial 3: accuracy 90.0%, the best so far (1.0 s); recipe head, head.l2=0.1",
    ]


def test_a_terminal_shows_the_best_and_what_runs(monkeypatch):
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    monkeypatch.setattr("recog.cli.tune.notes", console)
    printer = _Printer(verbose=False)
    done = TrialRow(
        number=3, state="done", recipe="scratch", settings={"optim.lr": 0.1}, score=0.9, nll=0.3, seconds=1.0
    )
    running = TrialRow(
        number=4,
        state="running",
        recipe="scratch",
        settings={"optim.lr": 0.2},
        by_epoch={1: 0.4, 2: 0.5},
        num_epochs=6,
        seconds=10.0,
    )
    printer.watch([replace(running, by_epoch={})])
    printer.show(TrialEnded(row=done, best=(done,), counts={"done": 1}, score_name="accuracy", left="2m left"))
    printer.watch([running])
    printer.close()
    plain = Console(file=io.StringIO(), width=120)
    plain.print(printer._view())
    lines = [line.rstrip() for line in plain.file.getvalue().splitlines() if line.strip()]
    assert lines[0] == "The best trials so far (1 done; 2m left)"
    assert lines[-2].split()[:3] == ["3", "90.0%", "0.300"]
    # 10 s for two of six epochs: 20 s more
    assert lines[-1] == "trial 4: epoch 3/6, val 50.0%, 10 s, 20 s left; recipe scratch, optim.lr=0.2"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tune": "10m", "budget": "5m", "name": "x"}, "leave out --name, --budget"),
        ({"tune": "ten minutes"}, "--tune is 'ten minutes'; expected a time"),
    ],
)
def test_train_with_tune_refuses_what_it_plans_itself(options, message, capsys):
    with pytest.raises(typer.Exit) as left:
        train_command.train(data="digits", **options)
    assert left.value.exit_code == 2
    assert message in capsys.readouterr().err


def test_train_with_tune_is_a_study_that_is_tested_once(monkeypatch):
    asked = []
    monkeypatch.setattr("recog.cli.tune.run_study", lambda config, options, **_: asked.append((config, options)))
    train_command.train(data="digits", tune="10m", seed=3)
    ((config, options),) = asked
    assert (config.seed, options.budget.seconds, options.test, options.refit) == (3, 600.0, True, True)
