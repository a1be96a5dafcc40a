"""Colour of 16 bits, of which a device fills 12: every container against the scale computed in integers."""

import struct
import zlib

import numpy as np
import pytest
from picture_files import png

from recog.core.errors import BadImage
from recog.core.images.decode import decode, grey16_level, probe

HIGHEST = 4000
VALUES = np.random.default_rng(0).integers(0, HIGHEST + 1, (300, 21, 3), dtype=np.uint16)
VALUES[7, 5, 1] = HIGHEST


def scaled(white):
    """round(255 * value / white), halves upwards, at most 255."""
    return np.minimum((VALUES.astype(np.int64) * 510 + white) // (2 * white), 255).astype(np.uint8)


def tiff(values, *, order="<", compression=1, extra_sample=None):
    """One strip; the bit depths and the strip stand behind the directory."""
    height, width, bands = values.shape
    strip = values.astype(f"{order}u2").tobytes()
    strip = zlib.compress(strip) if compression == 8 else strip
    entries = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, bands, None), (259, 4, 1, compression), (262, 4, 1, 2)]
    entries += [(273, 4, 1, None), (277, 4, 1, bands), (278, 4, 1, height), (279, 4, 1, len(strip))]
    entries += [] if extra_sample is None else [(338, 4, 1, extra_sample)]
    start = 8 + 2 + 12 * len(entries) + 4
    places = {258: start, 273: start + 2 * bands}
    table = b"".join(struct.pack(f"{order}HHII", t, k, n, places.get(t, v)) for t, k, n, v in entries)
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(entries))
    return head + table + bytes(4) + struct.pack(f"{order}{bands}H", *[16] * bands) + strip


FOURTH = np.concatenate([VALUES, VALUES[..., :1]], axis=2)
FILES = {
    "TIFF, little-endian": tiff(VALUES),
    "TIFF, big-endian": tiff(VALUES, order=">"),
    "TIFF, deflated": tiff(VALUES, compression=8),
    "TIFF, deflated, big-endian": tiff(VALUES, order=">", compression=8),
    "TIFF, a fourth band": tiff(FOURTH, extra_sample=0),
    "PNG": png((21, 300), 16, 2, [row.astype(">u2").tobytes() for row in VALUES]),
}


@pytest.mark.parametrize("name", FILES)
def test_one_scale_for_all_values(name):
    data = FILES[name]
    assert grey16_level(data) == HIGHEST
    assert np.array_equal(decode(data, grey16_max=4095), scaled(4095))
    assert np.array_equal(decode(data, grey16_max=2000), scaled(2000))


@pytest.mark.parametrize("name", FILES)
def test_full_scale_keeps_the_upper_bits(name):
    assert np.array_equal(decode(FILES[name]), (VALUES >> 8).astype(np.uint8))


def test_the_file_may_be_a_path_or_an_open_file(tmp_path):
    path = tmp_path / "a.tif"
    path.write_bytes(FILES["TIFF, deflated"])
    assert np.array_equal(decode(path, grey16_max=4095), scaled(4095))
    with path.open("rb") as file:
        assert np.array_equal(decode(file, grey16_max=4095), scaled(4095))


def test_transparency_has_no_such_scale():
    data = tiff(FOURTH, extra_sample=2)
    assert decode(data).shape == (300, 21, 3)
    with pytest.raises(
        BadImage, match="16-bit colour with transparency, to which the scale 0 to 4095 cannot be applied"
    ):
        decode(data, grey16_max=4095)


@pytest.mark.parametrize(
    ("data", "count"),
    [(FILES["TIFF, a fourth band"], 1), (FILES["TIFF, deflated"], 0), (tiff(FOURTH, extra_sample=2), 0)],
)
def test_bands_without_a_meaning_are_counted(data, count):
    assert probe(data).num_dropped_bands == count
