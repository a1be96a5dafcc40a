"""recog: labelled images in, an image classifier that can be trusted and shipped out.

Importing recog imports no torch; each verb loads what it needs when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from recog.core.errors import missing_extra

if TYPE_CHECKING:
    from recog.recipes.compare import compare
    from recog.recipes.evaluate import evaluate
    from recog.recipes.scan import scan
    from recog.recipes.train import train
    from recog.recipes.verify import verify
    from recog.runtime.predictor import load

__version__ = "0.1.0"
__all__ = ["compare", "evaluate", "load", "scan", "train", "verify"]

_HOMES = {
    "compare": "recog.recipes.compare",
    "evaluate": "recog.recipes.evaluate",
    "load": "recog.runtime.predictor",
    "scan": "recog.recipes.scan",
    "train": "recog.recipes.train",
    "verify": "recog.recipes.verify",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'recog' has no attribute '{name}'")
    try:
        return getattr(importlib.import_module(_HOMES[name]), name)
    except ModuleNotFoundError as error:
        missing = missing_extra(error)
        if missing is None:
            raise
        raise missing from None


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
