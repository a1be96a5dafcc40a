"""Any Pillow mode to 8-bit grey or sRGB: profiles by their own formulas, 16-bit scales by hand."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from PIL import Image, ImageCms

from recog.core.errors import BadImage
from recog.core.images.colour import bits_per_channel, full_scale, to_channels

# Red, green and blue as XYZ at D50, one colour per row: Adobe RGB (1998), annex of its specification; sRGB, IEC 61966-2-1.
ADOBE_RGB = np.array([[0.60974, 0.31111, 0.01947], [0.20528, 0.62567, 0.06087], [0.14919, 0.06322, 0.74457]])
SRGB = np.array([[0.43607, 0.22249, 0.01392], [0.38515, 0.71687, 0.09708], [0.14307, 0.06061, 0.71410]])
ADOBE_GAMMA = 563 / 256


def matrix_profile(primaries, gamma):
    """A version 2 ICC display profile: three colours and one gamma."""

    def s15(value):
        return struct.pack(">i", round(value * 65536))

    def xyz(values):
        return b"XYZ \0\0\0\0" + b"".join(s15(value) for value in values)

    text = b"test\0"
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    desc = b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + bytes(78)
    tags = {b"desc": desc, b"cprt": b"text\0\0\0\0" + text, b"wtpt": xyz((0.9642, 1, 0.8249))}
    tags |= {name: xyz(row) for name, row in zip((b"rXYZ", b"gXYZ", b"bXYZ"), primaries, strict=True)}
    tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    offset, table, body = 128 + 4 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for name, data in tags.items():
        data += bytes(-len(data) % 4)
        table += name + struct.pack(">II", offset + len(body), len(data))
        body += data
    illuminant = b"".join(s15(value) for value in (0.9642, 1, 0.8249))
    head = struct.pack(">II", offset + len(body), 0) + struct.pack(">I", 0x02400000) + b"mntrRGB XYZ "
    head += struct.pack(">6H", 2024, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + illuminant
    return head.ljust(128, b"\0") + table + body


def by_formula(values):
    """Adobe RGB uint8 [..., 3] -> sRGB, by the two standards' formulas, colours outside of sRGB clipped."""
    linear = (values / 255) ** ADOBE_GAMMA @ ADOBE_RGB @ np.linalg.inv(SRGB)
    linear = linear.clip(0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return encoded * 255


def colours():
    levels = np.arange(0, 256, 51, dtype=np.uint8)
    return np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(12, 18, 3)


def with_profile(image, profile):
    image.info["icc_profile"] = profile
    return image


def convert(image, channels=3, white=65_535):
    return np.asarray(to_channels(image, channels=channels, white=white, name="it"))


def test_wide_gamut_becomes_srgb_by_the_standards_formulas():
    got = convert(with_profile(Image.fromarray(colours()), matrix_profile(ADOBE_RGB, ADOBE_GAMMA)))
    assert np.abs(got - by_formula(colours())).max() <= 2
    assert np.abs(got.astype(int) - colours()).max() > 50  # saturated green is far outside


def test_profiles_that_mean_srgb_change_nothing():
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert np.array_equal(convert(with_profile(Image.fromarray(colours()), srgb)), colours())


def test_a_profile_comes_before_transparency_and_holds_for_palettes_too():
    profile = matrix_profile(ADOBE_RGB, ADOBE_GAMMA)
    alpha = np.full((12, 18), 128, dtype=np.uint8)
    got = convert(with_profile(Image.fromarray(np.dstack([colours(), alpha])), profile))
    expected = (by_formula(colours()) * 128 + 255 * 127) / 255
    assert np.abs(got - expected).max() <= 2
    palette = Image.fromarray(colours()).quantize(256)
    expected = by_formula(np.asarray(palette.convert("RGB")))
    assert np.abs(convert(with_profile(palette, profile)) - expected).max() <= 2


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_grey_profiles_and_profiles_of_another_kind_are_ignored(mode):
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    plain = Image.fromarray(colours()).convert(mode)
    for profile in (lab, matrix_profile(ADOBE_RGB, ADOBE_GAMMA)[:300], b"\0" * 500, "text", bytes(5 << 20)):
        assert np.array_equal(convert(with_profile(plain.copy(), profile)), convert(plain))


def test_grey_with_a_colour_profile_stays():
    grey = Image.fromarray(colours()[..., 0])
    got = convert(with_profile(grey, matrix_profile(ADOBE_RGB, ADOBE_GAMMA)), channels=1)
    assert np.array_equal(got, colours()[..., 0])


@pytest.mark.parametrize(
    ("white", "value", "expected"),
    [
        (65_535, 0, 0),
        (65_535, 65_535, 255),
        (65_535, 128, 0),  # 0.498
        (65_535, 129, 1),  # 0.502
        (65_535, 32_768, 128),  # 127.502
        (4095, 4095, 255),
        (4095, 2048, 128),  # 127.53
        (4095, 5000, 255),  # clipped
        (510, 1, 1),  # 0.5 exactly: upwards
        (510, 3, 2),  # 1.5
        (1, 1, 255),
    ],
)
@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I"])
def test_16_bit_grey_is_scaled_clipped_and_rounded(mode, white, value, expected):
    if mode == "I":
        image = Image.fromarray(np.array([[value]], dtype=np.int32))
    else:
        order = "big" if mode == "I;16B" else "little"
        image = Image.frombytes(mode, (1, 1), value.to_bytes(2, order))
    assert convert(image, channels=1, white=white).tolist() == [[expected]]
    assert convert(image, channels=3, white=white).tolist() == [[[expected] * 3]]


@pytest.mark.parametrize("value", [-1, 65_536])
def test_integers_beyond_16_bits_are_refused(value):
    with pytest.raises(BadImage, match=str(value)):
        convert(Image.fromarray(np.array([[0, value]], dtype=np.int32)))


def test_float_pixels_are_refused_even_within_0_and_1():
    with pytest.raises(BadImage, match="floating-point"):
        convert(Image.fromarray(np.array([[0.5]], dtype=np.float32)))


def test_premultiplied_alpha():
    """Half-transparent full red, stored as 128: on white it is (255, 127, 127)."""
    image = Image.frombytes("RGBa", (1, 1), bytes([128, 0, 0, 128]))
    assert convert(image).tolist() == [[[255, 127, 127]]]
    grey = Image.frombytes("La", (1, 1), bytes([0, 128]))  # black, half-transparent
    assert convert(grey, channels=1).tolist() == [[127]]


@pytest.mark.parametrize("mode", ["RGBX", "YCbCr", "HSV", "LAB", "CMYK", "1", "P", "PA"])
def test_every_other_mode_keeps_white_white(mode):
    white = Image.new("RGB", (4, 4), "white")
    image = white.convert("RGBA").convert(mode) if mode == "PA" else white.convert(mode)
    assert convert(image).min() >= 254
    assert convert(image).shape == (4, 4, 3)
    assert convert(image, channels=1).shape == (4, 4)


def test_colour_to_grey_is_itu_601():
    image = Image.fromarray(colours())
    expected = colours() @ np.array([0.299, 0.587, 0.114])
    assert np.abs(convert(image, channels=1) - expected).max() <= 0.51


def test_depth_and_scale_of_images_without_a_file():
    for mode, bits in (("1", 1), ("L", 8), ("RGB", 8), ("I;16", 16), ("I", 32), ("F", 32)):
        assert bits_per_channel(Image.new(mode, (1, 1))) == bits
    assert full_scale(Image.new("I;16", (1, 1)), 4095) == 4095
