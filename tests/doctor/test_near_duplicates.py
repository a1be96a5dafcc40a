import numpy as np
import pytest
from PIL import Image, ImageFilter

from recog.doctor.features import Neighbours
from recog.doctor.near_duplicates import (
    FLIPS,
    MAX_ALIGNED,
    best_alignment,
    find_near_duplicates,
    flipped,
    hash_pairs,
    hash_variants,
)
from recog.doctor.traits import THUMBNAIL_PX


def picture(seed, size=(200, 150)):
    """Smooth blobs with edges: noise, blurred and stretched over all levels."""
    pixels = np.random.default_rng(seed).integers(0, 256, size[::-1], dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(6)), dtype=np.float64)
    scaled = (smooth - smooth.min()) / np.ptp(smooth)
    return Image.fromarray(np.uint8(255 * (scaled > 0.5) * 0.7 + 76 * scaled))


def thumbnail(image):
    return np.asarray(image.resize((THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.BOX))


def test_hashes_of_a_flipped_image_are_those_of_the_flipped_coefficients():
    image = thumbnail(picture(0))
    for number, flip in enumerate(FLIPS):
        turned = np.ascontiguousarray(flipped(image, flip))
        apart = int(np.bitwise_count(hash_variants(image[None])[number, 0] ^ hash_variants(turned[None])[0, 0]))
        assert apart <= 1, flip  # a coefficient may be 0 but for rounding


def test_eight_flips_are_all_the_symmetries_of_a_square():
    image = np.arange(9, dtype=np.uint8).reshape(3, 3)
    turned = {flipped(image, flip).tobytes() for flip in FLIPS}
    rotated = {np.rot90(part, k).tobytes() for part in (image, image.T) for k in range(4)}
    assert turned == rotated
    assert len(turned) == 8


def test_hash_pairs_find_turned_copies_and_nothing_else():
    images = [thumbnail(picture(seed)) for seed in range(30)]
    copies = [np.ascontiguousarray(np.rot90(images[3])), images[5][:, ::-1], images[7]]
    assert set(hash_pairs(np.stack([*images, *copies]))) == {(3, 30), (5, 31), (7, 32)}


def test_blank_images_are_no_pairs_and_of_too_many_pairs_the_nearest_are_kept():
    assert hash_pairs(np.full((300, THUMBNAIL_PX, THUMBNAIL_PX), 9, np.uint8)) == {}
    alike = np.repeat(thumbnail(picture(0))[None], 70, axis=0)  # 2,415 pairs
    assert len(hash_pairs(alike)) == MAX_ALIGNED
    assert set(hash_pairs(alike).values()) == {0}


CHANGES = {
    "crop": lambda image: image.crop((20, 10, 170, 130)),
    "rotation": lambda image: image.rotate(25, resample=Image.Resampling.BICUBIC),
    "brightness": lambda image: image.point(lambda level: level * 0.6),
    "aspect": lambda image: image.resize((200, 90)),
    "small": lambda image: image.resize((60, 45)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_aligns_and_another_picture_does_not(change):
    image = picture(1)
    changed = CHANGES[change](image)
    aspect = changed.width / changed.height
    assert best_alignment(thumbnail(image), thumbnail(changed), aspect) > 0.75
    assert best_alignment(thumbnail(picture(2)), thumbnail(changed), aspect) < 0.65


def test_a_blank_image_matches_nothing():
    blank = np.full((THUMBNAIL_PX, THUMBNAIL_PX), 7, np.uint8)
    assert best_alignment(blank, blank, 1.0) == 0
    assert best_alignment(thumbnail(picture(0)), blank, 1.0) == 0


def test_pairs_are_proposed_by_hash_or_by_features_and_confirmed_by_their_edges():
    """Images 0 to 5 differ, 6 is a part of 0 and 7 equals 1; each has the others as neighbours, in the order of their numbers."""
    pictures = [picture(seed) for seed in range(6)]
    pictures += [CHANGES["crop"](pictures[0]), pictures[1]]
    cosines = np.full((8, 7), 0.3, dtype=np.float32)
    rows = np.array([[j for j in range(8) if j != i] for i in range(8)])
    rows[0], rows[6] = [6, 1, 2, 3, 4, 5, 7], [0, 1, 2, 3, 4, 5, 7]
    cosines[[0, 6], 0] = 0.8
    aspects = [image.width / image.height for image in pictures]
    *_, matches = find_near_duplicates(
        np.stack([thumbnail(image) for image in pictures]), aspects, Neighbours(rows=rows, cosines=cosines)
    )
    assert [(match.first, match.second) for match in matches] == [(0, 6), (1, 7)]
    assert matches[1].similarity == pytest.approx(1, abs=1e-3)


def test_images_that_all_resemble_each_other_are_no_copies():
    """Bars of one form at nearly one place, and a copy of the first."""
    images = np.zeros((12, THUMBNAIL_PX, THUMBNAIL_PX), np.uint8)
    for i in range(11):
        images[i, 10 + i % 4 : 50 + i % 3, 28 + i % 5 : 36 + i % 6] = 200
    images[11] = images[0]
    rows = np.array([[j for j in range(12) if j != i] for i in range(12)])
    cosines = np.full(rows.shape, 0.95, dtype=np.float32)
    rows[0], rows[11] = [11, *range(1, 11)], range(11)
    cosines[[0, 11], 0] = 1.0
    *_, matches = find_near_duplicates(images, [1.0] * 12, Neighbours(rows=rows, cosines=cosines))
    assert [(match.first, match.second) for match in matches] == [(0, 11)]
