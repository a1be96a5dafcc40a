"""Reference images with their probabilities: what a bundle must still answer, wherever it is opened."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from recog.core.chance import uniforms
from recog.core.errors import BundleError
from recog.core.preprocess import Preprocess

REFERENCE = "reference.safetensors"
MAX_REFERENCE_IMAGES = 16
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
    if min(pixels.size) > wanted:
        scale = wanted / min(pixels.size)
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


def choose_reference(labels: Sequence[int], limit: int = MAX_REFERENCE_IMAGES) -> list[int]:
    """Indices of up to `limit` samples, the classes in turn, each class's samples in order."""
    seen: dict[int, int] = {}
    ranked = []
    for i, label in enumerate(labels):
        ranked.append((seen.get(label, 0), label, i))
        seen[label] = seen.get(label, 0) + 1
    return [i for _, _, i in sorted(ranked)[:limit]]


def write_reference(folder: Path, reference: Reference) -> None:
    tensors = {f"image_{i:02d}": np.frombuffer(data, dtype=np.uint8) for i, data in enumerate(reference.images)}
    if reference.images:
        tensors["probs"] = reference.probs.astype(np.float32)
    (folder / REFERENCE).write_bytes(save(tensors, metadata={"kind": reference.kind}))


def read_reference(folder: Path) -> Reference:
    try:
        tensors = load_file(folder / REFERENCE)
    except (OSError, SafetensorError) as error:
        raise BundleError(f"{folder / REFERENCE} cannot be read: {error}.") from None
    names = sorted(name for name in tensors if name.startswith("image_"))
    if not names:
        return Reference(kind="none", images=(), probs=np.zeros((0, 0), dtype=np.float32))
    probs = tensors.get("probs")
    if probs is None or probs.ndim != 2 or len(probs) != len(names):
        raise BundleError(f"{folder / REFERENCE} holds {len(names)} images but not as many rows of probs.")
    images = tuple(tensors[name].astype(np.uint8).tobytes() for name in names)
    return Reference(kind="images", images=images, probs=probs)
