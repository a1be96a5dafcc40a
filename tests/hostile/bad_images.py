"""Generators for 26 kinds of damaged, hostile and unusual images, each with what must come of it. No binaries are kept."""

from __future__ import annotations

import io
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from image_bytes import (
    PNG_MAGIC,
    encode,
    grey_rgb,
    grey_tiff,
    noise,
    over_white,
    photo,
    pixels,
    png_chunk,
    png_file,
    reopened,
    tiff_file,
    truncations,
)
from PIL import Image, ImageCms, ImageOps, features
from stalling_files import further_cases


@dataclass(frozen=True, kw_only=True)
class Case:
    """`source` must decode to `expected` uint8 [H, W, 3] within `tolerance`, or be refused for a reason with `refused` in it."""

    kind: int
    name: str
    source: bytes | np.ndarray
    expected: np.ndarray | None = None
    refused: str = ""
    tolerance: int = 0
    suffix: str = ".jpg"


def all_cases() -> list[Case]:
    return [case for build in _BUILDERS for case in build()] + [Case(**settings) for settings in further_cases()]


def _nothing() -> Iterator[Case]:
    yield Case(kind=1, name="empty", source=b"", refused="empty")
    for first in (b"\x00", b"\xff", b"\x89", b"G", b"P"):
        yield Case(kind=2, name=first.hex(), source=first, refused="not an image")


def _truncated() -> Iterator[Case]:
    for kind, progressive in ((3, False), (4, True)):
        whole = encode(noise(120, 160), "JPEG", quality=90, progressive=progressive)
        half = whole[: len(whole) // 2]
        for name, part in truncations(whole):
            yield Case(kind=kind, name=name, source=part, refused="truncated")
        yield Case(kind=kind, name="zeros after half", source=half.ljust(len(whole), b"\0"), refused="truncated")
        yield Case(kind=kind, name="no end marker", source=whole[:-2], refused="truncated")
    whole = encode(noise(60, 80), "PNG")
    for name, part in (*truncations(whole), ("last byte", whole[:-1]), ("no end chunk", whole[:-12])):
        yield Case(kind=5, name=name, source=part, refused="truncated", suffix=".png")


def _wrong_checksums() -> Iterator[Case]:
    plain, palette = encode(photo(), "PNG"), encode(photo().quantize(16), "PNG")
    for chunk, data in ((b"IDAT", plain), (b"IHDR", plain), (b"PLTE", palette)):
        start = data.index(chunk)
        end = start + 4 + int.from_bytes(data[start - 4 : start], "big")
        wrong = data[:end] + bytes(byte ^ 0xFF for byte in data[end : end + 4]) + data[end + 4 :]
        yield Case(kind=6, name=f"of {chunk.decode()}", source=wrong, refused="damaged", suffix=".png")
    rows = b"".join(b"\0" + row.tobytes() for row in pixels(photo()))
    stored = zlib.compress(rows, 0)  # not compressed: the flipped bit is one pixel's, and only the checksums can tell
    flipped = bytearray(png_chunk(b"IDAT", stored))
    flipped[len(flipped) // 2] ^= 0x40
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 64, 48, 8, 2, 0, 0, 0))
    source = PNG_MAGIC + header + bytes(flipped) + png_chunk(b"IEND", b"")
    yield Case(kind=6, name="one flipped bit of a pixel", source=source, refused="damaged", suffix=".png")


def _other_things() -> Iterator[Case]:
    random = np.random.default_rng(7).bytes(20_000)
    yield Case(kind=7, name="random", source=b"\x00" + random, refused="not an image")
    yield Case(kind=7, name="random behind a JPEG's first bytes", source=b"\xff\xd8\xff" + random, refused="JPEG")
    page = b"<!DOCTYPE html><html><head><title>404 Not Found</title></head><body>Not Found</body></html>"
    yield Case(kind=8, name="HTML", source=page, refused="HTML")
    yield Case(kind=8, name="HTML after blanks", source=b"\xef\xbb\xbf\r\n\r\n" + page, refused="HTML")
    yield Case(kind=8, name="plain text", source=b"Too many requests, try again later.\n", refused="text")
    yield Case(kind=8, name="JSON", source=b'{"error": "rate limited"}', refused="JSON")
    yield Case(kind=9, name="PNG", source=encode(photo(), "PNG"), expected=pixels(photo()))
    svg = b'<svg xmlns="http://www.w3.org/2000/svg"><rect width="9" height="9"/></svg>'
    preamble = b'<?xml version="1.0"?>\n<!-- drawn by hand -->\n'
    for name, source in (("bare", svg), ("with preamble", preamble + svg)):
        yield Case(kind=10, name=name, source=source, refused="SVG", suffix=".svg")
    heads = {"EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "PDF": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n"}
    heads |= {"PSD": b"8BPS\0\1" + bytes(20), "FITS": b"SIMPLE  =                    T".ljust(80)}
    for name, head in heads.items():
        yield Case(kind=11, name=name, source=head + bytes(3000), refused=name, suffix=".png")


def _bombs() -> Iterator[Case]:
    packer = zlib.compressobj(1)
    rows = b"".join(packer.compress(bytes(6251 * 1000)) for _ in range(50)) + packer.flush()
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 50_000, 50_000, 1, 0, 0, 0, 0))
    source = PNG_MAGIC + header + png_chunk(b"IDAT", rows) + png_chunk(b"IEND", b"")
    yield Case(kind=12, name="50,000 x 50,000", source=source, refused="2,500,000,000 pixels", suffix=".png")
    just_above = png_file((16_385, 1), 8, 0, bytes(16_386))
    yield Case(kind=12, name="one pixel above the side", source=just_above, refused="16385 x 1", suffix=".png")
    text = zlib.compress(bytes(50_000_000), 9)
    chunks = {
        "zTXt": png_chunk(b"zTXt", b"Comment\0\0" + text),
        "iTXt": png_chunk(b"iTXt", b"Comment\0\1\0\0\0" + text),
        "iCCP": png_chunk(b"iCCP", b"profile\0\0" + text),
        "100 x zTXt": png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(1_000_000), 9)) * 100,
    }
    row = bytes(1 + 8)
    for name, chunk in chunks.items():
        before = png_file((8, 8), 8, 0, row * 8, before=chunk)
        yield Case(kind=13, name=f"{name} before the pixels", source=before, refused="text|large", suffix=".png")
    after = png_file((8, 8), 8, 0, row * 8, after=chunks["zTXt"])
    yield Case(kind=13, name="zTXt after the pixels", source=after, refused="text|large", suffix=".png")
    crumbs = png_file((8, 8), 8, 0, row * 8, before=png_chunk(b"zzZz", b"") * 300_000)
    yield Case(kind=13, name="300,000 empty chunks", source=crumbs, refused="header|chunks", suffix=".png")


def _tiff_directories() -> Iterator[Case]:
    values = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5
    loop = grey_tiff((8, 6), 8, values.tobytes(), next_offset=8)
    yield Case(kind=14, name="directory after itself", source=loop, expected=grey_rgb(values), suffix=".tif")
    away = grey_tiff((8, 6), 8, values.tobytes(), next_offset=0x7FFFFFFF)
    yield Case(kind=14, name="next directory nowhere", source=away, expected=grey_rgb(values), suffix=".tif")
    nowhere = b"II*\0" + struct.pack("<I", 1_000_000) + bytes(50)
    yield Case(kind=14, name="directory nowhere", source=nowhere, refused="truncated", suffix=".tif")
    size = [(256, 3, 1, 100), (257, 3, 1, 100), (258, 3, 1, 8), (262, 3, 1, 1)]
    strips = tiff_file([*size, (273, 3, 2_000_000, b"\1\1" * 2_000_000)])
    yield Case(kind=14, name="2,000,000 strips", source=strips, refused="2,000,000", suffix=".tif")
    rationals = tiff_file([*size, (282, 5, 500_000, b"\3\0\0\0\7\0\0\0" * 500_000)])
    yield Case(kind=14, name="500,000 resolutions", source=rationals, refused="500,000", suffix=".tif")
    layers = tiff_file([*size, (277, 3, 1, 60_000)])
    yield Case(kind=14, name="60,000 channels", source=layers, refused="60000 channels", suffix=".tif")
    raw = tiff_file([*size, (254, 4, 1, 1)], bytes(10_000))
    yield Case(kind=14, name="preview of a raw file", source=raw, refused="preview", suffix=".dng")


def _animations() -> Iterator[Case]:
    head = b"GIF89a" + struct.pack("<HHBBB", 2, 1, 0x80, 0, 0) + bytes([200, 10, 20, 30, 40, 250])
    frame = b"," + struct.pack("<HHHHB", 0, 0, 2, 1, 0) + b"\2\2\x44\x0a\0"  # LZW: clear, 0, 1, end
    expected = np.array([[[200, 10, 20], [30, 40, 250]]], dtype=np.uint8)
    yield Case(kind=15, name="10,000 frames", source=head + frame * 10_000 + b";", expected=expected, suffix=".gif")
    half = head + frame * 10_000
    yield Case(kind=15, name="cut after 5,000 frames", source=half[: len(half) // 2], expected=expected, suffix=".gif")
    frames = [photo(), ImageOps.invert(photo())]
    apng = encode(frames[0], "PNG", save_all=True, append_images=frames[1:])
    yield Case(kind=16, name="APNG", source=apng, expected=pixels(photo()), suffix=".png")
    webp = encode(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    yield Case(kind=16, name="WebP", source=webp, expected=pixels(photo()), suffix=".webp")


def _cmyk() -> Iterator[Case]:
    inks = np.zeros((32, 32, 4), dtype=np.uint8)  # four flat quarters, which JPEG keeps
    inks[:16, :16], inks[:16, 16:] = (200, 0, 0, 0), (0, 150, 30, 60)
    inks[16:, :16], inks[16:, 16:] = (10, 20, 220, 0), (0, 0, 0, 180)
    light = 255 - inks.astype(np.float64)
    expected = np.rint(light[..., :3] * light[..., 3:] / 255).astype(np.uint8)  # each ink lets its share of light pass
    options = {"quality": 100, "subsampling": 0}
    cmyk = encode(Image.fromarray(inks, "CMYK"), "JPEG", **options)
    yield Case(kind=17, name="CMYK, inverted as by Adobe", source=cmyk, expected=expected, tolerance=3)
    tiff = encode(Image.fromarray(inks, "CMYK"), "TIFF")
    yield Case(kind=17, name="CMYK TIFF", source=tiff, expected=expected, tolerance=1, suffix=".tif")
    colour = np.asarray(Image.fromarray(np.ascontiguousarray(inks[..., :3])).convert("YCbCr"))
    planes = np.concatenate([colour, 255 - inks[..., 3:]], axis=-1)
    stored = Image.fromarray(255 - planes, "CMYK")  # Pillow writes the complement of what it is given
    ycck = encode(stored, "JPEG", **options)
    adobe = ycck.index(b"Adobe") + 11  # the byte that says how the four planes are meant: 2 is YCCK
    ycck = ycck[:adobe] + b"\2" + ycck[adobe + 1 :]
    yield Case(kind=17, name="YCCK", source=ycck, expected=expected, tolerance=4)


def _modes() -> Iterator[Case]:
    deep = (np.arange(48, dtype=np.uint16).reshape(6, 8) * 1394).astype(np.uint16)  # 0 to 65,518
    expected = grey_rgb(np.floor(deep / 65535 * 255 + 0.5))
    yield Case(kind=18, name="16-bit PNG", source=encode(Image.fromarray(deep), "PNG"), expected=expected)
    for name, order in (("little", "II"), ("big", "MM")):
        strip = deep.astype("<u2" if order == "II" else ">u2").tobytes()
        source = (
            grey_tiff((8, 6), 16, strip) if order == "II" else encode(Image.frombytes("I;16B", (8, 6), strip), "TIFF")
        )
        yield Case(kind=18, name=f"16-bit TIFF, {name}-endian", source=source, expected=expected)
    inverted = grey_tiff((8, 6), 16, deep.tobytes(), photometric=0)
    yield Case(kind=18, name="16-bit TIFF, white is zero", source=inverted, expected=255 - expected)
    transparent = png_chunk(b"tRNS", struct.pack(">H", int(deep[0, 3])))
    rows = b"".join(b"\0" + row.tobytes() for row in deep.astype(">u2"))
    with_hole = expected.copy()
    with_hole[0, 3] = 255
    yield Case(
        kind=18,
        name="16-bit PNG, one grey transparent",
        source=png_file((8, 6), 16, 0, rows, before=transparent),
        expected=with_hole,
    )
    bits = (np.indices((8, 8)).sum(0) % 3 == 0).astype(np.uint8)
    rows = b"".join(b"\0" + np.packbits(row).tobytes() for row in bits)
    yield Case(kind=18, name="1-bit", source=png_file((8, 8), 1, 0, rows), expected=grey_rgb(bits * 255))
    nibbles = b"".join(
        b"\0" + bytes([0x05, 0x5F]) for _ in range(2)
    )  # greys 0, 5, 5, 15 of 15, of which 5 is transparent
    four_bits = png_file((4, 2), 4, 0, nibbles, before=png_chunk(b"tRNS", b"\0\5"))
    yield Case(
        kind=18,
        name="4-bit, one grey transparent",
        source=four_bits,
        expected=grey_rgb(np.array([[0, 255, 255, 255]] * 2)),
    )
    yield from _alpha_modes()
    grey = np.linspace(0, 1, 48, dtype=np.float32).reshape(6, 8)
    source = grey_tiff((8, 6), 32, grey.tobytes(), sample_format=3)
    yield Case(kind=18, name="float TIFF", source=source, refused="floating-point", suffix=".tif")
    signed = grey_tiff((8, 6), 16, (grey * 1000 - 500).astype("<i2").tobytes(), sample_format=2)
    yield Case(kind=18, name="signed TIFF", source=signed, refused="-500", suffix=".tif")


def _alpha_modes() -> Iterator[Case]:
    colours, alpha = pixels(photo()), np.random.default_rng(1).integers(0, 256, (48, 64), dtype=np.uint8)
    alpha[0, :2] = 0, 255
    expected = over_white(colours, alpha)
    rgba = Image.fromarray(np.dstack([colours, alpha]))
    for file_format in ("PNG", "TIFF"):
        yield Case(kind=18, name=f"RGBA {file_format}", source=encode(rgba, file_format), expected=expected)
    grey = Image.fromarray(np.ascontiguousarray(colours[..., 0]))
    la = Image.merge("LA", (grey, Image.fromarray(alpha)))
    expected = over_white(grey_rgb(colours[..., 0]), alpha)
    yield Case(kind=18, name="LA PNG", source=encode(la, "PNG"), expected=expected)
    palette = np.array([[250, 0, 0], [0, 240, 10], [20, 0, 230], [9, 9, 9]], dtype=np.uint8)
    opacity, index = np.array([255, 128, 0, 77], dtype=np.uint8), np.indices((6, 8)).sum(0) % 4
    before = png_chunk(b"PLTE", palette.tobytes()) + png_chunk(b"tRNS", opacity.tobytes())
    rows = b"".join(b"\0" + row.astype(np.uint8).tobytes() for row in index)
    source = png_file((8, 6), 8, 3, rows, before=before)
    yield Case(kind=18, name="palette with alpha", source=source, expected=over_white(palette[index], opacity[index]))
    key = Image.fromarray(index.astype(np.uint8), "P")
    key.putpalette(palette.tobytes())
    expected = over_white(palette[index], np.where(index == 2, 0, 255).astype(np.uint8))
    yield Case(
        kind=18,
        name="GIF with one clear colour",
        source=encode(key, "GIF", transparency=2),
        expected=expected,
        suffix=".gif",
    )
    clear = tuple(int(value) for value in colours[5, 7])
    expected = over_white(colours, np.where((colours == clear).all(-1), 0, 255).astype(np.uint8))
    yield Case(
        kind=18, name="RGB with one clear colour", source=encode(photo(), "PNG", transparency=clear), expected=expected
    )


def _orientations() -> Iterator[Case]:
    for value in range(1, 9):
        exif = Image.Exif()
        exif[274] = value
        for file_format in ("JPEG", "PNG", "WEBP", "TIFF"):
            data = encode(photo(), file_format, exif=exif, quality=90)
            expected = pixels(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
            if file_format == "TIFF":  # Pillow turns it by itself on loading
                expected = pixels(ImageOps.exif_transpose(Image.open(io.BytesIO(encode(photo(), "PNG", exif=exif)))))
            yield Case(kind=19, name=f"{value} in {file_format}", source=data, expected=expected)


def _broken_metadata() -> Iterator[Case]:
    plain = encode(photo(), "JPEG", quality=90)
    expected = reopened(plain)
    rotated = b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\1"  # one entry, the orientation, which ends after its tag
    exifs = {"of zeros": b"Exif\0\0" + bytes(40), "random": b"Exif\0\0" + np.random.default_rng(3).bytes(200)}
    exifs |= {"cut": rotated, "without a directory": b"Exif\0\0MM\0*\xff\xff\xff\xff"}
    for value in (0, 9, 99, 65_535):
        exifs[f"orientation {value}"] = rotated + struct.pack("<HIHHI", 3, 1, value, 0, 0)
    exifs["orientation as text"] = rotated + struct.pack("<HI4sI", 2, 4, b"abc\0", 0)
    for name, exif in exifs.items():
        yield Case(kind=20, name=f"EXIF {name}", source=_with_segment(plain, 0xE1, exif), expected=expected)
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    profiles = {
        "random": np.random.default_rng(4).bytes(500),
        "cut": srgb[:200],
        "of Lab": lab,
        "empty": b"",
        "zeros": bytes(999),
    }
    for name, profile in profiles.items():
        source = _with_segment(plain, 0xE2, b"ICC_PROFILE\0\1\1" + profile)
        yield Case(kind=20, name=f"profile {name}", source=source, expected=expected)
        png = png_chunk(b"iCCP", b"profile\0\0" + zlib.compress(profile))
        rows = b"".join(b"\0" + row.tobytes() for row in pixels(photo()))
        source = png_file((64, 48), 8, 2, rows, before=png)
        yield Case(kind=20, name=f"profile {name} in PNG", source=source, expected=pixels(photo()), suffix=".png")


def _with_segment(jpeg: bytes, marker: int, data: bytes) -> bytes:
    return jpeg[:2] + struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data + jpeg[2:]


def _extents() -> Iterator[Case]:
    for height, width in ((1, 1), (1, 50), (50, 1), (1, 16_384), (16_384, 1)):
        picture = photo(height, width)
        yield Case(kind=21, name=f"{height} x {width} PNG", source=encode(picture, "PNG"), expected=pixels(picture))
        data = encode(picture, "JPEG", quality=90)
        yield Case(kind=21, name=f"{height} x {width} JPEG", source=data, expected=reopened(data))
    for size in ((65_500, 1), (1, 65_500)):
        source = encode(Image.new("RGB", size), "JPEG")
        yield Case(kind=21, name=f"{size[0]} wide", source=source, refused=f"{size[0]} x {size[1]}")


def _containers() -> Iterator[Case]:
    mpo = encode(photo(), "MPO", save_all=True, append_images=[ImageOps.invert(photo())], quality=90)
    yield Case(kind=22, name="MPO", source=mpo, expected=reopened(encode(photo(), "JPEG", quality=90)))
    heic = struct.pack(">I", 24) + b"ftypheic\0\0\0\0mif1heic" + bytes(100)
    yield Case(kind=22, name="HEIC without its package", source=heic, refused="HEIC", suffix=".heic")
    video = struct.pack(">I", 24) + b"ftypisom\0\0\2\0isommp42" + bytes(100)
    yield Case(kind=22, name="MP4", source=video, refused="video", suffix=".mp4")
    if features.check("avif"):
        avif = encode(photo(), "AVIF", quality=100, subsampling="4:4:4")
        yield Case(kind=22, name="AVIF", source=avif, expected=pixels(photo()), tolerance=4, suffix=".avif")
        yield Case(kind=22, name="AVIF cut", source=avif[: len(avif) // 2], refused="AVIF|truncated", suffix=".avif")
    else:
        avif = struct.pack(">I", 24) + b"ftypavif\0\0\0\0mif1avif" + bytes(100)
        yield Case(kind=22, name="AVIF without its codec", source=avif, refused="AVIF", suffix=".avif")


def _polyglots() -> Iterator[Case]:
    jpeg, png = encode(photo(), "JPEG", quality=90), encode(photo(), "PNG")
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("evil.txt", "hello")
    trailers = {"zeros": bytes(1000), "random": np.random.default_rng(5).bytes(1_000_000), "ZIP": archive.getvalue()}
    trailers |= {"a second JPEG": encode(ImageOps.invert(photo()), "JPEG"), "many scan markers": b"\xff\xda\0\2" * 5000}
    for name, junk in trailers.items():
        yield Case(kind=23, name=f"JPEG and {name}", source=jpeg + junk, expected=reopened(jpeg))
        yield Case(kind=23, name=f"PNG and {name}", source=png + junk, expected=pixels(photo()))
    yield Case(kind=23, name="ZIP, then JPEG", source=archive.getvalue() + jpeg, refused="ZIP")


# 16 x 16 grey, left half black and right half white: written by libjpeg-turbo's jpegtran -arithmetic.
_ARITHMETIC = bytes.fromhex(
    "ffd8ffe000104a46494600010100000100010000ffdb00430002010101010102010101020202020204030202020205040403"
    "04060506060605060606070908060709070606080b08090a0a0a0a0a06080b0c0b0a0c090a0a0affc9000b08001000100101"
    "1100ffcc000600101005ffda0008010100003f00ff00f0cdedeb191cffd9"
)


def _rare_jpegs() -> Iterator[Case]:
    halves = grey_rgb(np.repeat([[0] * 8 + [255] * 8], 16, axis=0))
    yield Case(kind=24, name="arithmetic", source=_ARITHMETIC, expected=halves, tolerance=1)
    plain = encode(photo(), "JPEG")
    frame = plain.index(b"\xff\xc0")
    twelve = plain[: frame + 4] + b"\x0c" + plain[frame + 5 :]
    yield Case(kind=24, name="12-bit", source=twelve, refused="12-bit")
    lossless = plain[:frame] + b"\xff\xc3" + plain[frame + 2 :]
    yield Case(kind=24, name="lossless", source=lossless, refused="JPEG|decoded")


def _scans() -> Iterator[Case]:
    for side in (64, 3000):
        data = encode(Image.new("RGB", (side, side), (90, 60, 30)), "JPEG", progressive=True)
        starts = [match.start() for match in re.finditer(rb"\xff\xda", data)]
        bomb = data[:-2] + data[starts[-1] : -2] * (1000 - len(starts)) + b"\xff\xd9"
        yield Case(kind=25, name=f"1,000 scans of {side} x {side}", source=bomb, refused="scans")
    segments = encode(photo(), "JPEG")[:-2] + b"\xff\xfe\0\2" * 20_000 + b"\xff\xd9"
    yield Case(kind=25, name="20,000 comments after the scan", source=segments, refused="segments")
    junk = encode(photo(), "JPEG")
    yield Case(
        kind=25,
        name="5 MB of junk in the header",
        source=junk[:2] + b"\xff\xfe\0\2" + bytes(5_000_000) + junk[2:],
        refused="header",
    )


def _arrays() -> Iterator[Case]:
    flat = np.full((20, 30, 3), 137, dtype=np.uint8)
    yield Case(kind=26, name="constant uint8", source=flat, expected=flat)
    yield Case(kind=26, name="constant file", source=encode(Image.fromarray(flat), "PNG"), expected=flat)
    for name, value in (("constant", 0.5), ("NaN", np.nan), ("infinite", np.inf)):
        refused = "float32, not" if name == "constant" else "NaN or infinite"
        yield Case(kind=26, name=f"{name} float32", source=np.full((9, 9, 3), value, np.float32), refused=refused)
    yield Case(kind=26, name="channels first", source=np.zeros((3, 20, 30), np.uint8), refused="shape")
    yield Case(kind=26, name="no rows", source=np.zeros((0, 30, 3), np.uint8), refused="shape")


_BUILDERS = (_nothing, _truncated, _wrong_checksums, _other_things, _bombs, _tiff_directories, _animations, _cmyk)
_BUILDERS += (_modes, _orientations, _broken_metadata, _extents, _containers, _polyglots, _rare_jpegs, _scans, _arrays)
