import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recog.training.schedule import cosine_lr


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
