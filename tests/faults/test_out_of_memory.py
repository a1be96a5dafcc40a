"""Out of memory in a step (T6): the batch goes through in smaller parts, and the result is the whole batch's."""

from __future__ import annotations

import pytest
import torch
from small_training import EPOCHS, STEPS, loader, lr_at, made
from torch import nn

from recog.core.errors import TrainingError
from recog.training.fit import StepLog, fit

ERRORS = {
    "cuda": torch.OutOfMemoryError("CUDA out of memory."),
    "cpu": RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 7 bytes."),
    "python": MemoryError(),
}


def limit_images(state, at_once, error, *, from_step=5):
    """From a step on, more images than `at_once` in a forward pass raise `error`."""

    def refuse(module, inputs):
        if module.training and state.num_steps_done >= from_step - 1 and len(inputs[0]) > at_once:
            raise error

    state.classifier.register_forward_pre_hook(refuse)


def without_batch_norm():
    state = made()
    state.classifier.network.body[1] = nn.Identity()
    state.precision = "float32"
    for module in state.classifier.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0  # its coins are drawn for each part
    state.ema = None
    return state


def losses_of(state, monkeypatch):
    monkeypatch.setattr(nn.functional, "dropout", lambda features, *_: features)
    return [log for log in fit(state, loader(), lr_at, epochs=EPOCHS) if isinstance(log, StepLog)]


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS.keys())
def test_the_loss_is_that_of_the_whole_batch(error, monkeypatch):
    expected = losses_of(without_batch_norm(), monkeypatch)
    state = without_batch_norm()
    limit_images(state, 1, error)
    found = losses_of(state, monkeypatch)
    assert [log.loss for log in found] == pytest.approx([log.loss for log in expected], abs=1e-4)
    assert state.accumulation == 4
    assert [bool(log.notes) for log in found] == [number == 5 for number in range(1, EPOCHS * STEPS + 1)]
    assert "in 4 parts (loss and gradients are those of the whole batch)" in found[4].notes[0]


def test_batch_norm_is_named():
    state = made()
    limit_images(state, 2, ERRORS["cuda"])
    notes = [note for log in fit(state, loader(), lr_at, epochs=1) if isinstance(log, StepLog) for note in log.notes]
    assert len(notes) == 1
    assert "in 2 parts (BatchNorm uses the statistics of a part" in notes[0]


def test_what_does_not_fit_at_all_is_a_clear_error():
    state = made()
    limit_images(state, 0, ERRORS["cpu"])
    with pytest.raises(TrainingError, match=r"out of memory, even with the 4 images .* in 4 parts.*--batch-size"):
        list(fit(state, loader(), lr_at, epochs=1))
    assert state.num_steps_done == 4


def test_another_error_is_not_taken_for_it():
    state = made()
    limit_images(state, 0, RuntimeError("shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        list(fit(state, loader(), lr_at, epochs=1))
