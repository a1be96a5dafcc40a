"""Error types and exit codes. Each message states what came, what was expected and how to fix it."""

from __future__ import annotations

_MAX_MESSAGE = 900


class RecogError(Exception):
    """Base of every error that a user can fix; `exit_code` is what the command line ends with."""

    exit_code = 1


class ConfigError(RecogError):
    """A setting, option or name is wrong."""

    exit_code = 2


class DataError(RecogError):
    """The images or labels cannot be used as they are."""

    exit_code = 3


class BadImage(DataError):  # noqa: N818  the field's word for it; it is raised, counted and listed
    """One file that is not a usable image: its name, why, and what to do about it."""

    def __init__(self, name: str, reason: str, remedy: str) -> None:
        super().__init__(f"{name}: {reason}. {remedy}")
        self.name = name
        self.reason = reason
        self.remedy = remedy


class ShapeError(DataError):
    """An array has another shape or dtype than the one wanted."""


class BundleError(RecogError):
    """A bundle is missing, damaged, newer than this release, or disagrees with itself.

    The message is cut where what a file holds makes it too long to read.
    """

    exit_code = 4

    def __init__(self, message: str) -> None:
        super().__init__(message if len(message) <= _MAX_MESSAGE else f"{message[:_MAX_MESSAGE]}...")


class TrainingError(RecogError):
    """Training cannot continue: non-finite loss, no steps, diverged."""

    exit_code = 5


class PeerError(TrainingError):
    """Another of several training processes failed first and reports why; this one ends silently."""


class MissingExtraError(RecogError):
    """An optional part of recog is not installed."""

    exit_code = 6


class CheckpointError(RecogError):
    """A run cannot be continued: no checkpoint of it can be used, or it is finished, or another process trains it."""

    exit_code = 7


class TrainingStopped(RecogError):  # noqa: N818  it is no failure
    """Training was asked to stop, and did after a checkpoint; `exit_code` is 128 and the signal's number."""

    exit_code = 130

    def __init__(self, message: str, *, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class DiskError(RecogError):
    """What must be kept cannot be written."""

    exit_code = 74  # EX_IOERR of sysexits.h


def one_line(error: Exception) -> str:
    """The message of another library's error on one line of at most 300 characters; it may quote a file's content."""
    text = " ".join("".join(c if c.isprintable() else " " for c in str(error)).split())
    return text if len(text) <= 300 else f"{text[:300]}..."


_EXTRA_OF = {
    "torch": "train",
    "torchvision": "train",
    "timm": "train",
    "onnx": "train",
    "onnxscript": "train",
    "sklearn": "train",
    "tensorboard": "train",
    "pyarrow": "data",
    "openvino": "fast",
    **dict.fromkeys(("optuna", "sqlalchemy"), "tune"),
    **dict.fromkeys(("fastapi", "uvicorn", "h11", "starlette", "python_multipart", "prometheus_client"), "serve"),
    "matplotlib": "plots",
    "captum": "explain",
}


def missing_extra(error: ModuleNotFoundError) -> MissingExtraError | None:
    """What to install for a module that is not there; None where it is of no extra, so that the error is a real one."""
    module = (error.name or "").partition(".")[0]
    extra = _EXTRA_OF.get(module)
    if extra is None:
        return None
    return MissingExtraError(f"this needs {module}, which is not installed; run: pip install 'recog[{extra}]'")
