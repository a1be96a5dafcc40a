"""The commands of benchmarks/tune.py, replaced by ones that take no time."""

import sys

import pytest


@pytest.fixture
def experiment(load_benchmark):
    return load_benchmark("tune")


def commands(*names):
    return {name: [sys.executable, "-c", f"print({name!r})"] for name in names}


def test_commands_of_which_some_are_known_run_only_the_others(experiment, tmp_path):
    repeats = experiment.Repeats(path=tmp_path / "runs.jsonl")
    found = repeats.together(commands("a", "b"), 2)
    assert {key: run.stdout for key, run in found.items()} == {"a": "a\n", "b": "b\n"}
    seconds = {key: run.median_s for key, run in found.items()}
    again = repeats.together(commands("a", "b", "c"), 2)
    assert {key: again[key].median_s for key in seconds} == seconds  # from the file
    assert again["c"].stdout == "c\n"
    assert len(repeats.path.read_text().splitlines()) == 3


def test_the_difference_is_paired_and_in_words(experiment):
    # gaps of 1, 2 and 3 points: mean 2, standard deviation 1; t(0.975, 2) = 4.303, so 2 +- 4.303 / 3 ** 0.5 = 2 +- 2.48
    line = experiment.difference("a less b", [0.81, 0.82, 0.83], [0.80, 0.80, 0.80])
    assert line == "- a less b: +2.00 points (95% interval -0.48 to +4.48, n = 3): a tie within the interval"
    assert experiment.difference("x", [0.9, 0.9], [0.8, 0.8]).endswith("better")
    assert experiment.difference("x", [0.9], [0.8]).endswith("n = 1, so no interval")
