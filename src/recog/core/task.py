"""What is asked of an image: which one of the classes it is, or which of them it shows."""

from __future__ import annotations

from typing import Literal

Task = Literal[
    "multiclass", "multilabel"
]  # multiclass: softmax, one label; multilabel: a sigmoid per class, 0 to K labels
TASKS: tuple[Task, ...] = ("multiclass", "multilabel")
