import numpy as np
import pytest
from doctor_pictures import drawing, picture, thumbnail
from PIL import Image, ImageDraw

from recog.doctor.alignment import align, count_details, edges_of

CHANGES = {
    "crop": lambda image: image.crop((20, 10, 170, 130)),
    "rotation": lambda image: image.rotate(25, resample=Image.Resampling.BICUBIC),
    "brightness": lambda image: image.point(lambda level: level * 0.6),
    "aspect": lambda image: image.resize((200, 90)),
    "small": lambda image: image.resize((60, 45)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_agrees_in_its_details_and_another_picture_does_not(change):
    image = picture(1)
    changed = CHANGES[change](image)
    aspect, short_side = changed.width / changed.height, min(changed.size)
    found = align(thumbnail(image), thumbnail(changed), aspect, short_side)
    assert found.similarity > 0.9
    assert found.matched > 0.9
    other = align(thumbnail(picture(2)), thumbnail(changed), aspect, short_side)
    assert other.similarity < 0.7
    assert other.matched < 0.7


def test_a_warp_within_the_steps_of_the_search_is_found():
    """By 11 degrees and a scale of 1.06, between the rotations and scales that are searched: the refinement finds the rest."""
    image = picture(3, size=(200, 200))
    turned = image.rotate(11, resample=Image.Resampling.BICUBIC).crop((6, 6, 194, 194))
    assert align(thumbnail(image), thumbnail(turned), 1.0, 188).similarity > 0.95


def test_drawings_of_one_shape_are_alike_but_have_few_details():
    """Why `similarity` alone tells nothing of drawings: one disc, scaled and moved, is the other."""
    discs = [drawing("disc", 20, (64, 64)), drawing("disc", 34, (50, 70))]
    assert align(thumbnail(discs[0]), thumbnail(discs[1]), 1.0, 128).similarity > 0.9
    for shape in ("disc", "square", "triangle"):
        for radius in (15, 30, 45):
            assert count_details(thumbnail(drawing(shape, radius, (64, 64))), 128) < 30
    assert count_details(thumbnail(picture(0)), 150) > 80


def test_the_pixels_of_an_enlarged_image_are_no_details():
    enlarged = thumbnail(picture(0).resize((8, 8)))
    assert count_details(enlarged, 8) < count_details(enlarged, 64) / 2


def test_a_blank_image_agrees_with_nothing():
    blank = np.full((64, 64), 7, np.uint8)
    assert align(blank, blank, 1.0, 64).similarity == 0
    assert align(thumbnail(picture(0)), blank, 1.0, 64).similarity == 0
    assert count_details(blank, 64) == 0
    assert not edges_of(blank, 32).any()


def test_a_line_is_no_detail_and_a_corner_is_one():
    """The gradients of a line point one way; about the corner of a square, two ways: 2 x 2 windows hold each of four corners."""
    line = Image.new("L", (64, 64), 50)
    ImageDraw.Draw(line).rectangle((0, 0, 30, 63), fill=200)
    assert count_details(np.asarray(line), 64) == 0
    square = Image.new("L", (64, 64), 50)
    ImageDraw.Draw(square).rectangle((18, 18, 45, 45), fill=200)
    assert 4 <= count_details(np.asarray(square), 64) <= 4 * 9
