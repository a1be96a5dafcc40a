"""What a run writes while it goes: metrics.jsonl, TensorBoard events, debug.log. A journal that fails never stops the run."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

logger = logging.getLogger("recog")

METRICS = "metrics.jsonl"
TENSORBOARD = "tensorboard"
DEBUG_LOG = "debug.log"


class Journal:
    """Appends records to a run folder; a context manager that closes what it opened."""

    def __init__(self, run: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter  # half a second to import; only training needs it

        self._metrics = (run / METRICS).open("a", encoding="utf-8")
        self._writer: SummaryWriter = SummaryWriter(str(run / TENSORBOARD))
        self._handler = logging.FileHandler(run / DEBUG_LOG, encoding="utf-8")
        self._handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        self._level = logger.level
        logger.setLevel(logging.DEBUG)
        logger.addHandler(self._handler)

    def record(self, kind: str, step: int, values: Mapping[str, float | int | str]) -> None:
        """One line of metrics.jsonl, and each number as the scalar `kind/name` at `step`."""
        try:
            self._metrics.write(json.dumps({"kind": kind, "step": step, **values}, allow_nan=False) + "\n")
            self._metrics.flush()
            for name, value in values.items():
                if isinstance(value, (int, float)):
                    self._writer.add_scalar(f"{kind}/{name}", value, step)
        except (OSError, ValueError) as error:
            logger.warning("a record could not be written: %s", error)

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._metrics.close()
        self._writer.close()
        logger.removeHandler(self._handler)
        logger.setLevel(self._level)
        self._handler.close()
