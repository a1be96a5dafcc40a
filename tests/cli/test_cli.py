"""The command line as a person meets it: fresh processes, exit codes, messages, and what must not be imported."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from recog.cli import COMMANDS, build_app
from recog.core.hardware import num_cores

HEAVY = {"torch", "torchvision", "timm", "sklearn", "pandas", "matplotlib"}


def run(*arguments, cwd=None, expect=0):
    done = subprocess.run(
        [sys.executable, "-m", "recog", *map(str, arguments)], capture_output=True, text=True, cwd=cwd, timeout=300
    )
    assert done.returncode == expect, done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    return done


def modules_after(code):
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return {name.partition(".")[0] for name in done.stdout.splitlines()[-1].split()}


@pytest.fixture
def digit_files(tmp_path):
    """Three digits as PNG files, in two folders, and one file that is no image."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    for i in range(3):
        file = tmp_path / "photos" / f"{i}.png"
        file.parent.mkdir(exist_ok=True)
        Image.fromarray(np.round(digits.images[i] * (255 / 16)).astype(np.uint8)).save(file)
    (tmp_path / "broken.png").write_bytes(b"no image")
    return tmp_path


def test_importing_recog_loads_nothing_heavy():
    assert not HEAVY & modules_after("import recog")


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["predict", "--help"]])
def test_help_loads_nothing_heavy(arguments):
    code = f"import sys; sys.argv = ['recog', *{arguments!r}]\nfrom recog.cli import main\ntry: main()\nexcept SystemExit: pass"
    assert not HEAVY & modules_after(code)


def test_predict_loads_nothing_heavy(digits_run, digit_files):
    code = (
        f"import sys; sys.argv = ['recog', 'predict', {str(digits_run.bundle)!r}, {str(digit_files / 'photos')!r}]\n"
        "from recog.cli import main\ntry: main()\nexcept SystemExit: pass"
    )
    assert not (HEAVY | {"scipy"}) & modules_after(code)  # SciPy measures and fits; it takes longer than the answer


def test_help_lists_every_command_and_exit_code():
    from recog.cli import COMMANDS
    from recog.core import errors

    text = run("--help").stdout
    for command in COMMANDS:
        assert re.search(rf"^  {command} ", text, flags=re.MULTILINE)
    codes = {kind.exit_code for kind in vars(errors).values() if isinstance(kind, type)} - {1}
    assert codes == {2, 3, 4, 5, 6, 7, 74, 130}
    listed = " ".join(text[text.index("Exit codes") :].split())
    for code in codes:
        assert f" {code} " in listed


def test_help_shows_whole_sentences_within_80_columns(monkeypatch):
    import importlib

    from recog.cli import COMMANDS

    monkeypatch.setenv("COLUMNS", "80")
    text = run("--help").stdout
    assert max(map(len, text.splitlines())) <= 80
    assert "..." not in text.partition("Commands:")[2]
    for command, module in COMMANDS.items():
        sentence = getattr(importlib.import_module(f"recog.cli.{module}"), command).__doc__.partition(".")[0]
        assert f"{command} {' '.join(sentence.split())}." in " ".join(text.split())


def test_help_names_what_arguments_and_options_take():
    import typer

    from recog.cli import COMMANDS, build_app

    for name, command in typer.main.get_command(build_app(COMMANDS)).commands.items():
        context = command.make_context(name, [], resilient_parsing=True)
        text = command.get_help(context)
        assert not re.search(r"<|\bx[<>]|INTEGER|str\b", text), name
        for parameter in command.get_params(context):
            if not getattr(parameter, "is_flag", False):
                assert re.fullmatch(r"[A-Z][A-Z|=,./_-]*", parameter.metavar or "CHOICE"), (name, parameter.opts)
    assert "recog compare [OPTIONS] BUNDLE_A BUNDLE_B" in run("compare", "--help").stdout
    assert "BUNDLE_B is missing" in run("compare", "runs/a", expect=2).stderr


def test_completion_is_installed_and_completes(tmp_path):
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash")
    script = (
        f"{sys.executable} -m recog --install-completion || exit 1\n"
        "source ~/.bashrc\n"
        "export _RECOG_COMPLETE=complete_bash\n"
        f"COMP_WORDS='recog ev' COMP_CWORD=1 {sys.executable} -m recog\n"
        f"COMP_WORDS='recog train --epo' COMP_CWORD=2 {sys.executable} -m recog\n"
    )
    done = subprocess.run(
        [bash, "-c", script], env={**os.environ, "HOME": str(tmp_path)}, capture_output=True, text=True, timeout=120
    )
    assert done.stderr == ""
    assert done.stdout.split()[-2:] == ["evaluate", "--epochs"]
    assert "complete -o default -F _recog_completion recog" in (tmp_path / ".bash_completions" / "recog.sh").read_text()


def test_version():
    import recog

    assert run("--version").stdout.strip() == recog.__version__


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["trian"], 2, "Did you mean 'train'"),
        (["predict", "--tpo", "3", "x", "y"], 2, "--top"),
        (["predict", "absent-run", "x.png"], 4, "there is no bundle or run 'absent-run'"),
        (["verify", "."], 4, "neither a bundle nor a finished run"),
        (["train", "absent-folder"], 3, "there is no folder absent-folder"),
        (["train", "digits", "--recipe", "hed"], 2, "Did you mean 'head'"),
        (["train", "digits", "--set", "optim.lrr=1"], 2, "unknown setting 'optim.lrr'. Did you mean 'optim.lr'"),
        (["train", "digits", "--set", "optim.lr"], 2, "NAME=VALUE"),
        (["train", "digits", "--config", "absent.toml"], 2, "there is no config file absent.toml"),
        (["train", "digits", "--model", "resnet9"], 2, "Unknown network 'resnet9'"),
        (["train", "--seed", "1"], 2, "no data to train on"),
        (
            ["train", "digits", "--img-size", "64"],
            2,
            "No such option: --img-size. Did you mean --set model.image_size=",
        ),
        (["train", "digits", "--imgsz", "64"], 2, "Did you mean --set model.image_size=VALUE?"),
        (["train", "digits", "--loss", "mse"], 2, "Did you mean --set loss.name=VALUE"),
        (["train", "digits", "--learning-rate", "1"], 2, "Did you mean --lr?"),
        (
            ["evaluate", "a", "b", "--batch-size", "1"],
            2,
            "No such option: --batch-size, which is an option of recog train; see recog evaluate --help",
        ),
        (["predict", "a", "b", "--name", "c"], 2, "No such option: --name, which is an option of recog train, "),
        (["onnx"], 2, "No such command 'onnx'. Did you mean 'recog export RUN --to onnx'?"),
        (["val"], 2, "Did you mean 'recog evaluate RUN DATA'?"),
    ],
)
def test_a_mistake_is_one_message_with_its_exit_code(arguments, code, message, tmp_path):
    done = run(*arguments, cwd=tmp_path, expect=code)
    assert message in " ".join(done.stderr.split())
    assert done.stdout == ""
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["train", "digits", "--model", "resnet9"], 2),
        (["train", "digits", "--optimizer", "adamv"], 2),
        (["train", "digits", "--set", "optim.lrr=1"], 2),
        (["train", "absent-folder"], 3),
        (["train", "digits", "--weights", "absent.safetensors"], 2),
        (["train", "one_class"], 3),
        (["train", "empty"], 3),
        (["train", "--resume", "absent"], 7),
    ],
)
def test_a_wrong_setting_is_refused_before_torch_is_imported(arguments, code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for i in range(3):
        (tmp_path / "one_class" / "cats").mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), i).save(tmp_path / "one_class" / "cats" / f"{i}.png")
    (tmp_path / "empty").mkdir()
    code = (
        f"import sys; sys.argv = ['recog', *{arguments!r}]\nfrom recog.cli import main\n"
        f"try: main()\nexcept SystemExit as ended: assert ended.code == {code}, ended.code"
    )
    assert not {"torch", "timm", "torchvision"} & modules_after(code)


def test_predict_table(digits_run, digit_files):
    done = run("predict", digits_run.bundle, "photos", "--top", 2, cwd=digit_files)
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["image", "label", "confidence"]
    assert len(lines) == 1 + 3 * 2
    assert lines[1].split()[0] == "photos/0.png"


def test_predict_json_and_csv_say_the_same_as_python(digits_run, digit_files):
    import recog

    expected = recog.load(digits_run.bundle).predict(str(digit_files / "photos"))
    rows = json.loads(run("predict", digits_run.bundle, digit_files / "photos", "--json", "--top", 3).stdout)
    table = list(csv.DictReader(io.StringIO(run("predict", digits_run.bundle, digit_files / "photos", "--csv").stdout)))
    assert len(rows) == len(table) == len(expected) == 3
    for row, cells, prediction in zip(rows, table, expected, strict=True):
        assert row["label"] == cells["label"] == prediction.label
        assert row["confidence"] == pytest.approx(prediction.confidence, abs=1e-9)
        assert float(cells["confidence"]) == pytest.approx(prediction.confidence, abs=1e-6)
        assert [(item["label"], item["prob"]) for item in row["top"]] == prediction.top(3)


def test_a_bad_image_is_named_the_others_answered_and_the_exit_code_is_3(digits_run, digit_files):
    done = run(
        "predict", digits_run.bundle, "photos/0.png", "broken.png", "absent.png", "--json", cwd=digit_files, expect=3
    )
    good, broken, absent = json.loads(done.stdout)
    assert good["label"]
    assert broken["file"] == "broken.png"
    assert "not an image" in broken["error"]
    assert "no such file" in absent["error"]
    assert "2 of 3 images could not be used" in done.stderr


def test_of_a_folder_every_image_is_answered_and_what_is_left_out_is_named(digits_run, digit_files):
    photos = digit_files / "photos"
    (photos / "0.png").rename(photos / "download")
    (photos / "1.png").rename(photos / "1.jpg_large")
    (photos / "scan.jxl").write_bytes(b"\0\0\0\x0cJXL \r\n\x87\n")
    (photos / "notes.txt").write_text("a note")
    done = run("predict", digits_run.bundle, "photos", "--json", cwd=digit_files, expect=3)
    rows = {row["file"]: row.get("error") for row in json.loads(done.stdout)}
    assert [file for file, error in rows.items() if error is None] == [
        "photos/1.jpg_large",
        "photos/2.png",
        "photos/download",
    ]
    assert "it looks like JPEG XL" in rows["photos/scan.jxl"]
    assert "photos: left out 1 file (hidden or not an image): notes.txt" in done.stderr


@pytest.mark.parametrize("form", ["--json", "--csv", None])
def test_a_folder_without_images_is_reported_and_the_others_answered(digits_run, digit_files, form):
    (digit_files / "empty").mkdir()
    options = [form] if form else []
    done = run("predict", digits_run.bundle, "empty", "photos/0.png", *options, cwd=digit_files, expect=3)
    assert "photos/0.png" in done.stdout
    (failed,) = [line for line in done.stdout.splitlines() if "holds no image file" in line]
    assert "empty" in failed or form == "--json"
    assert "1 of 2 images could not be used" in done.stderr


def test_csv_with_reject_is_checked_before_the_header(digit_files):
    golden = Path(__file__).parents[1] / "golden" / "digits-format-1"
    done = run("predict", golden, "photos", "--csv", "--reject", cwd=digit_files, expect=2)
    assert done.stdout == ""
    assert "does not tell what is unknown" in done.stderr


def test_csv_cells_are_no_formulas(digits_run, digit_files):
    (digit_files / "photos" / "0.png").rename(digit_files / "=1+1.png")
    done = run("predict", digits_run.bundle, "=1+1.png", "--csv", cwd=digit_files)
    assert done.stdout.splitlines()[1].startswith("'=1+1.png,")


def test_verify_says_what_it_checked(digits_run):
    done = json.loads(run("verify", digits_run.folder, "--json").stdout)
    assert done["num_files"] == len(list(digits_run.bundle.iterdir()))
    assert done["num_reference_images"] == 16
    assert done["max_prob_difference"] <= 1e-4


def test_verify_refuses_a_changed_bundle(bundle):
    weights = bundle / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    done = run("verify", bundle, expect=4)
    assert "model.safetensors is not the file that was sealed" in done.stderr


def test_predict_shows_what_each_image_may_show(digits_run, digit_files):
    import recog

    expected = recog.load(digits_run.bundle).predict(str(digit_files / "photos"))
    rows = json.loads(run("predict", digits_run.bundle, digit_files / "photos", "--json", "--sets").stdout)
    assert [row["label_set"] for row in rows] == [list(prediction.label_set) for prediction in expected]
    assert "label_set" not in json.loads(run("predict", digits_run.bundle, digit_files / "photos", "--json").stdout)[0]
    cells = csv.DictReader(
        io.StringIO(run("predict", digits_run.bundle, digit_files / "photos", "--csv", "--sets").stdout)
    )
    assert [row["label_set"] for row in cells] == [" | ".join(prediction.label_set) for prediction in expected]
    assert re.search(r"\tset \(\d+%\)\n", run("predict", digits_run.bundle, "photos", "--sets", cwd=digit_files).stdout)
    golden = Path(__file__).parents[1] / "golden" / "digits-format-1"
    done = run("predict", golden, "photos", "--sets", cwd=digit_files, expect=2)
    assert "makes no prediction sets" in done.stderr
    assert "label_set" not in json.loads(run("predict", golden, digit_files / "photos", "--json").stdout)[0]


def test_predict_rejects_what_is_unlike_every_class(digits_run, digit_files):
    import recog

    predictor = recog.load(digits_run.bundle)
    expected = predictor.predict(str(digit_files / "photos"), reject=True)
    rows = json.loads(run("predict", digits_run.bundle, digit_files / "photos", "--json", "--reject").stdout)
    for row, prediction in zip(rows, expected, strict=True):
        assert (row["label"], row["is_unknown"]) == (prediction.label, prediction.is_unknown)
        assert row["unknown_score"] == pytest.approx(prediction.unknown_score, abs=1e-5)
        assert (row["confidence"] is None) == prediction.is_unknown
    assert "is_unknown" not in json.loads(run("predict", digits_run.bundle, digit_files / "photos", "--json").stdout)[0]
    golden = Path(__file__).parents[1] / "golden" / "digits-format-1"
    done = run("predict", golden, "photos", "--reject", cwd=digit_files, expect=2)
    assert "does not tell what is unknown: it was trained without" in done.stderr


def threads_of_session(*arguments):
    """What ONNX Runtime was asked for when `recog arguments...` opened the network, in a fresh process."""
    code = f"""
import sys
sys.argv = ["recog", *{[str(a) for a in arguments]!r}]
import recog, onnxruntime
session = onnxruntime.InferenceSession
def opened(path, options, **rest):
    print(options.intra_op_num_threads, file=sys.stderr)
    return session(path, options, **rest)
onnxruntime.InferenceSession = opened
from recog.cli import main
main()
"""
    environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    return int(done.stderr.splitlines()[0])


def test_threads_are_what_onnx_runtime_gets(digits_run, digit_files, monkeypatch):
    assert threads_of_session("predict", digits_run.bundle, digit_files / "photos", "--threads", 3) == 3
    assert threads_of_session("verify", digits_run.bundle, "--threads", 5) == 5
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert threads_of_session("verify", digits_run.bundle) == num_cores()


@pytest.mark.parametrize("command", sorted(set(COMMANDS) - {"cache", "models", "push", "report", "runs"}))
def test_every_command_that_computes_takes_threads(command, monkeypatch):
    """All pools of threads ask `num_cores`; OpenMP and processes that are started read the variable."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # a command's handlers are not for this process
    arguments = {"compare": ["a", "b", "--data", "c"], "evaluate": ["a", "b"], "predict": ["a", "b"]}
    app, given = build_app((command,)), [command, *arguments.get(command, ["nowhere"])]
    assert CliRunner().invoke(app, [*given, "--threads", "3"]).exit_code in (
        2,
        3,
        4,
    )  # there is no such bundle, no such folder
    assert num_cores() == 3
    for number in ("0", "1025", "many"):
        refused = CliRunner().invoke(app, [*given, "--threads", number])
        assert refused.exit_code == 2
        assert f"--threads is '{number}'; it must be" in refused.output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["train"], "There is no data to train on. Name a folder of class folders"),
        (["evaluate", "run"], "DATA is missing. Labelled images"),
        (["compare", "a", "b"], "--data is missing: name the labelled images"),
        (["train", "digits", "--epochs", "x"], "--epochs is 'x'; it must be a whole number."),
        (["train", "digits", "--lr=x"], "--lr is 'x'; it must be a number."),
        (["predict", "run", "a.png", "--top", "0"], "--top is '0'; it must be 1 or more."),
        (["evaluate", "a", "b", "--bad-images", "x"], "--bad-images is 'x'; it must be one of auto, skip, error, quarantine."),
        (["predict", "run", "x", "--nams", "gbk"], "Did you mean --names: Encoding of names in a zip archive"),
        (["train", "digits", "--nope", "3"], "No such option: --nope; see recog train --help"),
    ],
)  # fmt: skip
def test_wrong_and_missing_values_are_stated_in_our_words(arguments, says):
    result = CliRunner().invoke(build_app(COMMANDS), arguments)
    assert result.exit_code == 2
    assert says in result.stderr
    assert len(result.stderr.splitlines()) <= 5
