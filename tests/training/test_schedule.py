import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recog.core.errors import ConfigError
from recog.training.schedule import (
    SCHEDULES,
    ScheduleConfig,
    build_schedule,
    constant_lr,
    cosine_lr,
    linear_lr,
    one_cycle_lr,
    step_lr,
)


def rates(num_steps, num_warmup_steps, peak_lr=1.0):
    return [
        cosine_lr(step, num_steps=num_steps, num_warmup_steps=num_warmup_steps, peak_lr=peak_lr)
        for step in range(num_steps + 1)
    ]


def test_warm_up_and_cosine_by_hand():
    # 2 steps of warm-up: 1/2, 2/2; then (1 + cos(pi k / 4)) / 2 for k = 0..4
    half = math.sqrt(2) / 4
    assert rates(6, 2) == pytest.approx([0.5, 1, 1, 0.5 + half, 0.5, 0.5 - half, 0])


def test_peak_is_a_factor():
    assert rates(6, 2, peak_lr=0.3) == pytest.approx([0.3 * rate for rate in rates(6, 2)])


def test_without_warm_up_it_is_torchs_cosine_annealing():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.2)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20)
    theirs = []
    for _ in range(21):
        theirs.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    assert rates(20, 0, peak_lr=0.2) == pytest.approx(theirs)


def test_all_steps_may_be_warm_up():
    assert rates(4, 4)[:4] == pytest.approx([0.25, 0.5, 0.75, 1])


def test_one_step_is_taken_at_the_peak():
    assert rates(1, 0)[0] == 1


@given(st.integers(1, 200), st.floats(0, 1), st.floats(1e-6, 10))
def test_it_rises_then_falls_and_every_step_learns(num_steps, fraction, peak_lr):
    num_warmup_steps = round(fraction * num_steps)
    all_rates = rates(num_steps, num_warmup_steps, peak_lr)[:num_steps]
    rising, falling = all_rates[:num_warmup_steps], all_rates[num_warmup_steps:]
    assert rising == sorted(rising)
    assert falling == sorted(falling, reverse=True)
    assert min(all_rates) > 0
    assert max(all_rates) == pytest.approx(peak_lr)


# the other schedules


def all_of(function, num_steps, num_warmup_steps, **more):
    return [
        function(step, num_steps=num_steps, num_warmup_steps=num_warmup_steps, peak_lr=1.0, **more)
        for step in range(num_steps)
    ]


def torchs(make, num_steps, lr=1.0):
    """The rate of each step by one of torch's schedulers."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
    scheduler = make(optimizer)
    found = []
    for step in range(num_steps):
        found.append(scheduler.get_last_lr()[0])
        optimizer.step()
        if step < num_steps - 1:
            scheduler.step()
    return found


@pytest.mark.parametrize(("num_steps", "fraction"), [(20, 0.3), (100, 0.25), (10, 0.5)])
def test_one_cycle_is_torchs(num_steps, fraction):
    theirs = torchs(
        lambda optimizer: torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=1.0, total_steps=num_steps, pct_start=fraction, cycle_momentum=False
        ),
        num_steps,
    )
    assert all_of(one_cycle_lr, num_steps, round(fraction * num_steps)) == pytest.approx(theirs, abs=1e-12)


def test_one_cycle_without_a_rise_begins_at_the_peak():
    assert all_of(one_cycle_lr, 5, 0)[0] == all_of(one_cycle_lr, 5, 1)[0] == 1
    assert all_of(one_cycle_lr, 1, 0) == [1]


def test_steps_are_torchs():
    theirs = torchs(lambda optimizer: torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[6, 9], gamma=0.2), 12)
    assert all_of(step_lr, 12, 0, milestones=(0.5, 0.75), gamma=0.2) == pytest.approx(theirs)


def test_steps_with_warm_up_by_hand():
    assert all_of(step_lr, 8, 2, milestones=(0.5,), gamma=0.1) == pytest.approx([0.5, 1, 1, 1, 0.1, 0.1, 0.1, 0.1])


def test_a_line_by_hand():
    # 2 steps of warm-up, then 4 steps of a line from 1 to 0: 1, 3/4, 2/4, 1/4
    assert all_of(linear_lr, 6, 2) == pytest.approx([0.5, 1, 1, 0.75, 0.5, 0.25])


def test_a_constant_with_warm_up():
    assert all_of(constant_lr, 5, 2) == [0.5, 1, 1, 1, 1]


@pytest.mark.parametrize("name", SCHEDULES)
@given(num_steps=st.integers(1, 100), fraction=st.floats(0, 0.99))
def test_every_schedule_rises_to_its_peak_and_never_again(name, num_steps, fraction):
    lr_at = build_schedule(
        ScheduleConfig(name=name, warmup_fraction=fraction).filled(), num_steps=num_steps, peak_lr=0.3
    )
    found = [lr_at(step) for step in range(num_steps)]
    assert min(found) > 0
    assert max(found) <= 0.3 + 1e-12
    top = found.index(max(found))
    assert found[:top] == sorted(found[:top])
    assert found[top:] == sorted(found[top:], reverse=True)


def test_what_is_built_is_what_the_config_says():
    config = ScheduleConfig(name="step", warmup_fraction=0.0, milestones=(0.25, 0.5), gamma=0.5)
    lr_at = build_schedule(config.filled(), num_steps=4, peak_lr=0.8)
    assert [lr_at(step) for step in range(4)] == pytest.approx([0.8, 0.4, 0.2, 0.2])
    default = build_schedule(ScheduleConfig().filled(), num_steps=20, peak_lr=1.0)  # 15 % of 20: 3 steps
    assert [default(step) for step in range(3)] == pytest.approx([1 / 3, 2 / 3, 1])


def test_the_usual_warm_up():
    assert ScheduleConfig().filled().warmup_fraction == 0.15
    assert ScheduleConfig(name="one-cycle").filled().warmup_fraction == 0.3
    asked = ScheduleConfig(name="one-cycle", warmup_fraction=0.0, small_fraction=0.25)
    assert vars(asked.filled()) == vars(asked)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("warmup_fraction", [-0.1, 1.0, math.nan]),
        ("gamma", [0.0, 1.1, math.nan]),
        ("small_fraction", [-0.1, 1.0, math.nan]),
        ("small_scale", [0.0, 1.1, math.nan]),
        ("milestones", [(0.0,), (1.0,), (0.5, 0.5), (0.7, 0.3)]),
    ],
)
def test_impossible_settings_are_refused(name, values):
    for value in values:
        with pytest.raises(ConfigError, match=rf"schedule\.{name} is "):
            ScheduleConfig(**{name: value})


def test_smaller_images_by_hand():
    """Half of the steps at 5/8 of both sides have 25/64 of the pixels: (1 + 25/64) / 2."""
    plan = ScheduleConfig(small_fraction=0.5, small_scale=0.625).filled()
    assert plan.small_size((32, 48)) == (20, 30)
    assert plan.step_cost == pytest.approx(0.6953125)
    assert (ScheduleConfig().filled().small_fraction, ScheduleConfig().filled().step_cost) == (0.0, 1.0)
