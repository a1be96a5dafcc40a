import io

import numpy as np
import pytest
from PIL import Image, ImageFilter

from recog.core.images.decode import probe
from recog.doctor.traits import jpeg_quality, measure_traits


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def traits(image, kind="PNG", **options):
    content = encoded(image, kind, **options)
    return measure_traits(Image.open(io.BytesIO(content)).convert("RGB"), probe(content), content)


def noise(size=(120, 80)):
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), dtype=np.uint8))


@pytest.mark.parametrize("quality", [1, 10, 30, 50, 75, 90, 95, 100])
def test_jpeg_quality_is_what_pillow_was_asked_for(quality):
    """libjpeg rounds each entry of the table, so that qualities near 1 and 100 cannot be told exactly."""
    assert jpeg_quality(encoded(noise(), "JPEG", quality=quality)) == pytest.approx(quality, abs=1)


def test_no_jpeg_has_no_quality():
    assert jpeg_quality(encoded(noise())) is None
    assert jpeg_quality(b"") is None
    assert jpeg_quality(b"\xff\xd8\xff\xdb\x00") is None
    assert jpeg_quality(b"\xff\xd8\xff\xff\xff") is None
    assert jpeg_quality(b"\xff\xd8\xff\xe0\x00\x00" + b"\xff" * 9) is None  # a segment without its own length


def test_exposure_and_size():
    black, white = (traits(Image.new("RGB", (40, 20), colour)) for colour in ("black", "white"))
    assert (black.brightness, black.dark_share, black.bright_share) == (0, 1, 0)
    assert (white.brightness, white.dark_share, white.bright_share) == (1, 0, 1)
    assert (black.width, black.height, black.format, black.contrast, black.num_colours) == (40, 20, "PNG", 0, 1)
    assert black.thumbnail.shape == (64, 64)


def test_border_is_the_area_of_uniform_rows_and_columns():
    image = Image.new("RGB", (100, 50), "black")
    image.paste(noise((60, 40)), (20, 5))
    assert traits(image).border_share == pytest.approx(1 - 60 * 40 / (100 * 50))
    assert traits(noise()).border_share == 0
    assert traits(Image.new("RGB", (9, 9))).border_share == 1


def test_a_blurred_image_is_less_sharp_and_a_sharp_part_is_enough():
    blurred = noise().filter(ImageFilter.GaussianBlur(4))
    partly = blurred.copy()
    partly.paste(noise((48, 80)), (0, 0))
    assert traits(blurred).sharpness < 0.1 * traits(noise()).sharpness
    assert traits(partly).sharpness > 0.5 * traits(noise()).sharpness
    assert traits(Image.new("RGB", (2, 2))).sharpness == 0


def test_levels_of_a_mask():
    pixels = np.zeros((40, 40, 3), np.uint8)
    pixels[10:30, 10:30] = 200
    assert traits(Image.fromarray(pixels)).num_colours == 2
    assert traits(noise()).num_colours > 15


def test_a_colourful_drawing_is_counted_by_colours_not_by_their_brightness():
    colours = [
        (255, 0, 0),
        (0, 130, 0),
        (0, 0, 255),
        (76, 76, 76),
        (200, 40, 40),
        (30, 90, 120),
    ]  # L = 0.299 R + 0.587 G + 0.114 B
    pixels = np.repeat(np.array(colours, np.uint8)[:, None, None], 8, axis=1).repeat(8, axis=2).reshape(-1, 8, 3)
    assert traits(Image.fromarray(pixels)).num_colours == len(colours)
    grey = Image.fromarray(pixels).convert("L").convert("RGB")
    assert traits(grey).num_colours < len(colours)


def test_pixels_without_a_file():
    pixels = np.full((6, 8, 3), 90, np.uint8)
    found = measure_traits(Image.fromarray(pixels), probe(pixels), pixels)
    assert (found.num_bytes, found.jpeg_quality, found.width) == (144, None, 8)
