"""All that training changes, as one nested state, and back: what a checkpoint holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from recog.training.state import TrainState

_COUNTED = (
    "epoch",
    "step",
    "num_steps_done",
    "epoch_loss",
    "accumulation",  # it grows where memory runs out
    "num_skipped",
    "skipped_in_epoch",
    "skipped_in_a_row",
)


def take_snapshot(state: TrainState) -> dict[str, Any]:
    """Everything that decides the rest of a run: what `restore_snapshot` needs to go on as if nothing had happened.

    The tensors are the live ones, not copies.
    """
    device = state.classifier.device
    return {
        "weights": state.classifier.state_dict(),
        "average": None if state.ema is None else state.ema.module.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "scaler": state.scaler.state_dict(),
        "rng": torch.get_rng_state(),  # of dropout and drop-path; what touches the data is counted, not drawn
        "device_rng": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        "cursor": {name: getattr(state, name) for name in _COUNTED},
    }


def restore_snapshot(state: TrainState, saved: Mapping[str, Any]) -> None:
    """Put `saved` into a `state` that was built by the same settings, and torch's random state where it was."""
    state.classifier.load_state_dict(saved["weights"])
    if state.ema is not None:
        state.ema.module.load_state_dict(saved["average"])
    state.optimizer.load_state_dict(saved["optimizer"])
    state.scaler.load_state_dict(saved["scaler"])
    torch.set_rng_state(saved["rng"])
    if saved["device_rng"] is not None and state.classifier.device.type == "cuda":
        torch.cuda.set_rng_state(saved["device_rng"], state.classifier.device)
    for name in _COUNTED:
        setattr(state, name, saved["cursor"][name])
