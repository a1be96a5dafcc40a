from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest


def run(*arguments, expect=0):
    done = subprocess.run(
        [sys.executable, "-m", "recog", *map(str, arguments)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == expect, done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture
def two_runs(digits_run, tmp_path):
    return [shutil.copytree(digits_run.folder, tmp_path / name) for name in ("old", "new")]


def test_a_table_in_words_and_the_notes_on_stderr(two_runs):
    done = run("compare", *two_runs, "--data", "digits")
    words = " ".join(done.stdout.split())
    assert "digits, test split: 360 images" in words
    assert "No difference on 360 images: A and B are correct on the same ones." in words
    assert "left out 1,437 of 1,797 images" in done.stderr


def test_json_on_stdout_alone(two_runs):
    table = json.loads(run("compare", *two_runs, "--data", "digits", "--json").stdout)
    assert (table["num_images"], table["difference"], table["p_value"], table["better"]) == (360, 0.0, 1.0, None)


def test_a_bundle_without_its_run_says_what_is_not_known(bundle):
    done = run("compare", bundle, bundle, "--data", "digits")
    assert "warning: it is not known whether" in done.stderr


def test_data_are_asked_for(bundle):
    assert "--data" in run("compare", bundle, bundle, expect=2).stderr


def test_evaluate_slices(bundle, digits_run):
    done = run("evaluate", bundle, "digits", "--slice", "brightness", "--slice", "source-folder", "--json")
    brightness, folders = json.loads(done.stdout)["slices"]
    assert (brightness["by"], len(brightness["slices"])) == ("brightness", 4)
    assert {part["name"] for part in folders["slices"]} == {f"digits/{digit}" for digit in range(10)}
    assert "Did you mean 'size'?" in run("evaluate", bundle, "digits", "--slice", "sise", expect=2).stderr


def test_robustness_options(two_runs):
    for options, message in (
        ((), "--data is missing"),
        (("--robustness", "--data", "digits"), "Remove --data and --split, or --robustness"),
        (("--robustness",), "A has no robustness yet"),
    ):
        done = run("compare", *two_runs, *options, expect=3 if "yet" in message else 2)
        assert message in " ".join(done.stderr.split())
