"""What the service and its inference process send each other: MessagePack behind a length of 4 bytes, never pickle."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from recog.core.task import Task

LENGTH_BYTES = 4


class Image(msgspec.Struct, frozen=True, array_like=True):
    """One image of a batch: an encoded file, or the pixels uint8 [H, W, C] as the network takes them."""

    data: bytes
    name: str = ""
    is_pixels: bool = False
    is_explained: bool = False  # whether a map of where it counts is wanted


class Batch(msgspec.Struct, frozen=True, tag=True, array_like=True):
    number: int
    images: tuple[Image, ...]


class Baseline(msgspec.Struct, frozen=True, array_like=True):
    """What the evaluation in the bundle found, which the answers of the service can be compared with."""

    num_images: int
    class_shares: dict[str, float]  # predicted
    mean_confidence: float | None
    unknown_share: float | None


class Crop(msgspec.Struct, frozen=True, array_like=True):
    """Which part of an image the network sees, as Preprocess has it."""

    mode: str
    pct: float


class Ready(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """The bundle that an inference process has loaded, its reference images answered as when it was sealed."""

    digest: str
    task: Task
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]  # (H, W, C)
    has_sets: bool
    can_reject: bool
    engine: str
    architecture: str
    num_reference_images: int
    max_prob_difference: float | None
    baseline: Baseline | None
    report_html: bytes
    crop: Crop = Crop("center", 1.0)
    map_size: tuple[int, int] | None = None  # (h, w) of maps; None where the bundle carries no feature map

    @property
    def version(self) -> str:
        """The first 12 characters of the digest: another version of the bundle is another name."""
        return self.digest[:12]


class Failed(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Why a bundle cannot be served, and the exit code for it."""

    message: str
    exit_code: int


class Answered(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Per image of a batch an error by its place, or a row in the arrays, in order."""

    number: int
    errors: dict[int, str]
    logits: bytes  # float32 [B, K]
    probs: bytes  # float64 [B, K]
    preds: bytes  # bool [B, K]
    sets: bytes | None  # bool [B, K]
    is_unknown: bytes | None  # bool [B]
    unknown_scores: bytes | None  # float64 [B]
    duration_s: float  # of the network
    maps: dict[int, bytes] = {}  # by the place of the image: float32 [M, h, w]


FromWorker = Ready | Failed | Answered
_FROM_WORKER: msgspec.msgpack.Decoder[FromWorker] = msgspec.msgpack.Decoder(FromWorker)
_BATCH = msgspec.msgpack.Decoder(Batch)


def pack(message: msgspec.Struct) -> bytes:
    body = msgspec.msgpack.encode(message)
    return len(body).to_bytes(LENGTH_BYTES, "little") + body


def unpack_from_worker(body: bytes) -> FromWorker:
    return _FROM_WORKER.decode(body)


def unpack_batch(body: bytes) -> Batch:
    return _BATCH.decode(body)


def rows(data: bytes, dtype: Any, num_columns: int = 0) -> NDArray[Any]:
    """An array [B, `num_columns`], or [B], of what `tobytes` gave."""
    array = np.frombuffer(data, dtype)
    return array.reshape(-1, num_columns) if num_columns else array
