"""The header of a JPEG 2000 file, read before OpenJPEG allocates what it asks for: tiles, precincts and code-blocks without end.

ISO/IEC 15444-1, annexes A (codestream) and I (boxes).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from recog.core.errors import BadImage
from recog.core.images.image_file import REPLACE

_SOC, _SIZ, _COD, _COC, _SOT, _SOD, _EOC = 0xFF4F, 0xFF51, 0xFF52, 0xFF53, 0xFF90, 0xFF93, 0xFFD9
_MAX_MARKERS = 100_000
_FREE_PARTS = 256  # of a small image
_MIN_TILE_PIXELS = 4096  # on average; encoders write tiles of 256 x 256 or more
_MIN_PRECINCT_PIXELS = 512
_MIN_BLOCK_PIXELS = 256  # of a code-block; encoders write 32 x 32 or 64 x 64
_MAX_PACKETS = 2_000_000  # layers x precincts; OpenJPEG has a mark for each


def check_jpeg2000(data: bytes, size: tuple[int, int], name: str) -> None:
    """BadImage where the codestream is cut off or damaged, of another size than `size` = (width, height), or cut into dust."""
    try:
        segments = list(_segments(data, _find_codestream(data)))
        _check_size(segments, size, name)
        for marker, body in segments:
            if marker in (_COD, _COC):
                _check_coding(marker, body, size, name)
    except (struct.error, IndexError):
        raise BadImage(name, "the file is damaged or cut off: its JPEG 2000 header ends early", REPLACE) from None


def _find_codestream(data: bytes) -> int:
    """Where the codestream begins: at once, or in the box jp2c. IndexError where there is none."""
    if data[:2] == b"\xff\x4f":
        return 0
    position = 0
    for _ in range(_MAX_MARKERS):
        length, kind = struct.unpack_from(">I4s", data, position)
        header = 8
        if length == 1:
            (length,) = struct.unpack_from(">Q", data, position + 8)
            header = 16
        if kind == b"jp2c":
            return position + header
        if length < header:  # 0: to the end of the file
            break
        position += length
    raise IndexError(position)


def _segments(data: bytes, start: int) -> Iterator[tuple[int, bytes]]:
    """(marker, content) of the main header and the headers of all tile-parts, whose packets are passed over."""
    position = start + 2
    tile_part = 0
    for _ in range(_MAX_MARKERS):
        (marker,) = struct.unpack_from(">H", data, position)
        if marker == _EOC:
            return
        if marker == _SOD:
            (length,) = struct.unpack_from(">I", data, tile_part + 6)
            if length == 0:  # to the end of the file
                return
            if length < 14:
                break
            position = tile_part + length
            continue
        (length,) = struct.unpack_from(">H", data, position + 2)
        if length < 2:
            break
        tile_part = position if marker == _SOT else tile_part
        yield marker, data[position + 4 : position + 2 + length]
        position += 2 + length
    raise IndexError(position)


def _check_size(segments: list[tuple[int, bytes]], size: tuple[int, int], name: str) -> None:
    marker, body = segments[0]
    if marker != _SIZ:
        raise IndexError(0)
    _, right, bottom, left, top, tile_width, tile_height, *_ = struct.unpack_from(">H8I", body)
    if (right - left, bottom - top) != size:
        reason = f"it declares {size[0]} x {size[1]} pixels, but its codestream has {right - left} x {bottom - top}"
        raise BadImage(name, reason, REPLACE)
    if not tile_width or not tile_height:
        raise IndexError(0)
    num_tiles = -(-right // tile_width) * -(-bottom // tile_height)
    _check_number("tiles", num_tiles, _MIN_TILE_PIXELS, size, name)


def _check_coding(marker: int, body: bytes, size: tuple[int, int], name: str) -> None:
    """The style of coding, of all components or one, whose number then comes first in one byte, as there are at most 4."""
    if marker == _COC:
        has_precincts, num_layers, style = body[1] & 1, 1, body[2:]
    else:
        has_precincts, num_layers, style = body[0] & 1, struct.unpack_from(">H", body, 2)[0], body[5:]
    num_levels = style[0]
    block_pixels = 1 << (style[1] & 15) + (style[2] & 15) + 4
    _check_number("code-blocks", size[0] * size[1] // block_pixels, _MIN_BLOCK_PIXELS, size, name)
    num_precincts = num_levels + 1
    if has_precincts:
        num_precincts = 0
        for level in range(num_levels + 1):
            exponents, scale = style[5 + level], 1 << num_levels - level
            width, height = -(-size[0] // scale), -(-size[1] // scale)
            num_precincts += -(-width >> (exponents & 15)) * -(-height >> (exponents >> 4))
        _check_number("precincts", num_precincts, _MIN_PRECINCT_PIXELS, size, name)
    if num_layers * num_precincts > _MAX_PACKETS:
        raise BadImage(
            name, f"this JPEG 2000 has {num_layers * num_precincts:,} packets, a way to stall decoders", REPLACE
        )


def _check_number(what: str, number: int, min_pixels: int, size: tuple[int, int], name: str) -> None:
    if number > _FREE_PARTS + size[0] * size[1] // min_pixels:
        reason = f"this JPEG 2000 is cut into {number:,} {what}, a way to fill the memory"
        raise BadImage(name, reason, "Save it again with an image editor, or remove it.")
