"""D3 of the reliability rules: a run that goes on from any step ends as one that was never interrupted, bit for bit."""

from __future__ import annotations

import pytest
import torch
from small_training import EPOCHS, STEPS, Small, checkpoints_in, hash_of, loader, lr_at, made

from recog.training.fit import StepLog, fit
from recog.training.optim import OPTIMIZERS
from recog.training.state import restore_snapshot, take_snapshot


@pytest.fixture(scope="module")
def uninterrupted():
    state = made()
    losses = [log.loss for log in fit(state, loader(), lr_at, epochs=EPOCHS) if isinstance(log, StepLog)]
    assert len(losses) == EPOCHS * STEPS
    return hash_of(state), losses


@pytest.mark.parametrize("stop_after", range(1, EPOCHS * STEPS + 1))
def test_a_resumed_run_equals_an_uninterrupted_one(stop_after, uninterrupted, tmp_path):
    state, losses = made(), []
    for log in fit(state, loader(), lr_at, epochs=EPOCHS):
        if isinstance(log, StepLog):
            losses.append(log.loss)
        if state.num_steps_done == stop_after:
            break
    checkpoints_in(tmp_path).save(take_snapshot(state), epoch=state.epoch, step=state.step)
    torch.manual_seed(stop_after)  # another process has drawn other numbers
    loaded = checkpoints_in(tmp_path).load_newest()
    resumed = made()
    restore_snapshot(resumed, loaded.state)
    assert (resumed.epoch, resumed.step) == (loaded.epoch, loaded.step) == (state.epoch, state.step)
    losses += [log.loss for log in fit(resumed, loader(), lr_at, epochs=EPOCHS) if isinstance(log, StepLog)]
    assert (hash_of(resumed), losses) == uninterrupted


@pytest.mark.parametrize("optimizer", sorted(set(OPTIMIZERS) - {"sgd"}))
def test_so_it_does_with_any_optimiser(optimizer, tmp_path):
    straight = made(optimizer)
    list(fit(straight, loader(), lr_at, epochs=EPOCHS))
    state = made(optimizer)  # and the random state that training begins with
    for _ in fit(state, loader(), lr_at, epochs=EPOCHS):
        if state.num_steps_done == 11:
            break
    checkpoints_in(tmp_path).save(take_snapshot(state), epoch=state.epoch, step=state.step)
    resumed = made(optimizer)
    restore_snapshot(resumed, checkpoints_in(tmp_path).load_newest().state)
    list(fit(resumed, loader(), lr_at, epochs=EPOCHS))
    assert hash_of(resumed) == hash_of(straight)


def test_the_hash_sees_a_difference(uninterrupted):
    """Without the random state, dropout's coins are others: the equality above is not for lack of chance."""
    state = made()
    torch.manual_seed(1)
    list(fit(state, loader(), lr_at, epochs=EPOCHS))
    assert hash_of(state) != uninterrupted[0]


def test_the_network_has_the_size_that_it_says():
    assert sum(p.numel() for p in Small().parameters()) == 8 * 9 + 8 + 16 + 38 * 72 + 38 + 38 * 3 + 3 == 2987
