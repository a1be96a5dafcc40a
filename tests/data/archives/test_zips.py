"""Our readers against Python's own zipfile and tarfile as the second method."""

import io
import os
import struct
import zipfile
import zlib

import pytest
from PIL import Image

from recog.core.errors import ConfigError, DataError
from recog.data.archives.zips import read_zip
from recog.data.lists.label_format import LabelFormat
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


def zip_with_raw_names(path, names):
    """A zip of members with these bytes as names, and no word on their encoding, as old tools write it."""
    with zipfile.ZipFile(path, "w") as archive:
        for i, raw in enumerate(names):
            archive.writestr(f"{i:0{len(raw)}d}", png(i))
    data = path.read_bytes()
    for i, raw in enumerate(names):
        data = data.replace(f"{i:0{len(raw)}d}".encode(), raw)
    path.write_bytes(data)
    return path


def png(level):
    file = io.BytesIO()
    Image.new("L", (8, 8), level).save(file, "PNG")
    return file.getvalue()


GERMAN = ("Grünfink", "Müller")
WORDS = {"gbk": ("猫科", "小狗"), "shift_jis": ("ネコ", "いぬ"), "cp1252": GERMAN, "cp437": GERMAN}


def names_in(encoding, num_images=10):
    folders = [word.encode(encoding) for word in WORDS[encoding]]
    return [folder + b"/picture-%03d.png" % i for folder in folders for i in range(num_images)]


@pytest.mark.parametrize("encoding", WORDS)
def test_names_in_an_encoding_of_their_own_are_read_with_it(encoding, tmp_path):
    path = zip_with_raw_names(tmp_path / "a.zip", names_in(encoding))
    dataset = open_source(path, labels=LabelFormat(names=encoding))
    assert set(dataset.class_names) == set(WORDS[encoding])
    assert len(dataset.samples) == 20
    assert not [note for note in dataset.notes if "--names" in note]


@pytest.mark.parametrize("encoding", ["gbk", "shift_jis", "cp1252"])
def test_names_in_an_unknown_encoding_are_noticed(encoding, tmp_path):
    path = zip_with_raw_names(tmp_path / "a.zip", names_in(encoding))
    (note,) = [note for note in open_source(path).notes if "--names" in note]
    assert "a.zip states no encoding for 20 names that are not UTF-8; they were read as code page 437" in note
    sample = next(word for word in WORDS[encoding] if f"{encoding}: '{word}/" in note)
    assert sample in WORDS[encoding]


def test_names_that_state_their_encoding_are_left_alone(tmp_path):
    """UTF-8 with its flag, as zipfile writes it, and without, as macOS does; and Info-ZIP's extra field."""
    with zipfile.ZipFile(tmp_path / "flag.zip", "w") as archive:
        for word in ("猫", "狗"):
            archive.writestr(f"{word}/1.png", png(1))
    path = zip_with_raw_names(tmp_path / "bare.zip", [f"{word}/picture.png".encode() for word in ("猫", "狗")])
    assert open_source(tmp_path / "flag.zip", labels=LabelFormat(names="gbk")).class_names == ("狗", "猫")
    assert open_source(path).class_names == ("狗", "猫")
    with zipfile.ZipFile(tmp_path / "field.zip", "w") as archive:
        for name, word in (("aa/1.png", "猫"), ("bb/1.png", "狗")):
            text = f"{word}/1.png".encode()
            field = b"\1" + zlib.crc32(name.encode()).to_bytes(4, "little") + text
            info = zipfile.ZipInfo(name)
            info.extra = struct.pack("<HH", 0x7075, len(field)) + field
            archive.writestr(info, png(1))
    assert open_source(tmp_path / "field.zip").class_names == ("狗", "猫")


def test_names_are_refused_where_they_do_not_fit(tmp_path):
    path = zip_with_raw_names(tmp_path / "a.zip", [b"\xff\xff/picture-1.png", b"b/picture-2.png"])
    with pytest.raises(
        DataError, match="has a name that is not gbk: 'ÿÿ/picture-1.png'. Name another encoding with --names"
    ):
        open_source(path, labels=LabelFormat(names="gbk"))
    for name in ("klingon", "base64", "rot13", "utf-16", "\0"):
        with pytest.raises(ConfigError, match="the encoding of names is .*; expected one such as gbk"):
            LabelFormat(names=name)
    (tmp_path / "photos" / "a").mkdir(parents=True)
    (tmp_path / "photos" / "b").mkdir()
    for kind in "ab":
        (tmp_path / "photos" / kind / "1.png").write_bytes(png(1))
    with pytest.raises(
        DataError, match="photos is class folders.*; an encoding of names is for a zip archive. Leave it out"
    ):
        open_source(tmp_path / "photos", labels=LabelFormat(names="gbk"))
