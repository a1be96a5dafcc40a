"""Refuses a stranger's ONNX file by its graph, before ONNX Runtime opens it.

recog exports networks without branches, loops, custom operators, functions or external files. A file that has one of them was
not written by recog, and could hang, read other files or run other code. The protobuf fields are read as onnx.proto numbers
them, so that answering does not need the `onnx` package; of the weights only the lengths are read.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from pathlib import Path

from recog.core.errors import BundleError
from recog.core.files import open_regular

MAX_BYTES = 2**31 - 1  # protobuf's own limit
MAX_FIELDS = 500_000  # half a second; a network of 2,000 operators has some 60,000

# What to do with a field, by message and number: descend into the message of that name, or refuse for that reason.
# Fields that are not listed are passed over; as graphs within nodes are refused, nothing here is recursive.
_SUBGRAPH = "control flow (a graph within a node)"
_SPARSE = "sparse tensors"
_EXTERNAL = "weights in another file"
_DESCEND = {
    "model": {7: "graph"},
    "graph": {1: "node", 5: "tensor"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 10: "tensor"},
    "tensor": {},
}
_REFUSE = {
    "model": {20: "training information", 25: "functions of its own"},
    "graph": {15: _SPARSE},
    "node": {7: "operators outside the ONNX standard"},
    "attribute": {6: _SUBGRAPH, 11: _SUBGRAPH, 21: "functions of its own", 22: _SPARSE, 23: _SPARSE},
    "tensor": {13: _EXTERNAL, 14: _EXTERNAL},
}
_HARMLESS = {("node", 7): (b"", b"ai.onnx"), ("tensor", 14): (0,)}  # the standard's domain, in both its spellings; here

_METADATA = ("model", 14)  # entries of key (1) and value (2)

_VARINT, _FIXED_64, _BYTES, _FIXED_32 = 0, 1, 2, 5  # wire types; 3 and 4, groups, are not used by ONNX


def check_graph(path: Path) -> dict[str, str]:
    """The metadata of the ONNX file at `path`; BundleError unless it has plain operators only and holds all its weights."""
    try:
        with open_regular(path, error=BundleError) as file:
            size = os.fstat(file.fileno()).st_size
            if not 0 < size <= MAX_BYTES:
                raise ValueError(f"it has {size:,} bytes")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _check_message(data)
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror or error}.") from None
    except ValueError as error:
        raise BundleError(f"{path} is not an ONNX file that recog exported: {error}.") from None


def _check_message(data: mmap.mmap) -> dict[str, str]:
    has_graph = False
    metadata: dict[str, str] = {}
    pending = [("model", 0, len(data))]
    num_fields = 0
    while pending:
        message, start, end = pending.pop()
        descend, refuse = _DESCEND[message], _REFUSE[message]
        for number, value in _fields(data, start, end):
            num_fields += 1
            if num_fields > MAX_FIELDS:
                raise ValueError(f"it has more than {MAX_FIELDS:,} fields")
            if (message, number) == _METADATA and isinstance(value, range):
                metadata |= [_entry(data, value)]
            elif number in descend and isinstance(value, range):
                has_graph = True
                pending.append((descend[number], value.start, value.stop))
            elif number in refuse:
                content = data[value.start : value.stop] if isinstance(value, range) else value
                if content not in _HARMLESS.get((message, number), ()):
                    raise ValueError(f"it holds {refuse[number]}")
    if not has_graph:
        raise ValueError("it holds no graph")
    return metadata


def _entry(data: mmap.mmap, place: range) -> tuple[str, str]:
    """Key and value of one entry of the metadata."""
    texts = {number: value for number, value in _fields(data, place.start, place.stop) if isinstance(value, range)}
    key, value = (data[texts[n].start : texts[n].stop].decode() if n in texts else "" for n in (1, 2))
    return key, value


def _fields(data: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int | range]]:
    """Number and value of each field in data[start:end]: an integer, or where its bytes lie. ValueError where malformed."""
    at = start
    while at < end:
        tag, at = _varint(data, at, end)
        number, wire_type = (tag & 0xFFFFFFFF) >> 3, tag & 7
        value: int | range = 0
        if wire_type == _VARINT:
            value, at = _varint(data, at, end)
        elif wire_type == _BYTES:
            length, at = _varint(data, at, end)
            value = range(at, at + length)
            at += length
        elif wire_type in (_FIXED_64, _FIXED_32):
            at += 8 if wire_type == _FIXED_64 else 4
        else:
            raise ValueError("its bytes are not protobuf")
        if at > end or not number:
            raise ValueError("its bytes are not protobuf")
        yield number, value


def _varint(data: mmap.mmap, at: int, end: int) -> tuple[int, int]:
    """The integer at `at` and where the next byte lies: 7 bits a byte, the lowest first, the 8th set where more follow."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("its bytes are not protobuf")
