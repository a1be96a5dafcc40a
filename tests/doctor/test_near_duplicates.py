import numpy as np
import pytest
from PIL import Image, ImageFilter

from recog.doctor.features import Neighbours
from recog.doctor.near_duplicates import (
    FLIPS,
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
    original, other = picture(1), picture(2)
    images = np.stack([thumbnail(each) for each in (original, CHANGES["crop"](original), other, other)])
    neighbours = Neighbours(
        rows=np.array([[1, 2], [0, 3], [0, 1], [1, 0]]),
        cosines=np.array([[0.8, 0.9], [0.8, 0.7], [0.9, 0.6], [0.7, 0.6]], dtype=np.float32),
    )
    *progress, matches = find_near_duplicates(images, [4 / 3, 150 / 120, 4 / 3, 4 / 3], neighbours)
    assert progress[-1][0] == progress[-1][1] == 6  # five by features, (2, 3) by its hash
    assert [(match.first, match.second) for match in matches] == [(0, 1), (2, 3)]
    assert matches[1].similarity == pytest.approx(1, abs=1e-3)
