"""Our readers against Python's own zipfile and tarfile as the second method."""

import os
import zipfile

import numpy as np
import pytest

from recog.core.errors import DataError
from recog.data.archives.zips import read_zip
from recog.data.sources import open_source

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


PICTURES = {f"word/media/{kind}/{i}.png": b"\x89PNG" for kind in "ab" for i in range(3)}
DOCUMENTS = {  # name of the file: (a member that gives it away, what it is called)
    "letter.docx": ("[Content_Types].xml", "a Microsoft Office document"),
    "sheet.xlsx": ("[Content_Types].xml", "a Microsoft Office document"),
    "renamed.zip": ("[Content_Types].xml", "a Microsoft Office document"),
    "book.epub": ("mimetype", "an OpenDocument or EPUB file"),
    "letter.odt": ("mimetype", "an OpenDocument or EPUB file"),
    "tool.jar": ("META-INF/MANIFEST.MF", "a Java or Android package"),
    "recog-1.whl": ("recog/__init__.py", "a Python package"),
    "model.keras": ("config.json", "a Keras model"),
}


@pytest.mark.parametrize(("name", "member", "kind"), [(name, *rest) for name, rest in DOCUMENTS.items()])
def test_files_that_are_zip_inside_are_no_archives_of_images(name, member, kind, tmp_path):
    """Before, word/media was taken for the class folders of a document with pictures."""
    path = tmp_path / name
    with zipfile.ZipFile(path, "w") as archive:
        for inner, data in {member: b"x", **PICTURES}.items():
            archive.writestr(inner, data)
    with pytest.raises(DataError, match=rf"{name} is {kind}.*, which is zip inside but no archive of images"):
        open_source(path)


@pytest.mark.parametrize("suffix", ["npz", "zip"])
def test_numpys_own_archives_are_named(suffix, tmp_path):
    np.savez(tmp_path / "arrays.npz", x=np.zeros((3, 8, 8)), y=np.zeros(3))
    path = (tmp_path / "arrays.npz").rename(tmp_path / f"arrays.{suffix}")
    with pytest.raises(DataError, match=rf"arrays\.{suffix} is NumPy arrays \(\.npz\), which is zip inside"):
        open_source(path)


@pytest.mark.parametrize("suffix", ["pt", "zip"])
def test_torchs_own_archives_are_named(suffix, tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"weight": torch.zeros(3)}, tmp_path / f"net.{suffix}")
    with pytest.raises(DataError, match=rf"net\.{suffix} is a PyTorch checkpoint, which is zip inside"):
        open_source(tmp_path / f"net.{suffix}")


def test_images_beside_a_pickle_are_an_archive_of_images(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in ("set/data.pkl", "set/a/1.png", "set/b/1.png"):
            archive.writestr(name, b"x")
    assert len(read_zip(tmp_path / "a.zip")) == 3
