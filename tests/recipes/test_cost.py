"""The planner is pure, so its expected values are worked out by hand from round speeds."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from recog.core.errors import ConfigError
from recog.recipes.cost import (
    HEADS,
    MAX_EPOCHS,
    SCRATCH,
    Candidate,
    Counts,
    NetworkSpeed,
    NothingFitsError,
    Speeds,
    after_training_s,
    before_steps_s,
    candidates_for,
    choose,
    describe_seconds,
    epoch_s,
    parse_budget,
)
from recog.recipes.plan import PRETRAINED

COUNTS = Counts(train=1000, val=100, test=200, classes=10)
SPEEDS = Speeds(
    read_s=0.001,
    export_s=4.0,
    pace=0.0,  # no constants: what is left is counted by hand below
    networks={
        "tf_efficientnet_lite0": NetworkSpeed(eval_s=0.03, predict_s=0.01, step_s=0.1, features=100),
        "fastnet32_wide": NetworkSpeed(step_s=0.002, eval_s=0.001, predict_s=0.001),
        "fastnet32": NetworkSpeed(step_s=0.001, eval_s=0.0005, predict_s=0.0005),
        "resnet8": NetworkSpeed(step_s=0.0005, eval_s=0.0002, predict_s=0.0002),
    },
)

USUAL = {"head": PRETRAINED, "scratch": "fastnet32_wide", "finetune": PRETRAINED}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("10m", 600), ("2h", 7200), ("1h30m", 5400), ("1m30s", 90), ("0.5h", 1800), (" 2M ", 120)],
)
def test_a_budget_is_a_time_with_its_unit(text: str, seconds: float) -> None:
    assert parse_budget(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "90", "s", "10 minutes", "-5m", "0s", "m10", "1h1h", "5d", "1e9h", "nan s", "1001h"]
)
def test_anything_else_is_refused_with_the_form_that_is_expected(text: str) -> None:
    with pytest.raises(ConfigError, match="expected a time with its unit, such as 90s"):
        parse_budget(text)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "1s"), (59.1, "1m"), (90, "1m30s"), (3600, "1h"), (3661, "1h1m1s")]
)
def test_times_are_written_as_they_are_read(seconds: float, text: str) -> None:
    assert describe_seconds(seconds) == text
    assert parse_budget(text) >= seconds


def test_the_cost_of_steps_is_that_of_training_and_validation_images() -> None:
    candidate = Candidate(recipe="scratch", network="fastnet32")
    assert epoch_s(candidate, COUNTS, SPEEDS) == pytest.approx(1000 * 0.001 + 100 * 0.0005)
    assert before_steps_s(candidate, COUNTS, SPEEDS) == pytest.approx(1300 * 0.001)
    # export, 100 parity images by torch and twice by the engine, val for calibration, test read and predicted
    expected = 4.0 + 100 * (0.0005 + 0.001) + 100 * 0.0005 + 200 * (0.001 + 0.0005)
    assert after_training_s(candidate, COUNTS, SPEEDS) == pytest.approx(expected)


def test_training_leaves_time_for_the_validation_of_an_epoch_that_is_cut() -> None:
    candidate = Candidate(recipe="scratch", network="fastnet32")
    found = choose([candidate], COUNTS, SPEEDS, left_s=1000)
    assert found.after_s == pytest.approx(after_training_s(candidate, COUNTS, SPEEDS) + 100 * 0.0005)
    head = choose([Candidate(recipe="head", network=PRETRAINED)], COUNTS, SPEEDS, left_s=1000)
    assert head.after_s == after_training_s(head.candidate, COUNTS, SPEEDS)


def test_a_larger_input_costs_its_factor() -> None:
    small, large = (replace(HEADS[1], cost=cost) for cost in (1.0, 2.0))
    more = before_steps_s(large, COUNTS, SPEEDS) - before_steps_s(small, COUNTS, SPEEDS)
    assert more == pytest.approx(1100 * 0.01)


def test_the_file_of_the_network_that_was_measured_is_not_written_again() -> None:
    """A head's file is that of its features with another last layer, so it is written once or, if it was measured, not at all."""
    candidate = HEADS[1]
    measured = replace(SPEEDS, exported=(candidate,))
    before = before_steps_s(candidate, COUNTS, SPEEDS)
    assert before_steps_s(candidate, COUNTS, measured) == pytest.approx(before - 4.0)
    with_file, without = (after_training_s(candidate, COUNTS, replace(SPEEDS, export_s=s)) for s in (4.0, 0.0))
    assert with_file == without


def test_epochs_fill_the_time() -> None:
    candidate = Candidate(recipe="scratch", network="fastnet32", errors=SCRATCH["fastnet32"])
    fixed = before_steps_s(candidate, COUNTS, SPEEDS) + after_training_s(candidate, COUNTS, SPEEDS)
    found = choose([candidate], COUNTS, SPEEDS, left_s=fixed + 10.4 * epoch_s(candidate, COUNTS, SPEEDS))
    assert found.epochs == 10
    assert found.expected_s == pytest.approx(fixed + 10 * epoch_s(candidate, COUNTS, SPEEDS))
    assert not found.is_last


def test_the_epochs_have_an_end_and_the_choice_tells() -> None:
    candidate = Candidate(recipe="scratch", network="fastnet32", errors=SCRATCH["fastnet32"])
    found = choose([candidate], COUNTS, SPEEDS, left_s=1e6)
    assert (found.epochs, found.is_last) == (MAX_EPOCHS, True)


def test_what_fits_nothing_names_the_shortest_plan() -> None:
    with pytest.raises(NothingFitsError) as caught:
        choose(HEADS, COUNTS, SPEEDS, left_s=1.0)
    shortest = caught.value.shortest
    assert shortest.candidate is HEADS[0]
    assert choose(HEADS, COUNTS, SPEEDS, left_s=shortest.expected_s).candidate is HEADS[0]


@pytest.mark.parametrize("recipe", ["head", "scratch", "finetune"])
@pytest.mark.parametrize(
    "counts", [COUNTS, Counts(train=50_000, val=0, test=10_000, classes=10), replace(COUNTS, train=40)]
)
def test_more_time_never_plans_what_is_expected_to_be_worse(recipe: str, counts: Counts) -> None:
    candidates = candidates_for(recipe, None, None, large=True, usual=USUAL[recipe])
    least = min(
        before_steps_s(each, counts, SPEEDS) + after_training_s(each, counts, SPEEDS) + epoch_s(each, counts, SPEEDS)
        for each in candidates
    )
    times = [1.0001 * least * 1.07**power for power in range(80)]  # above rounding
    found = [choose(candidates, counts, SPEEDS, left_s=left_s) for left_s in times]
    assert all(after.error <= before.error for before, after in itertools.pairwise(found))
    assert all(choice.expected_s <= left_s for choice, left_s in zip(found, times, strict=True))


def test_every_table_falls_so_that_more_epochs_are_better() -> None:
    for points in SCRATCH.values():
        assert all(a[0] < b[0] and a[1] > b[1] for a, b in itertools.pairwise(points))
        candidate = Candidate(recipe="scratch", network="any", errors=points)
        seen = [10 ** (power / 4) for power in range(8, 32)]
        assert all(candidate.error(a) >= candidate.error(b) for a, b in itertools.pairwise(seen))


def test_an_error_between_two_points_is_on_the_line_over_the_logarithm() -> None:
    candidate = Candidate(recipe="scratch", network="any", errors=((100.0, 0.4), (10_000.0, 0.2)))
    assert candidate.error(1000.0) == pytest.approx(0.3)
    assert candidate.error(1e9) == 0.2
    assert candidate.error(50.0) > 0.4


def test_what_the_user_names_is_kept() -> None:
    (only,) = candidates_for("head", "resnet18", None, large=True, usual="resnet18")
    assert only.settings(0) == {"recipe": "head", "model.name": "resnet18"}
    (own,) = candidates_for("scratch", "resnet8", (24, 24), large=False, usual="resnet8")
    assert own.settings(3) == {"recipe": "scratch", "model.name": "resnet8", "optim.epochs": 3}


def test_small_photos_are_not_enlarged() -> None:
    assert all(
        max(each.image_size or ()) <= 224 for each in candidates_for("head", None, None, large=False, usual=PRETRAINED)
    )


@pytest.mark.parametrize(("usual", "names"), [("resnet8", {"resnet8"}), ("fastnet32", {"resnet8", "fastnet32"})])
def test_no_network_is_larger_than_the_one_that_suits_the_data(usual: str, names: set[str]) -> None:
    assert {each.network for each in candidates_for("scratch", None, None, large=False, usual=usual)} == names


def test_each_network_that_is_measured_has_a_candidate_of_its_own_size() -> None:
    """The others' costs are multiples of its: measured at 160 px, where lite0 costs 0.53 of itself, all plans were too short."""
    measured = [each for each in HEADS if each.cost == 1]
    assert {each.network for each in measured} == {each.yardstick for each in HEADS}
    assert [each.image_size for each in measured] == [(224, 224)]
