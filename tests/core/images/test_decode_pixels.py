"""Decoded files pixel by pixel against arithmetic by hand: orientation, transparency, 16-bit grey, 1 bit, print, profiles."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from picture_files import DISPLAY_P3, LOSSLESS, chunk, encode, exif_of, grey, on_white, png, random_rgb, refusal, smooth
from PIL import Image, ImageCms, ImageOps

from recog.core.images.decode import decode, probe

# Orientation ---------------------------------------------------------------------------------------------------------

UPRIGHT = {  # what a viewer does to the stored rows, EXIF 2.32 section 4.6.4 (A), in NumPy's words
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("file_format", LOSSLESS)
def test_orientation_by_hand(file_format, orientation):
    stored = random_rgb()
    data = encode(Image.fromarray(stored), file_format, exif=exif_of(orientation), **LOSSLESS[file_format])
    upright = UPRIGHT[orientation](stored)
    assert np.array_equal(decode(data), upright)
    info = probe(data)
    assert (info.height, info.width) == upright.shape[:2]


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("file_format", ["JPEG", "MPO", "PNG", "WEBP", "AVIF"])
def test_orientation_as_exif_transpose(file_format, orientation):
    data = encode(Image.fromarray(smooth(30, 44)), file_format, exif=exif_of(orientation))
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    assert np.array_equal(decode(data), expected)
    assert (probe(data).height, probe(data).width) == expected.shape[:2]


@pytest.mark.parametrize("file_format", ["JPEG", "PNG"])
def test_orientation_in_xmp_counts_where_exif_has_none(file_format):
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    image = Image.fromarray(smooth(30, 44))
    if file_format == "JPEG":
        data = encode(image, "JPEG", xmp=xmp)
    else:
        rows = [row.tobytes() for row in smooth(30, 44)]
        data = png((44, 30), 8, 2, rows, before=chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp))
    assert np.array_equal(decode(data), np.rot90(np.asarray(Image.open(io.BytesIO(data))), -1))
    assert (probe(data).height, probe(data).width) == (44, 30)


@pytest.mark.parametrize("value", [0, 9, 65_535])
def test_an_orientation_that_is_none_leaves_the_image_as_it_is(value):
    stored = random_rgb()
    assert np.array_equal(decode(encode(Image.fromarray(stored), "PNG", exif=exif_of(value))), stored)


# Transparency --------------------------------------------------------------------------------------------------------

ALPHA = np.random.default_rng(1).integers(0, 256, (13, 21), dtype=np.uint8)
ALPHA[0, :3] = 0, 255, 128


@pytest.mark.parametrize("file_format", LOSSLESS)
def test_rgba_lies_on_white(file_format):
    colours = random_rgb()
    data = encode(Image.fromarray(np.dstack([colours, ALPHA])), file_format, **LOSSLESS[file_format])
    assert np.array_equal(decode(data), on_white(colours, ALPHA))


def test_every_level_under_every_alpha_is_rounded_right():
    level, alpha = (plane.astype(np.uint8) for plane in np.meshgrid(np.arange(256), np.arange(256)))
    la = Image.merge("LA", (Image.fromarray(level), Image.fromarray(alpha)))
    assert np.array_equal(decode(la), on_white(np.repeat(level[..., None], 3, axis=2), alpha))
    assert np.array_equal(decode(la, channels=1)[..., 0], on_white(level[..., None], alpha)[..., 0])


def test_palette_with_an_alpha_for_each_entry():
    palette = np.array([[250, 0, 0], [0, 240, 10], [20, 0, 230], [9, 9, 9]], dtype=np.uint8)
    before = chunk(b"PLTE", palette.tobytes()) + chunk(b"tRNS", bytes([255, 128, 0]))  # the fourth is opaque by rule
    expected = on_white(palette[None], np.array([[255, 128, 0, 255]]))
    assert np.array_equal(decode(png((4, 1), 8, 3, [bytes(range(4))], before)), expected)


@pytest.mark.parametrize(("bits", "row", "levels"), [(1, b"\x40", [0, 255]), (2, b"\x1b", [0, 85, 170, 255])])
def test_a_clear_grey_is_meant_in_the_units_of_the_file(bits, row, levels):
    """PNG 1.2 section 4.2.1.1: tRNS holds a sample value at the image's own bit depth. Here 1 is clear."""
    expected = [255 if i == 1 else level for i, level in enumerate(levels)]
    data = png((len(levels), 1), bits, 0, [row], before=chunk(b"tRNS", b"\0\1"))
    assert decode(data).tolist() == grey([expected]).tolist()


def test_a_clear_grey_of_16_bits():
    data = png((3, 1), 16, 0, [b"\x03\x00\x03\x01\x80\x00"], before=chunk(b"tRNS", b"\x03\x00"))
    # 0x0301 = 769 is its neighbour and stays: 769 * 255 / 65535 = 2.99; 0x8000: 127.5 and a little
    assert decode(data).tolist() == grey([[255, 3, 128]]).tolist()


def test_a_clear_colour():
    data = png((2, 1), 8, 2, [bytes([1, 2, 3, 1, 2, 4])], before=chunk(b"tRNS", b"\0\1\0\2\0\3"))
    assert decode(data).tolist() == [[[255, 255, 255], [1, 2, 4]]]


def test_a_clear_colour_of_16_bits_cannot_be_told_from_its_neighbours():
    data = png((1, 1), 16, 2, [bytes(6)], before=chunk(b"tRNS", bytes(6)))
    assert "transparent" in refusal(data).reason


def test_pillows_rarer_modes_with_alpha():
    """Opaque colours are kept, clear ones are white, in the modes that files do not have but programs do."""
    palette = Image.frombytes("PA", (2, 1), bytes([5, 255, 5, 0]))
    palette.putpalette(bytes(range(30)))
    light = Image.new("LA", (2, 1))
    light.putpixel((0, 0), (90, 255))
    colour = Image.new("RGBA", (2, 1))
    colour.putpixel((0, 0), (90, 80, 70, 255))
    sources = {(15, 16, 17): palette, (90, 90, 90): light.convert("La"), (90, 80, 70): colour.convert("RGBa")}
    for expected, image in sources.items():
        assert decode(image).tolist() == [[list(expected), [255, 255, 255]]], image.mode


def test_palette_whose_colours_have_alpha():
    image = Image.new("RGBA", (1, 1), (100, 50, 0, 100)).quantize(2)
    assert image.palette.mode == "RGBA"
    red, green, blue, alpha = image.palette.palette[:4]
    assert decode(image).tolist() == on_white(np.array([[[red, green, blue]]]), np.array([[alpha]])).tolist()


# Grey of more and fewer bits than 8 ----------------------------------------------------------------------------------

DEEP = np.array([[0, 1, 128, 129], [2047, 2048, 4095, 65_535]], dtype=np.uint16)


def deep_files():
    little, big = DEEP.astype("<u2"), DEEP.astype(">u2")
    image = Image.frombytes("I;16", (4, 2), little.tobytes())
    yield "PNG", encode(image, "PNG")
    yield "TIFF, little-endian", encode(image, "TIFF")
    yield "TIFF, big-endian", encode(Image.frombytes("I;16B", (4, 2), big.tobytes()), "TIFF")
    yield "TIFF, deflated", encode(image, "TIFF", compression="tiff_adobe_deflate")
    yield "Pillow I", Image.fromarray(DEEP.astype(np.int32))
    yield "Pillow I;16", image
    yield "Pillow I;16B", Image.frombytes("I;16B", (4, 2), big.tobytes())


@pytest.mark.parametrize("name", [name for name, _ in deep_files()])
def test_16_bit_grey_is_scaled_by_one_number(name):
    source = dict(deep_files())[name]
    # 255 * v / 65535 = v / 257: 1 -> 0, 128 -> 0.498, 129 -> 0.502, 2047 -> 7.96, 2048 -> 7.97, 4095 -> 15.9
    assert decode(source, channels=1)[..., 0].tolist() == [[0, 0, 0, 1], [8, 8, 16, 255]]
    # 255 * v / 4095: 1 -> 0.06, 128 -> 7.97, 129 -> 8.03, 2047 -> 127.47, 2048 -> 127.53; above 4095 it is white
    assert decode(source, grey16_max=4095).tolist() == grey([[0, 0, 8, 8], [127, 128, 255, 255]]).tolist()
    # 255 * v / 1: everything but zero is white
    assert decode(source, grey16_max=1).tolist() == grey([[0, 255, 255, 255], [255] * 4]).tolist()


def test_16_bit_grey_does_not_depend_on_its_neighbours():
    """No image is stretched to its own range: a dark one stays dark beside a bright one."""
    dark = Image.fromarray(np.full((2, 2), 300, np.uint16))
    assert (decode(dark) == 1).all()  # 300 / 257 = 1.17


@pytest.mark.parametrize("value", [-1, 65_536])
def test_grey_beyond_16_bits_is_refused(value):
    assert str(value) in refusal(Image.fromarray(np.array([[0, value]], dtype=np.int32))).reason


def test_float_pixels_are_refused_as_nothing_tells_their_white():
    image = Image.fromarray(np.array([[0.0, 1.0]], dtype=np.float32))
    assert "floating-point" in refusal(encode(image, "TIFF")).reason


BITS = np.random.default_rng(2).integers(0, 2, (9, 13), dtype=np.uint8)


@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "BMP", "PPM"])
def test_one_bit(file_format):
    data = encode(Image.fromarray(BITS * 255).convert("1"), file_format)
    assert np.array_equal(decode(data), grey(BITS * 255))
    assert np.array_equal(decode(data, channels=1)[..., 0], BITS * 255)


def test_one_bit_tiff_that_counts_from_white():
    packed = np.packbits(1 - BITS, axis=1).tobytes()
    entries = [
        (256, 13),
        (257, 9),
        (258, 1),
        (259, 1),
        (262, 0),
        (273, 8 + 2 + 8 * 12 + 4),
        (278, 9),
        (279, len(packed)),
    ]
    table = b"".join(struct.pack("<HHII", tag, 3, 1, value) for tag, value in entries)
    data = b"II*\0" + struct.pack("<IH", 8, len(entries)) + table + bytes(4) + packed
    assert np.array_equal(decode(data, channels=1)[..., 0], BITS * 255)


def test_grey_stays_grey_and_colour_becomes_grey_by_601():
    level = np.arange(256, dtype=np.uint8)[None]
    assert np.array_equal(decode(level, channels=1)[..., 0], level)
    colours = random_rgb()
    luma = colours.astype(np.float64) @ [0.299, 0.587, 0.114]
    assert np.abs(decode(colours, channels=1)[..., 0] - luma).max() <= 0.51  # Pillow's weights are of 16 bits


# Print colours -------------------------------------------------------------------------------------------------------


def inks():
    """Four flat quarters of CMYK, which JPEG keeps, and what light they let pass: (255 - ink)(255 - K) / 255."""
    quarters = np.zeros((32, 32, 4), dtype=np.uint8)
    quarters[:16, :16], quarters[:16, 16:] = (200, 0, 0, 0), (0, 150, 30, 60)
    quarters[16:, :16], quarters[16:, 16:] = (10, 20, 220, 0), (0, 0, 0, 180)
    light = 255.0 - quarters
    return quarters, light[..., :3] * light[..., 3:] / 255


def test_cmyk_jpeg_inverted_as_adobe_writes_it():
    quarters, expected = inks()
    data = encode(Image.fromarray(quarters, "CMYK"), "JPEG", quality=100)
    assert b"Adobe" in data
    assert np.abs(decode(data) - expected).max() <= 3


def test_ycck_jpeg():
    quarters, expected = inks()
    colour = np.asarray(Image.fromarray(np.ascontiguousarray(quarters[..., :3])).convert("YCbCr"))
    planes = np.concatenate(
        [255 - colour, quarters[..., 3:]], axis=2
    )  # Pillow writes the complement of what it is given
    data = encode(Image.fromarray(planes, "CMYK"), "JPEG", quality=100)
    transform = data.index(b"Adobe") + 11
    data = data[:transform] + b"\2" + data[transform + 1 :]  # Adobe's technical note 5116: 2 is YCCK
    assert np.abs(decode(data) - expected).max() <= 4


def test_cmyk_tiff():
    quarters, expected = inks()
    assert np.abs(decode(encode(Image.fromarray(quarters, "CMYK"), "TIFF")) - expected).max() <= 1


# Profiles ------------------------------------------------------------------------------------------------------------


def by_littlecms(colours, profile, mode="RGB"):
    transform = ImageCms.buildTransform(
        ImageCms.ImageCmsProfile(io.BytesIO(profile)),
        ImageCms.createProfile("sRGB"),
        mode,
        "RGB",
        ImageCms.Intent.RELATIVE_COLORIMETRIC,
        ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    return np.asarray(ImageCms.applyTransform(Image.fromarray(colours, mode), transform))


@pytest.mark.parametrize("file_format", LOSSLESS)
def test_wide_gamut_becomes_srgb(file_format):
    colours = random_rgb()
    data = encode(Image.fromarray(colours), file_format, icc_profile=DISPLAY_P3, **LOSSLESS[file_format])
    assert np.array_equal(decode(data), by_littlecms(colours, DISPLAY_P3))
    assert np.abs(decode(data).astype(int) - colours).max() > 20  # and that is another picture


def test_wide_gamut_by_hand():
    """P3 (200, 100, 50) at gamma 2.2: linear, through the matrix to XYZ, through the inverse of sRGB's, and coded."""
    linear = (np.array([200, 100, 50]) / 255) ** (563 / 256)  # 2.2 as the profile holds it
    xyz = np.array([[0.51512, 0.29198, 0.15710], [0.24120, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]]) @ linear
    to_srgb = np.array(  # inverse of sRGB's D50 matrix, Bruce Lindbloom's tables
        [[3.1338561, -1.6168667, -0.4906146], [-0.9787684, 1.9161415, 0.0334540], [0.0719453, -0.2289914, 1.4052427]]
    )
    light = np.clip(to_srgb @ xyz, 0, 1)
    coded = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    data = png((1, 1), 8, 2, [bytes([200, 100, 50])], before=chunk(b"iCCP", b"p\0\0" + zlib.compress(DISPLAY_P3)))
    assert np.abs(decode(data)[0, 0] - 255 * coded).max() <= 1


def test_transparency_is_laid_on_white_in_the_colours_of_the_result():
    colours = random_rgb()
    data = encode(Image.fromarray(np.dstack([colours, ALPHA])), "PNG", icc_profile=DISPLAY_P3)
    assert np.array_equal(decode(data), on_white(by_littlecms(colours, DISPLAY_P3), ALPHA))


SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
LAB = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
UNFIT = {
    "sRGB": SRGB,
    "cut": DISPLAY_P3[:200],
    "random": np.random.default_rng(3).bytes(400),
    "of Lab": LAB,
    "zeros": bytes(300),
    "one byte": b"x",
}


@pytest.mark.parametrize("name", UNFIT)
def test_a_broken_or_unfit_profile_is_ignored(name):
    colours = random_rgb()
    assert np.array_equal(decode(encode(Image.fromarray(colours), "PNG", icc_profile=UNFIT[name])), colours)


def test_a_profile_does_not_touch_grey():
    level = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    for profile in (DISPLAY_P3, SRGB, b"x"):
        assert np.array_equal(decode(encode(level, "PNG", icc_profile=profile), channels=1)[..., 0], np.asarray(level))


def test_a_profile_for_rgb_on_cmyk_is_ignored():
    quarters, expected = inks()
    data = encode(Image.fromarray(quarters, "CMYK"), "TIFF", icc_profile=DISPLAY_P3)
    assert np.abs(decode(data) - expected).max() <= 1
