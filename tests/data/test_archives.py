"""Our readers against Python's own zipfile and tarfile as the second method."""

import io
import os
import tarfile
import zipfile
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest
from containers import labelled_pngs, png, write_tar, write_tar_gz, write_zip

from recog.core.errors import BadImage, DataError
from recog.data.archives import tar_tree, zip_tree
from recog.data.members import ArchiveLimits, clean_name
from recog.data.sources import open_source
from recog.data.tars import is_tar, read_tar
from recog.data.zips import is_zip, read_zip

FILES = {f"{'deep/' * i}file {i} \N{CAT FACE}.bin": os.urandom(700 * i) for i in range(1, 30)}


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("prefix", [b"", b"#!/bin/sh\nexec unzip\n"])
def test_zip_members_are_what_zipfile_reads(tmp_path, method, prefix):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in FILES.items():
            archive.writestr(name, data)
        archive.comment = b"PK\x03\x04 a comment"
        archive.mkdir("empty")
    path.write_bytes(prefix + path.read_bytes())
    entries = read_zip(path)
    assert {e.name: e.member.read() for e in entries if e.member} == FILES
    assert [e.name for e in entries if e.is_folder] == ["empty"]


def test_zip_with_64_bit_fields(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive, archive.open("big.bin", "w", force_zip64=True) as member:
        member.write(b"x" * 1000)
    assert [e.member.read() for e in read_zip(path)] == [b"x" * 1000]


def test_zip_methods_and_passwords_are_refused_by_name(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("a/1.png", b"x")
    assert [e.refusal for e in read_zip(path)] == ["packed by method 14; only stored and deflated members are read"]


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


def test_an_archive_without_its_end_mark_is_read_with_a_note(tmp_path):
    path = write_tar(labelled_pngs(2), tmp_path / "t")
    size = max(m.stored.offset + m.stored.size for m in read_tar(path).members)
    path.write_bytes(path.read_bytes()[: -(-size // 512) * 512])
    assert "no end mark" in open_source(path).notes[0]


def test_members_cross_to_other_processes_without_open_handles(tmp_path):
    for write in (write_zip, write_tar):
        sample = open_source(write(labelled_pngs(1), tmp_path / write.__name__)).samples[0]
        assert ForkingPickler.loads(ForkingPickler.dumps(sample.source)).read() == sample.source.read()


def test_the_spool_of_a_compressed_tar_goes_with_its_dataset(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    data = open_source(write_tar_gz(labelled_pngs(1), tmp_path / "t"))
    assert len(list(tmp_path.glob("recog-spool-*"))) == 1
    assert data.samples[0].source.read().startswith(b"\x89PNG")
    del data
    assert not list(tmp_path.glob("recog-spool-*"))


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/x", "C:\\x", "c:/x", "a\0b", "..\\x", "\\\\host\\x"])
def test_names_that_point_out_are_refused(tmp_path, name):
    with pytest.raises(DataError, match="points out of the archive"):
        clean_name(name, tmp_path)


def test_limits_at_and_above(tmp_path):
    path = write_zip(labelled_pngs(2), tmp_path / "z")  # 6 members
    assert len(read_zip(path, ArchiveLimits(max_entries=6))) == 6
    with pytest.raises(DataError, match="6 entries"):
        read_zip(path, ArchiveLimits(max_entries=5))
    total = sum(e.member.size for e in read_zip(path))
    read_zip(path, ArchiveLimits(max_total_bytes=total))
    with pytest.raises(DataError, match="bytes unpacked; at most"):
        read_zip(path, ArchiveLimits(max_total_bytes=total - 1))
    tree = zip_tree(path, ArchiveLimits(max_member_bytes=10))
    assert {e.reason for e in tree.exclusions} == {"too large for an image"}
    path = write_tar(labelled_pngs(2), tmp_path / "t")
    read_tar(path, ArchiveLimits(max_entries=6))
    with pytest.raises(DataError, match="6 entries; at most 5"):
        read_tar(path, ArchiveLimits(max_entries=5))
    tree = tar_tree(path, read_tar(path, ArchiveLimits(max_member_bytes=10)))
    assert {e.reason for e in tree.exclusions} == {"too large for an image"}


@pytest.mark.parametrize("write", [write_zip, write_tar, write_tar_gz])
def test_any_damaged_byte_is_an_error_or_harmless(tmp_path, write):
    """Flipped bytes end in DataError or BadImage, or change nothing that is read; never in another exception."""
    images = labelled_pngs(1, size=4)
    path = write(images, tmp_path / "x")
    data = path.read_bytes()
    for position in range(0, len(data), max(1, len(data) // 400)):
        path.write_bytes(data[:position] + bytes([data[position] ^ 0x41]) + data[position + 1 :])
        try:
            for sample in open_source(path).samples:
                sample.source.read()
        except (DataError, BadImage):
            pass


def test_what_is_no_archive(tmp_path):
    path = tmp_path / "x.tar"
    path.write_bytes(png(np.zeros((4, 4), np.uint8)))
    assert not is_tar(path)
    assert not is_zip(path)
    with pytest.raises(DataError, match="is a file; expected"):
        open_source(path)
