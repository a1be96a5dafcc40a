"""Sizes of the AV1 frames in an AVIF file, read from their sequence headers before a decoder allocates them.

ISO/IEC 14496-12 (boxes), ISO/IEC 23008-12 (iloc), AV1 Bitstream & Decoding Process Specification 5.3 and 5.5 (OBUs).
The decoder allocates what the sequence header states, not what the file states as the size of the image.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import islice

_CONTAINERS = frozenset({b"meta", b"moov", b"trak", b"mdia", b"minf", b"stbl"})
_MAX_BOXES = 10_000
_MAX_SPANS = 1_000  # of items and tracks; a grid of 8192 x 8192 pixels in tiles of 512 has 256
_MAX_OBUS = 1_000  # of one item; a still image has two or three
_SEQUENCE_HEADER = 1

Span = tuple[int, int]  # [start, end) within the file


def frame_sizes(data: bytes) -> list[tuple[int, int]]:
    """(width, height) of every AV1 sequence header in the items and at the start of the tracks of `data`, an AVIF file.

    Raises ValueError or struct.error where the file is malformed.
    """
    boxes = list(islice(_boxes(data, (0, len(data)), depth=0), _MAX_BOXES + 1))
    idat = next((start for kind, (start, _) in boxes if kind == b"idat"), 0)
    spans: list[Span] = []
    for kind, span in boxes:
        if kind == b"iloc":
            spans += islice(_item_spans(data, span, idat), _MAX_SPANS + 1)
        if kind in (b"stco", b"co64"):
            spans += _first_chunk(data, span, wide=kind == b"co64")
    if len(boxes) > _MAX_BOXES or len(spans) > _MAX_SPANS:
        raise ValueError(f"more than {_MAX_BOXES:,} boxes or {_MAX_SPANS:,} items")
    view = memoryview(data)
    return [size for start, end in spans for size in _sequence_sizes(view[start:end])]


def _boxes(data: bytes, span: Span, depth: int) -> Iterator[tuple[bytes, Span]]:
    """(kind, span of the content) of the boxes in `span` and in the containers among them."""
    at, end = span
    while at + 8 <= end:
        size, kind = struct.unpack_from(">I4s", data, at)
        head = 8
        if size == 1:
            (size,), head = struct.unpack_from(">Q", data, at + 8), 16
        last = end if size == 0 else min(at + size, end)
        if last < at + head:
            raise ValueError("a box ends before its header does")
        content = (at + head, last)
        yield kind, content
        if kind in _CONTAINERS and depth < len(_CONTAINERS):
            yield from _boxes(data, (content[0] + 4 * (kind == b"meta"), last), depth + 1)
        at = last


def _item_spans(data: bytes, span: Span, idat: int) -> Iterator[Span]:
    """The extents of all items that `iloc` locates. An item of another kind, such as EXIF, holds no sequence header."""
    at, _ = span
    version, sizes, more = data[at], data[at + 4], data[at + 5]
    widths = (sizes >> 4, sizes & 15, more >> 4, more & 15 if version else 0)  # offset, length, base offset, index

    def number(width: int) -> int:
        nonlocal at
        at += width
        if at > span[1]:
            raise ValueError("iloc is cut off")
        return int.from_bytes(data[at - width : at], "big")

    at += 6
    for _ in range(number(4 if version == 2 else 2)):
        number(4 if version == 2 else 2)  # the item's number
        method = number(2) & 15 if version else 0
        number(2)  # whether the data are in another file
        base = number(widths[2]) + (idat if method == 1 else 0)
        for _ in range(number(2)):
            number(widths[3])
            start, length = base + number(widths[0]), number(widths[1])
            yield start, start + length if length else len(data)


def _first_chunk(data: bytes, span: Span, *, wide: bool) -> Iterator[Span]:
    count = int.from_bytes(data[span[0] + 4 : span[0] + 8], "big")
    if count:
        yield struct.unpack_from(">Q" if wide else ">I", data, span[0] + 8)[0], len(data)


def _sequence_sizes(item: memoryview) -> Iterator[tuple[int, int]]:
    at = 0
    for _ in range(_MAX_OBUS):
        if at >= len(item) or item[at] & 0x81:  # the forbidden and the reserved bit: no OBU, or the end of them
            return
        kind, has_extension, has_size = item[at] >> 3 & 15, item[at] >> 2 & 1, item[at] >> 1 & 1
        at += 1 + has_extension
        size, length = _leb128(item, at) if has_size else (len(item) - at, 0)
        at += length
        if kind == _SEQUENCE_HEADER:
            yield _sequence_size(_Bits(item[at : at + size]))
        at += size


def _leb128(data: memoryview, at: int) -> tuple[int, int]:
    """(value, number of bytes)"""
    value = 0
    for i, byte in enumerate(data[at : at + 8]):
        value |= (byte & 0x7F) << 7 * i
        if not byte & 0x80:
            return value, i + 1
    raise ValueError("the size of an OBU is malformed")


class _Bits:
    """Reads whole numbers of any number of bits; zeros behind the end."""

    def __init__(self, data: memoryview) -> None:
        self._value, self._left = int.from_bytes(data[:256], "big"), 8 * min(len(data), 256)

    def take(self, count: int) -> int:
        self._left -= count
        shifted = self._value >> self._left if self._left >= 0 else self._value << -self._left
        return shifted & ((1 << count) - 1)

    def take_uvlc(self) -> None:
        zeros = 0
        while zeros < 32 and self._left > 0 and not self.take(1):
            zeros += 1
        self.take(zeros)


def _sequence_size(bits: _Bits) -> tuple[int, int]:
    """max_frame_width and max_frame_height of sequence_header_obu()."""
    bits.take(4)  # seq_profile, still_picture
    if bits.take(1):  # reduced_still_picture_header
        bits.take(5)
    else:
        delay_bits = 0
        if bits.take(1):  # timing_info_present_flag
            bits.take(64)
            if bits.take(1):
                bits.take_uvlc()
            if bits.take(1):  # decoder_model_info_present_flag
                delay_bits = bits.take(5) + 1
                bits.take(42)
        has_display_delay = bits.take(1)
        for _ in range(bits.take(5) + 1):  # operating points
            bits.take(12)
            if bits.take(5) > 7:
                bits.take(1)
            if delay_bits and bits.take(1):
                bits.take(2 * delay_bits + 1)
            if has_display_delay and bits.take(1):
                bits.take(4)
    width_bits, height_bits = bits.take(4) + 1, bits.take(4) + 1
    return bits.take(width_bits) + 1, bits.take(height_bits) + 1
