"""Python's own lzma as the second method."""

import io
import lzma
import os

import pytest

from recog.core.errors import DataError
from recog.data.archives.tars import XzReader

DATA = os.urandom(3_000_000) + bytes(2_000_000)


def read(path, **limit):
    with io.BufferedReader(XzReader(path, **limit)) as file:
        return file.read()


@pytest.mark.parametrize("padding", [b"", bytes(4), bytes(4 << 18)])
def test_all_streams_are_read_whatever_lies_between(tmp_path, padding):
    path = tmp_path / "x.xz"
    path.write_bytes(lzma.compress(DATA) + padding + lzma.compress(b"") + lzma.compress(DATA[:1000]) + padding)
    assert read(path) == DATA + DATA[:1000]
    if not padding:  # of which Python's own reader takes none, though the format has it, in multiples of four zeros
        assert lzma.decompress(path.read_bytes()) == DATA + DATA[:1000]


def test_what_is_cut_off_or_damaged_is_an_error(tmp_path):
    path, packed = tmp_path / "x.xz", lzma.compress(DATA)
    path.write_bytes(packed[:-20])
    with pytest.raises(EOFError):
        read(path)
    path.write_bytes(packed[:1000] + b"\xff" * 100 + packed[1100:])
    with pytest.raises(lzma.LZMAError):
        read(path)


def test_a_dictionary_beyond_the_limit_is_refused(tmp_path):
    path = tmp_path / "x.xz"
    path.write_bytes(lzma.compress(DATA, preset=6))  # a dictionary of 8 MiB, by xz's manual page
    assert read(path, max_memory_bytes=9 << 20) == DATA
    with pytest.raises(DataError, match="needs more than 7 MiB of memory to be unpacked.*xz -9 or less"):
        read(path, max_memory_bytes=7 << 20)
