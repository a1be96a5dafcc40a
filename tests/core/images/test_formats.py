"""Formats by first bytes; magic numbers as in the formats' own documents."""

import struct

import pytest

from recog.core.errors import BadImage
from recog.core.images.formats import has_image_suffix, is_image_content, is_image_file, recognise


def iso(major, *brands):
    body = b"ftyp" + major + bytes(4) + b"".join(brands)
    return struct.pack(">I", len(body) + 4) + body + bytes(100)


@pytest.mark.parametrize(
    ("prefix", "kind"),
    [
        (b"\xff\xd8\xff\xe0", "JPEG"),
        (b"\x89PNG\r\n\x1a\n", "PNG"),
        (b"GIF87a", "GIF"),
        (b"GIF89a", "GIF"),
        (b"RIFF\1\2\3\4WEBPVP8 ", "WEBP"),
        (b"II*\0\x08\0\0\0", "TIFF"),
        (b"MM\0*\0\0\0\x08", "TIFF"),
        (b"II+\0\x08\0\0\0", "TIFF"),
        (b"BM\1\2\3\4", "BMP"),
        (bytes(128) + b"DICM", "DICOM"),
        (b"II*\0" + bytes(124) + b"DICM", "DICOM"),  # a file that is TIFF, too
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG2000"),
        (b"\xff\x4f\xff\x51", "JPEG2000"),
        (b"\0\0\x02\0\0\0\0\0\0\0\0\0\x28\0\x1e\0\x18\x20", "TGA"),
        (b"P6\n1 1\n255\n", "PPM"),
        (iso(b"avif", b"mif1"), "AVIF"),
        (iso(b"mif1", b"miaf", b"avif"), "AVIF"),
        (iso(b"heic", b"mif1"), "HEIF"),
        (iso(b"mif1", b"heic"), "HEIF"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_recognised_by_the_first_bytes(prefix, kind):
    assert recognise(prefix, "it") == kind


@pytest.mark.parametrize(
    ("prefix", "words"),
    [
        (b"%PDF-1.4", "PDF"),
        (b"%!PS-Adobe", "PostScript"),
        (b"\xc5\xd0\xd3\xc6", "PostScript"),
        (b"8BPS\0\1", "Photoshop"),
        (b"SIMPLE  = ", "FITS"),
        (b"II*\0\x10\0\0\0CR\x02\0", "raw"),
        (b"\xff\x0a\1\2", "JPEG XL"),
        (b"\0\0\1\0\1\0", "icon"),
        (b"Pf\n1 1\n-1\n", "float"),
        (iso(b"isom", b"mp42"), "video"),
        (b"\x1aE\xdf\xa3", "video"),
        (b"RIFF\1\2\3\4AVI LIST", "video"),
        (b"PK\x03\x04", "ZIP"),
        (b"\x1f\x8b\x08", "archive"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (b"\x93NUMPY\x01\x00", "NumPy"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "Git LFS"),
        (b"<svg xmlns=", "SVG"),
        (b"\n <HTML><body>", "HTML"),
        (b"<?xml version='1.0'?><Error/>", "XML"),
        (b'{"error": "no"}', "JSON"),
        (b"path,label\na.jpg,cat\n", "text"),
        (b"\x01\x02\x03\x04", "no known format"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_refused_by_the_first_bytes_with_a_name_for_them(prefix, words):
    with pytest.raises(BadImage, match=words):
        recognise(prefix, "it")


def bmp(header_bytes):
    return b"BM" + struct.pack("<IIII", 1000, 0, 54, header_bytes)


@pytest.mark.parametrize(
    "prefix",
    [
        b"\xff\xd8\xff\xe0",
        b"\x89PNG\r\n\x1a\n",
        b"P6\n# made by hand\n640 480\n255\n",
        *(bmp(n) for n in (12, 16, 40, 52, 56, 64, 108, 124)),  # the sizes of all BMP headers
        b"\0\0\0\x0cjP  \r\n\x87\n",
        b"\0\0\0\x0cJXL \r\n\x87\n",
        b"8BPS\0\1",
        b"\x76\x2f\x31\x01",
        b"#?RADIANCE\n",
        b"qoif",
        b"DDS \x7c",
        struct.pack("<3H4B2HII", 0, 1, 1, 32, 32, 0, 0, 1, 32, 1000, 22),  # an icon of 32 x 32
        bytes(128) + b"DICM",
        b"<svg xmlns=",
        iso(b"heic", b"mif1"),
    ],
)
def test_images_by_content_whether_read_or_not(prefix, tmp_path):
    assert is_image_content(prefix)
    (tmp_path / "download").write_bytes(prefix)
    assert is_image_file(tmp_path / "download")


@pytest.mark.parametrize(
    "prefix",
    [
        b"",
        b"BMW, Audi and others",
        b"P1 is the first page",
        b"Pf is a prefix\n",
        b"\0\0\1\0\0\0\0\0\1\0",  # whole numbers of 32 bits
        b"%PDF-1.4",
        iso(b"isom", b"mp42"),
        b"PK\x03\x04",
        b"path,label\na.jpg,cat\n",
        b'{"error": "no"}',
        b"\x93NUMPY\x01\x00",
        b"\x01\x02\x03\x04",
    ],
)
def test_other_files_are_no_images_unless_their_suffix_says_so(prefix, tmp_path):
    assert not is_image_content(prefix)
    for name, expected in {"it": False, "it.dat": False, "it.jpg": True, "IT.JP2": True}.items():
        (tmp_path / name).write_bytes(prefix)
        assert is_image_file(tmp_path / name) is expected
        assert has_image_suffix(name) is expected


def test_what_cannot_be_opened_is_an_image_by_its_suffix_only(tmp_path):
    (tmp_path / "folder").mkdir()
    assert not is_image_file(tmp_path / "absent")
    assert not is_image_file(tmp_path / "folder")
    assert is_image_file(tmp_path / "absent.png")
