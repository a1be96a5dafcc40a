"""JPEG photos decoded by Pillow and by simplejpeg (libjpeg-turbo both): images per second on one thread, and equal pixels.

pip install simplejpeg
python benchmarks/jpeg_decoding.py PHOTOS
"""

from __future__ import annotations

import importlib.metadata
import io
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import simplejpeg
from harness import write_result
from numpy.typing import NDArray
from PIL import Image, features

from recog.core.images.decode import decode_image

ROUNDS, NUM_PHOTOS = 5, 200
Decode = Callable[[bytes], NDArray[np.uint8]]


def by_pillow(data: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def by_simplejpeg(data: bytes) -> NDArray[np.uint8]:
    return simplejpeg.decode_jpeg(data)


def by_recog(data: bytes) -> NDArray[np.uint8]:
    """Pillow with the checks of limits, truncation and orientation."""
    return np.asarray(decode_image(data))


DECODERS: dict[str, Decode] = {"Pillow": by_pillow, "simplejpeg": by_simplejpeg, "recog (Pillow, checked)": by_recog}


def speeds(files: list[bytes]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {name: [] for name in DECODERS}
    for _ in range(ROUNDS):
        for name, decode in DECODERS.items():
            started = time.perf_counter()
            for data in files:
                decode(data)
            found[name].append(len(files) / (time.perf_counter() - started))
    return found


def main() -> None:
    paths = sorted(path for path in Path(sys.argv[1]).rglob("*") if path.suffix == ".jpg")[:NUM_PHOTOS]
    files = [path.read_bytes() for path in paths]
    pairs = [(by_pillow(data).astype(int), by_simplejpeg(data).astype(int)) for data in files]
    largest = [int(np.abs(a - b).max()) for a, b in pairs]
    rows = [
        f"| {name} | {statistics.median(rates):.0f} ({min(rates):.0f}-{max(rates):.0f}) |"
        for name, rates in speeds(files).items()
    ]
    equal = sum(gap == 0 for gap in largest)
    write_result(
        "jpeg_decoding",
        f"Decoding {len(files)} JPEG photos on one thread",
        f"- simplejpeg {importlib.metadata.version('simplejpeg')}; Pillow's libjpeg-turbo {features.version('libjpeg_turbo')}\n"
        f"- equal pixels: {equal} of {len(files)} photos; largest difference {max(largest)}\n\n"
        + "\n".join([f"| | images/s (range), n = {ROUNDS} |\n|---|---|", *rows]),
    )


if __name__ == "__main__":
    main()
