"""What a header tells without decoding: the size after orientation, mode, depth, animation; it agrees with decode."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile, ImageOps, PngImagePlugin
from small_pictures import encode, oriented, picture

from recog.core.images.decode import ImageInfo, decode, probe


def test_probe_of_every_format():
    image = Image.fromarray(picture())
    expected = {
        "JPEG": ("RGB", 8),
        "PNG": ("RGB", 8),
        "GIF": ("P", 8),
        "BMP": ("RGB", 8),
        "TIFF": ("RGB", 8),
        "WEBP": ("RGB", 8),
        "PPM": ("RGB", 8),
    }
    for file_format, (mode, bits) in expected.items():
        assert probe(encode(image, file_format)) == ImageInfo(
            width=40, height=30, mode=mode, format=file_format, bits=bits, is_animated=False, num_frames=1
        )
    assert probe(picture()).format == "memory"


def test_bits_as_stored():
    grey16 = np.zeros((2, 2), np.uint16)
    assert probe(encode(grey16)).bits == 16
    assert probe(encode(grey16, "TIFF")).bits == 16
    assert probe(encode(Image.new("1", (2, 2)))).bits == 1
    sixteen_colours = Image.new("P", (2, 2))
    sixteen_colours.putpalette(bytes(range(48)))
    assert probe(encode(sixteen_colours)).bits == 4
    assert probe(b"P5\n1 1\n65535\n\0\0").bits == 16


def test_animations_are_told_and_their_first_frame_taken():
    frames = [Image.fromarray(picture()), Image.fromarray(255 - picture()), Image.fromarray(picture()[::-1].copy())]
    for file_format, num_frames in (("PNG", 3), ("WEBP", 3), ("GIF", None), ("TIFF", None)):
        options = {"lossless": True} if file_format == "WEBP" else {}
        data = encode(frames[0], file_format, save_all=True, append_images=frames[1:], **options)
        info = probe(data)
        assert (info.is_animated, info.num_frames) == (True, num_frames)
        first = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        assert np.array_equal(decode(data), first)


@pytest.mark.parametrize("value", range(1, 9))
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_probe_and_decode_agree_on_orientation(value, file_format):
    data = encode(picture(), file_format, exif=oriented(value))
    info = probe(data)
    assert (info.height, info.width) == decode(data).shape[:2] == ((40, 30) if value >= 5 else (30, 40))


@pytest.mark.parametrize("where", ["before", "after"])
@pytest.mark.parametrize("what", ["eXIf", "XMP"])
def test_a_png_may_tell_its_orientation_behind_its_pixels(where, what):
    data = encode(picture())
    if what == "eXIf":
        kind, body = b"eXIf", oriented(6).tobytes().removeprefix(b"Exif\0\0")
    else:
        xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
        kind, body = b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp
    chunk = struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    at = data.index(b"IDAT" if where == "before" else b"IEND") - 4
    data = data[:at] + chunk + data[at:]
    assert np.array_equal(decode(data), np.rot90(picture(), -1))  # 6: to be turned clockwise by a quarter
    assert np.array_equal(decode(data), np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data)))))
    assert (probe(data).height, probe(data).width) == (40, 30)


def test_probe_reads_no_pixels(tmp_path, monkeypatch):
    path = tmp_path / "a"
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda *_: pytest.fail("pixels were decoded"))
    for file_format in ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP"):
        path.write_bytes(encode(picture(), file_format))
        assert probe(path).width == 40


def test_text_behind_the_pixels_is_no_reason_to_decode_them(monkeypatch):
    notes = PngImagePlugin.PngInfo()
    notes.add(b"teXt", b"date", after_idat=True)
    data = encode(picture(), pnginfo=notes)
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", lambda *_: pytest.fail("pixels were decoded"))
    assert probe(data).width == 40
