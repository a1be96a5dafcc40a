"""A loss or a gradient that is not finite (T5): stop, or skip and count, and name step and images; nothing of it is kept."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from small_training import BATCH, EPOCHS, STEPS, checkpoints_in, hash_of, loader, lr_at, made

from recog.core.errors import TrainingError
from recog.training.fit import EpochLog, SkippedStep, StepLog, fit
from recog.training.state import restore_snapshot, take_snapshot

NAMES = tuple(f"class/{i}.png" for i in range(STEPS * BATCH + 1))


def named_loader():
    return dataclasses.replace(loader(), names=NAMES)


def spoil(state, step, *, where, value=float("nan")):
    """From now on, the given step (from 1) has a loss, or a gradient, of `value`."""

    def is_due():
        return state.num_steps_done == step - 1

    if where == "loss":
        plain = state.loss
        state.loss = Spoilt(plain, is_due, value)
    else:
        parameter = state.classifier.classifier.weight
        parameter.register_hook(lambda gradient: torch.full_like(gradient, value) if is_due() else gradient)


class Spoilt:
    def __init__(self, plain, is_due, value):
        self.plain, self.is_due, self.value = plain, is_due, value

    def __call__(self, logits, targets):
        return self.plain(logits, targets) + (self.value if self.is_due() else 0)

    def total_weight(self, targets):
        return self.plain.total_weight(targets)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_training_stops_before_the_step_and_names_it_and_its_images(where, value, tmp_path):
    state, store = made(), checkpoints_in(tmp_path)
    spoil(state, 11, where=where, value=value)
    steps = []

    def train():
        for log in fit(state, named_loader(), lr_at, epochs=EPOCHS):
            steps.append(log)
            store.save(take_snapshot(state), epoch=state.epoch, step=state.step)

    with pytest.raises(TrainingError) as caught:
        train()
    message = str(caught.value)
    assert "at epoch 2, step 11 (learning rate" in message
    names = [NAMES[i] for i in loader().draws(1)[2 * BATCH : 3 * BATCH]]  # the third batch of the second epoch
    assert f"The batch contains {', '.join(names)}." in message
    assert sum(isinstance(log, StepLog) for log in steps) == 10
    # the state before that step is kept, and training continues from it
    resumed = made()
    restore_snapshot(resumed, store.load_newest().state)
    assert resumed.num_steps_done == 10
    list(fit(resumed, named_loader(), lr_at, epochs=EPOCHS))
    straight = made()
    list(fit(straight, named_loader(), lr_at, epochs=EPOCHS))
    assert hash_of(resumed) == hash_of(straight)


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_a_step_is_skipped_and_counted_by_policy(where, caplog):
    state = made()
    state.on_nonfinite = "skip"
    spoil(state, 11, where=where)
    weights = []
    for log in fit(state, named_loader(), lr_at, epochs=EPOCHS):
        if isinstance(log, SkippedStep):
            skipped = log
            assert all(torch.equal(now, before) for now, before in zip(state.classifier.state_dict().values(), weights))  # noqa: B905
        elif isinstance(log, EpochLog):
            assert log.num_skipped == (log.epoch == 2)
            assert torch.isfinite(torch.tensor(log.train_loss))
        weights = [value.clone() for value in state.classifier.state_dict().values()]
    assert (skipped.epoch, skipped.step) == (2, 11)
    assert set(skipped.names) == {NAMES[i] for i in loader().draws(1)[2 * BATCH : 3 * BATCH]}
    assert (state.num_skipped, state.num_steps_done) == (1, EPOCHS * STEPS)
    assert all(torch.isfinite(value).all() for value in state.classifier.state_dict().values())


def test_many_in_a_row_stop_all_the_same():
    state = made()
    state.on_nonfinite = "skip"
    state.loss = Spoilt(state.loss, lambda: True, float("nan"))
    with pytest.raises(TrainingError, match="10 steps in a row were skipped, and now the loss is nan"):
        list(fit(state, named_loader(), lr_at, epochs=EPOCHS))
    assert state.num_skipped == 10


def test_a_rate_that_explodes_is_named_with_its_remedy(tmp_path):
    state, store = made(), checkpoints_in(tmp_path)
    state.max_grad_norm = None

    def train():
        for _ in fit(state, named_loader(), lambda step: 1e30, epochs=EPOCHS):
            store.save(take_snapshot(state), epoch=state.epoch, step=state.step)

    with pytest.raises(TrainingError, match=r"not finite|the loss is|the gradient's norm is"):
        train()
    loaded = store.load_newest()
    tensors = [] if loaded is None else list(loaded.state["weights"].values())
    assert all(torch.isfinite(tensor).all() for tensor in tensors)
