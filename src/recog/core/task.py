"""What is asked of an image: which one of the classes it is, or which of them it shows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

Task = Literal["multiclass", "multilabel"]  # softmax, one label; a sigmoid per class, 0 to K labels
TASKS: tuple[Task, ...] = ("multiclass", "multilabel")


def joined_task(tasks: Iterable[Task | None]) -> Task:
    """Of data whose parts are of `tasks`: multilabel if one of them is. None: a part that leaves it open."""
    return max((task for task in tasks if task is not None), key=TASKS.index, default="multiclass")
