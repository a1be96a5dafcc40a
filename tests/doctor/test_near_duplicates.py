import numpy as np
from doctor_pictures import colours, drawing, picture, thumbnail
from PIL import Image
from sklearn.datasets import load_digits

from recog.doctor import near_duplicates
from recog.doctor.features import nearest_neighbours
from recog.doctor.near_duplicates import (
    FLIPS,
    MAX_HASHED,
    find_near_duplicates,
    flipped,
    hash_pairs,
    hash_variants,
)
from recog.doctor.traits import THUMBNAIL_PX


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
    alike = np.repeat(thumbnail(picture(0))[None], 150, axis=0)  # 11,175 pairs
    assert len(hash_pairs(alike)) == MAX_HASHED
    assert set(hash_pairs(alike).values()) == {0}


def compared_in(images):
    """Of `images`, whose features are their pixels."""
    grey = np.stack([thumbnail(image) for image in images])
    pixels = grey.reshape(len(grey), -1).astype(np.float32)
    *_, neighbours = nearest_neighbours(pixels - pixels.mean(axis=0), 5)
    colour = np.stack([colours(image) for image in images])
    *_, compared = find_near_duplicates(grey, colour, [image.size for image in images], neighbours)
    return compared


def found_in(images):
    """{pair: similarity} among `images`."""
    compared = compared_in(images)
    return {(match.first, match.second): match.similarity for match in compared.matches}


def test_pairs_that_were_not_compared_for_time_are_counted(monkeypatch):
    """Eight images and their cropped copies, all of which the features propose: only one pair is warped."""
    monkeypatch.setattr(near_duplicates, "MAX_ALIGNED", 1)
    pictures = [picture(seed) for seed in range(8)]
    compared = compared_in([*pictures, *(image.crop((6, 4, 196, 146)) for image in pictures)])
    assert len(compared.matches) <= 1
    assert compared.num_left_out >= 7
    assert compared.num_pairs >= compared.num_left_out + 1


def test_changed_copies_are_found_by_their_details():
    pictures = [picture(seed) for seed in range(6)]
    copies = [pictures[0].crop((6, 4, 196, 146)), pictures[1], pictures[2].rotate(90, expand=True)]
    found = found_in([*pictures, *copies])
    assert set(found) == {(0, 6), (1, 7), (2, 8)}
    assert found[1, 7] == 1


def test_of_drawings_only_equal_ones_are_found():
    """Discs, squares and triangles at many places, in two colours: some differ by a few px, some in the colour alone."""
    rng = np.random.default_rng(0)
    drawings = []
    for i in range(48):
        shape, colour = ("disc", "square", "triangle")[i % 3], ("red", "navy")[i % 2]
        place = tuple(rng.uniform(40, 88, 2))
        drawings.append(drawing(shape, rng.uniform(15, 40), place, colour))
    drawings += [drawing("disc", 30, (64, 64), "red"), drawing("disc", 30, (64, 64), "green")]
    drawings += [drawing("disc", 30, (66, 64), "red"), drawing("disc", 31.5, (64, 64), "red")]
    copies = [drawings[3].transpose(Image.Transpose.FLIP_LEFT_RIGHT), drawings[7].resize((100, 100)), drawings[11]]
    assert set(found_in([*drawings, *copies])) == {(3, 52), (7, 53), (11, 54)}


def test_copies_of_images_of_32_px_are_found():
    small = [picture(seed).resize((32, 32)) for seed in range(8)]
    copies = [
        small[0].resize((19, 19)),
        small[1].resize((32, 22)),
        small[2].crop((0, 1, 31, 32)),
        small[3].point(lambda v: v * 0.7),
    ]
    assert set(found_in([*small, *copies])) == {(0, 8), (1, 9), (2, 10), (3, 11)}


def test_of_images_that_resemble_each_other_anyhow_only_equal_ones_are_found():
    """Handwritten digits enlarged to 64 px, each with two others that are the same digit, scaled and moved."""
    digits = [
        Image.fromarray(np.uint8(image * 15)).resize((64, 64)).convert("RGB") for image in load_digits().images[:60]
    ]
    copies = [digits[4].resize((50, 50)), digits[9].transpose(Image.Transpose.FLIP_LEFT_RIGHT)]
    assert set(found_in([*digits, *copies])) == {(4, 60), (9, 61)}


def test_blank_images_are_no_copies():
    blank = [Image.new("RGB", (80, 80), (level, level, level)) for level in (0, 0, 1, 200)]
    assert found_in([*blank, picture(0), picture(1)]) == {}
