"""Tensor files of a bundle: reference images with their probabilities, and features of training images."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from recog.core.chance import uniforms
from recog.core.errors import BundleError, one_line
from recog.core.files import size_of_regular
from recog.core.preprocess import Preprocess

REFERENCE = "reference.safetensors"
MAX_REFERENCE_IMAGES = 16
MAX_REFERENCE_BYTES = 256 << 20  # 16 of the largest images that are decoded, as JPEG
KINDS = ("images", "synthetic", "none")
_SMALL_PX = 64  # up to here PNG is smaller than JPEG and keeps every pixel


@dataclass(frozen=True, kw_only=True)
class Reference:
    """Encoded image files and probs float32 [N, K]; `kind` is 'images', 'synthetic' or 'none' (N = 0)."""

    kind: str
    images: tuple[bytes, ...]
    probs: NDArray[np.float32]


def encode_reference(image: NDArray[np.uint8], preprocess: Preprocess) -> bytes:
    """An image uint8 [H, W, C] as a file without metadata: PNG up to 64 px, else JPEG, reduced to what Preprocess needs."""
    pixels = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
    wanted = 2 * max(preprocess.image_size)
    # a panorama's shorter side may be small already: its area is bounded too
    scale = min(wanted / min(pixels.size), math.sqrt(4 * wanted**2 / (pixels.width * pixels.height)))
    if scale < 1:
        size = (max(1, round(pixels.width * scale)), max(1, round(pixels.height * scale)))
        pixels = pixels.resize(size, Image.Resampling.BICUBIC)
    file = io.BytesIO()
    if max(pixels.size) <= _SMALL_PX:
        pixels.save(file, "PNG")
    else:
        pixels.save(file, "JPEG", quality=90)
    return file.getvalue()


def synthetic_images(preprocess: Preprocess, *, seed: int) -> list[NDArray[np.uint8]]:
    """16 smooth random patterns uint8 [H, W, C], for bundles whose data must not leave: 4 x 4 random colours, enlarged."""
    height, width = preprocess.image_size
    draws = uniforms(seed, 0, np.arange(MAX_REFERENCE_IMAGES), "reference", 48)
    patterns = []
    for row in (draws * 256).astype(np.uint8).reshape(-1, 4, 4, 3):
        grid = Image.fromarray(row).resize((width, height), Image.Resampling.BICUBIC)
        image = np.asarray(grid)
        patterns.append(image if preprocess.channels == 3 else image[:, :, :1])
    return patterns


def write_reference(folder: Path, reference: Reference) -> None:
    tensors = {f"image_{i:02d}": np.frombuffer(data, dtype=np.uint8) for i, data in enumerate(reference.images)}
    if reference.images:
        tensors["probs"] = reference.probs.astype(np.float32)
    (folder / REFERENCE).write_bytes(save(tensors, metadata={"kind": reference.kind}))


def read_reference(folder: Path) -> Reference:
    """What `write_reference` wrote. BundleError where the file is anything else."""
    path = folder / REFERENCE
    kind, tensors = _read_tensors(path, max_bytes=MAX_REFERENCE_BYTES)
    probs = tensors.pop("probs", np.zeros((0, 0), dtype=np.float32))
    names = sorted(tensors)
    if kind not in KINDS or (kind == "none") != (not names) or len(names) > MAX_REFERENCE_IMAGES:
        raise BundleError(f"{path} is of the kind {kind!r} and holds {len(names)} images, which does not fit together.")
    if any(tensor.dtype != np.uint8 or tensor.ndim != 1 for tensor in tensors.values()):
        raise BundleError(f"{path} holds tensors that are not image files.")
    if probs.ndim != 2 or len(probs) != len(names) or probs.dtype != np.float32:
        raise BundleError(f"{path} holds {len(names)} images but not as many rows of probs.")
    return Reference(kind=kind, images=tuple(tensors[name].tobytes() for name in names), probs=probs)


FEATURES = "features.safetensors"
MAX_FEATURES_BYTES = 128 << 20


def write_features(folder: Path, tensors: Mapping[str, NDArray[Any]]) -> None:
    """Named arrays; their bytes follow from them alone, so that equal ones make equal files."""
    (folder / FEATURES).write_bytes(save({name: tensors[name] for name in sorted(tensors)}))


def read_features(folder: Path) -> dict[str, NDArray[Any]]:
    """What `write_features` wrote. BundleError where the file is anything else; its hash is the caller's to check."""
    return _read_tensors(folder / FEATURES, max_bytes=MAX_FEATURES_BYTES)[1]


def _read_tensors(path: Path, *, max_bytes: int) -> tuple[str, dict[str, NDArray[Any]]]:
    """(the kind in the metadata, if any, arrays by name). BundleError where the file is larger or no file of tensors."""
    try:
        num_bytes = size_of_regular(path, error=BundleError)
        if num_bytes > max_bytes:
            raise BundleError(f"{path} has {num_bytes} bytes; at most {max_bytes} are read.")
        with safe_open(path, framework="numpy") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  it is no mapping
            return (file.metadata() or {}).get("kind", ""), tensors
    except (OSError, TypeError, SafetensorError) as error:
        raise BundleError(f"{path} cannot be read: {one_line(error)}.") from None
