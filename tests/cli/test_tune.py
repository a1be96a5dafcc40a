import subprocess
import sys

import pytest
import typer

from recog.cli import train as train_command
from recog.cli.tune import _Printer, tune
from recog.tuning.storage import TrialRow
from recog.verbs.run import Note
from recog.verbs.tune import TrialEnded


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
