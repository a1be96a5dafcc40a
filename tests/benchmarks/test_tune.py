"""The commands of benchmarks/tune.py, replaced by ones that take no time."""

import sys

import pytest


@pytest.fixture
def experiment(load_benchmark):
    return load_benchmark("tune")


def commands(*names):
    return {name: [sys.executable, "-c", f"print({name!r})"] for name in names}


def test_commands_that_run_together_are_repeated_together(experiment, tmp_path):
    repeats = experiment.Repeats(path=tmp_path / "runs.jsonl")
    found = repeats.together(commands("a", "b"))
    assert {key: run.stdout for key, run in found.items()} == {"a": "a\n", "b": "b\n"}
    seconds = {key: run.median_s for key, run in found.items()}
    assert {key: run.median_s for key, run in repeats.together(commands("a", "b")).items()} == seconds  # from the file
    assert len(repeats.path.read_text().splitlines()) == 2
    again = repeats.together(commands("a", "b", "c"))  # one is missing, so that all run
    assert len(repeats.path.read_text().splitlines()) == 5
    seconds = {key: run.median_s for key, run in again.items()}
    newer = repeats.together(commands("a", "b", "c"))
    assert {key: run.median_s for key, run in newer.items()} == seconds


def test_the_difference_is_paired_and_in_words(experiment):
    # gaps of 1, 2 and 3 points: mean 2, standard deviation 1; t(0.975, 2) = 4.303, so 2 +- 4.303 / 3 ** 0.5 = 2 +- 2.48
    line = experiment.difference("a less b", [0.81, 0.82, 0.83], [0.80, 0.80, 0.80])
    assert line == "- a less b: +2.00 points (95% interval -0.48 to +4.48, n = 3): a tie within the interval"
    assert experiment.difference("x", [0.9, 0.9], [0.8, 0.8]).endswith("better")
    assert experiment.difference("x", [0.9], [0.8]).endswith("n = 1, so no interval")
