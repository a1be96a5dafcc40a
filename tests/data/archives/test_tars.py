"""Our readers against Python's own zipfile, tarfile and lzma as the second method."""

import bz2
import gzip
import io
import lzma
import os
import tarfile
import time

import numpy as np
import pytest
from containers import png

from recog.core.errors import DataError
from recog.data.archives.tars import XzReader, is_tar, read_tar
from recog.data.archives.zips import is_zip
from recog.data.sources import open_source

FILES = {f"{'deep/' * i}file {i} \N{CAT FACE}.bin": os.urandom(700 * i) for i in range(1, 30)}


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_tar_members_are_what_tarfile_reads(tmp_path, form, mode):
    path = tmp_path / "a.tar"
    files = {n: d for n, d in FILES.items() if form != tarfile.USTAR_FORMAT or len(n) < 90}
    with tarfile.open(path, mode, format=form) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), 1.5
            archive.addfile(info, io.BytesIO(data))
    content = read_tar(path)
    assert is_tar(path)
    assert content.has_end_mark
    assert {m.name: m.stored.read() for m in content.members} == files


PACKERS = {"tar": bytes, "tar.gz": gzip.compress, "tar.bz2": bz2.compress, "tar.xz": lzma.compress}


def tar_of(*names):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = 700
            archive.addfile(info, io.BytesIO(name.encode() * 700))
    return file.getvalue()


def names_in(path):
    return [member.name for member in read_tar(path).members]


@pytest.mark.parametrize("suffix", PACKERS)
def test_archives_that_were_joined_are_all_read(tmp_path, suffix):
    """As `cat a.tar.gz b.tar.gz` joins them; GNU tar reads them so with --ignore-zeros."""
    path = tmp_path / f"a.{suffix}"
    parts = [tar_of("a/1.png", "a/2.png"), tar_of("b/1.png"), tar_of("c/1.png")]
    path.write_bytes(b"".join(map(PACKERS[suffix], parts)))
    content = read_tar(path)
    assert [member.name for member in content.members] == ["a/1.png", "a/2.png", "b/1.png", "c/1.png"]
    assert [member.stored.read()[:1] for member in content.members] == [b"a", b"a", b"b", b"c"]
    assert open_source(path).notes == (f"a.{suffix} is 3 archives, joined one behind the other; all of them are read",)


@pytest.mark.parametrize("suffix", PACKERS)
@pytest.mark.parametrize("junk", [b"junk" * 300, b"x"])
def test_what_follows_the_end_mark_is_named(tmp_path, suffix, junk):
    path = tmp_path / f"a.{suffix}"
    archive = tar_of("a/1.png", "b/1.png")
    outside = (
        [PACKERS[suffix](archive) + junk] if suffix != "tar.bz2" else []
    )  # as bzip2, Python's reader stops before it
    for data in (*outside, PACKERS[suffix](archive + junk)):
        path.write_bytes(data)
        assert open_source(path).notes == (
            f"a.{suffix} goes on behind its end mark, at byte {len(archive):,}; that is not read",
        )


@pytest.mark.parametrize("suffix", PACKERS)
def test_zeros_behind_the_end_mark_are_padding(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(PACKERS[suffix](tar_of("a/1.png", "b/1.png") + bytes(1 << 20)))
    content = read_tar(path)
    assert (len(content.members), content.num_archives, content.end_of_archives) == (2, 1, None)


def test_the_name_of_a_member_counts_once_in_all_archives(tmp_path):
    path = tmp_path / "a.tar"
    path.write_bytes(tar_of("a/1.png") * 2)
    with pytest.raises(DataError, match="holds 'a/1.png' twice"):
        read_tar(path)


def test_padding_without_end_is_not_read(tmp_path):
    """1 TiB of zeros behind the archive, of a file with a hole."""
    path = tmp_path / "a.tar"
    path.write_bytes(tar_of("a/1.png"))
    os.truncate(path, 1 << 40)
    started = time.process_time()
    assert names_in(path) == ["a/1.png"]
    assert time.process_time() - started < 2


def test_what_is_no_archive(tmp_path):
    path = tmp_path / "x.tar"
    path.write_bytes(png(np.zeros((4, 4), np.uint8)))
    assert not is_tar(path)
    assert not is_zip(path)
    with pytest.raises(DataError, match="is a file; expected"):
        open_source(path)


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
