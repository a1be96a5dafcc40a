"""Mutations of valid image files that hypothesis chooses: an image or a clear error, no crash, and memory that does not grow."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from image_bytes import encode, photo

from recog.core.errors import BadImage
from recog.core.preprocess import Preprocess

VALID_FILES = (
    encode(photo(), "JPEG", quality=85),
    encode(photo(), "JPEG", quality=85, progressive=True),
    encode(photo(), "PNG"),
    encode(photo().quantize(32), "GIF"),
    encode(photo(), "WEBP", quality=80),
    encode(photo(), "TIFF"),
    encode(photo(), "BMP"),
    encode(photo(), "TIFF", compression="tiff_lzw"),
)
EXTREMES = (
    b"\x00",
    b"\xff",
    b"\x7f\xff",
    b"\xff\xff",
    b"\x00\x00\x00\x00",
    b"\x7f\xff\xff\xff",
    b"\xff" * 4,
    b"\x80\0\0\0",
)
MAX_GROWTH_MIB = 32
PREPROCESS = Preprocess(image_size=(32, 32))
common = {"deadline": 10_000, "derandomize": True, "database": None, "suppress_health_check": list(HealthCheck)}


@st.composite
def mutated(draw):
    """A valid file after one to six changes: bytes written, removed, repeated, inserted, exchanged, or its end cut off."""
    data = bytearray(draw(st.sampled_from(VALID_FILES)))
    for _ in range(draw(st.integers(1, 6))):
        start = draw(st.integers(0, max(0, len(data) - 1)))
        length = draw(st.integers(1, 64))
        match draw(st.sampled_from(["write", "extreme", "remove", "repeat", "insert", "exchange", "cut", "number"])):
            case "write":
                data[start : start + 1] = draw(st.binary(min_size=1, max_size=1))
            case "extreme":
                value = draw(st.sampled_from(EXTREMES))
                data[start : start + len(value)] = value
            case "remove":
                del data[start : start + length]
            case "repeat":
                data[start:start] = data[start : start + length] * draw(st.integers(1, 20))
            case "insert":
                data[start:start] = draw(st.binary(min_size=1, max_size=64))
            case "exchange":
                other = draw(st.integers(0, max(0, len(data) - 1)))
                data[start : start + length], data[other : other + length] = (
                    data[other : other + length],
                    data[start : start + length],
                )
            case "cut":
                del data[start:]
            case "number":
                data[start : start + 4] = struct.pack(
                    draw(st.sampled_from("<>")) + "I", draw(st.integers(0, 2**32 - 1))
                )
    return bytes(data)


def read(data):
    """Outcome: pixels of the size wanted, or a BadImage that names the file, the reason and what to do."""
    error = None
    try:
        pixels = PREPROCESS.read(data, name="upload.jpg")
    except BadImage as raised:
        error = raised
    if error is None:
        assert (pixels.shape, pixels.dtype) == ((32, 32, 3), np.uint8)
        return
    assert error.name == "upload.jpg"
    assert error.reason
    assert error.remedy.endswith(".")
    assert not re.search(r"Traceback|0x[0-9a-f]{8}|/recog/", str(error))


@settings(max_examples=100, **common)
@given(data=mutated())
def test_mutations(data):
    read(data)


def resident_mib():
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024


@pytest.mark.slow
def test_two_thousand_mutations_leave_no_memory_behind():
    for data in VALID_FILES * 20:
        read(data)
    before = resident_mib()
    test_all()
    assert resident_mib() - before <= MAX_GROWTH_MIB


@settings(max_examples=2000, **common)
@given(data=mutated())
def test_all(data):
    read(data)


test_all.__test__ = False  # run by the test above
