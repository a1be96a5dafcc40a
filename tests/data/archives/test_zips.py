"""Our readers against Python's own zipfile and tarfile as the second method."""

import os
import zipfile

import pytest

from recog.core.errors import DataError
from recog.data.archives.zips import read_zip

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
    assert [e.refusal for e in read_zip(path)] == [
        "it is packed by method 14 (LZMA); only stored and deflated members are read"
    ]


def test_zips_that_were_joined_are_refused(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/1.png", b"x")
    path.write_bytes(path.read_bytes() * 2)
    with pytest.raises(DataError, match="is two zip archives, joined"):
        read_zip(path)
