"""`features.safetensors`: what a bundle keeps of its training images' features. Read only by what needs it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from recog.core.errors import BundleError, one_line
from recog.core.files import size_of_regular

FEATURES = "features.safetensors"
MAX_FEATURES_BYTES = 128 << 20


def write_features(folder: Path, tensors: Mapping[str, NDArray[Any]]) -> None:
    """Named arrays; their bytes follow from them alone, so that equal ones make equal files."""
    (folder / FEATURES).write_bytes(save({name: tensors[name] for name in sorted(tensors)}))


def read_features(folder: Path) -> dict[str, NDArray[Any]]:
    """What `write_features` wrote. BundleError where the file is anything else; its hash is the caller's to check."""
    path = folder / FEATURES
    try:
        num_bytes = size_of_regular(path, error=BundleError)
        if num_bytes > MAX_FEATURES_BYTES:
            raise BundleError(f"{path} has {num_bytes} bytes; at most {MAX_FEATURES_BYTES} are read.")
        with safe_open(path, framework="numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  it is no mapping
    except (OSError, TypeError, SafetensorError) as error:
        raise BundleError(f"{path} cannot be read: {one_line(error)}.") from None
