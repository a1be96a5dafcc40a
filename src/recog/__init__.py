"""recog: labelled images in, an image classifier that can be trusted and shipped out.

Importing recog imports no torch; each verb loads what it needs when it is first used.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

from recog.core.errors import missing_extra
from recog.core.version import __version__ as __version__

if TYPE_CHECKING:
    from recog.runtime.predictor import load
    from recog.runtime.verify import verify
    from recog.verbs.compare import compare
    from recog.verbs.evaluate import evaluate
    from recog.verbs.scan import scan
    from recog.verbs.train import train

# Read when onnxruntime and huggingface_hub are imported, always after this module. Without the first,
# onnxruntime writes a device id and a database of events into the user's cache and sends them where it can.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

__all__ = ["compare", "evaluate", "load", "scan", "train", "verify"]

_HOMES = {
    "compare": "recog.verbs.compare",
    "evaluate": "recog.verbs.evaluate",
    "load": "recog.runtime.predictor",
    "scan": "recog.verbs.scan",
    "train": "recog.verbs.train",
    "verify": "recog.runtime.verify",
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
