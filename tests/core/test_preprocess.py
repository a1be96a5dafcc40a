"""Preprocess against timm's own evaluation transform, bit for bit, and its refusals."""

from __future__ import annotations

import dataclasses
import io
import json

import numpy as np
import pytest
from PIL import Image

from recog.core.errors import BadImage, BundleError, ConfigError, ShapeError
from recog.core.images.decode import ImageLimits, decode
from recog.core.preprocess import CROP_MODES, INTERPOLATIONS, Preprocess
from recog.core.records import convert_record

# wide, tall, square, odd, smaller than every crop below in one or both sides, one pixel, lines
IMAGE_SIZES = ((61, 97), (97, 61), (64, 64), (33, 90), (20, 24), (1, 1), (1, 70), (70, 2))  # (height, width)
GREY = (128, 128, 128)  # timm's border for a mean of one half: round(255 * 0.5), half to even


def random_image(height, width, channels=3):
    return np.random.default_rng((height, width)).integers(0, 256, (height, width, channels), dtype=np.uint8)


def timm_transform(image_size, **settings):
    half = (0.5, 0.5, 0.5)
    return pytest.importorskip("timm.data").create_transform(
        (3, *image_size), is_training=False, mean=half, std=half, normalize=False, **settings
    )


def by_timm(image, image_size, **settings):
    return timm_transform(image_size, **settings)(Image.fromarray(image)).permute(1, 2, 0).numpy()


def rounds_to_nothing(size, image_size, crop_pct):
    """Whether 'border' scales the shorter side of an image to less than half a pixel, where timm fails."""
    scaled = [side / crop_pct for side in image_size]
    return min(size) / max(size[0] / scaled[0], size[1] / scaled[1]) < 1


@pytest.mark.parametrize("crop_mode", CROP_MODES)
@pytest.mark.parametrize("image_size", [(32, 32), (33, 33), (28, 41), (48, 20)])
@pytest.mark.parametrize("crop_pct", [1.0, 0.95, 0.9, 0.875])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_equals_timms_evaluation_transform(crop_mode, image_size, crop_pct, interpolation):
    settings = {"crop_mode": crop_mode, "crop_pct": crop_pct, "interpolation": interpolation}
    ours = Preprocess(image_size=image_size, fill=GREY, **settings)
    for size in IMAGE_SIZES:
        if crop_mode == "border" and rounds_to_nothing(size, image_size, crop_pct):
            continue
        image = random_image(*size)
        got = ours(image)
        assert got.dtype == np.uint8
        assert np.array_equal(got, by_timm(image, image_size, **settings)), size


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_every_interpolation_equals_timms(interpolation):
    image = random_image(61, 97)
    ours = Preprocess(image_size=(32, 32), crop_pct=0.9, interpolation=interpolation)
    assert np.array_equal(ours(image), by_timm(image, (32, 32), crop_pct=0.9, interpolation=interpolation))


def test_random_settings_equal_timms():
    """400 draws over modes, filters, odd and tiny sizes, one and three channels, and scaled images smaller than the crop."""
    rng = np.random.default_rng(2024)
    for _ in range(400):
        size = tuple(int(side) for side in rng.integers(2, 70, 2))
        channels, crop_pct = int(rng.choice([1, 3])), float(rng.uniform(0.3, 1.6))
        image_size = (size[0], size[0]) if rng.random() < 0.5 else size
        settings = {"crop_mode": str(rng.choice(CROP_MODES)), "interpolation": str(rng.choice(list(INTERPOLATIONS)))}
        image = random_image(*(int(side) for side in rng.integers(1, 150, 2)), channels)
        if settings["crop_mode"] == "border" and rounds_to_nothing(image.shape[:2], image_size, crop_pct):
            continue
        fill = tuple(int(value) for value in rng.integers(0, 256, channels))
        mean = tuple(value / 255 for value in fill)
        theirs = pytest.importorskip("timm.data").create_transform(
            (channels, *image_size),
            is_training=False,
            mean=mean,
            std=mean,
            normalize=False,
            crop_pct=crop_pct,
            **settings,
        )
        expected = theirs(Image.fromarray(image[..., 0] if channels == 1 else image)).permute(1, 2, 0).numpy()
        ours = Preprocess(image_size=image_size, channels=channels, crop_pct=crop_pct, fill=fill, **settings)
        assert np.array_equal(ours(image), expected), (ours, image.shape)


def test_equals_timms_at_a_networks_true_size():
    image = random_image(375, 500)
    ours = Preprocess(image_size=(224, 224), crop_pct=0.875)
    assert np.array_equal(ours(image), by_timm(image, (224, 224), crop_pct=0.875, interpolation="bicubic"))


@pytest.mark.parametrize("crop_mode", CROP_MODES)
def test_one_channel_equals_any_channel_of_a_grey_image_in_colour(crop_mode):
    grey = random_image(61, 97, 1)
    settings = {"image_size": (28, 41), "crop_pct": 0.9, "crop_mode": crop_mode}
    one = Preprocess(channels=1, fill=(128,), **settings)(grey)
    three = Preprocess(fill=GREY, **settings)(np.repeat(grey, 3, axis=2))
    assert one.shape == (28, 41, 1)
    assert np.array_equal(np.repeat(one, 3, axis=2), three)


def test_an_image_smaller_than_the_crop_is_centred_with_the_odd_pixel_below_and_right():
    """A white 2 x 4 image at crop_pct 1, border, 5 x 4: nothing to scale, three rows to fill, one above and two below."""
    white = np.full((2, 4, 3), 255, np.uint8)
    got = Preprocess(image_size=(5, 4), crop_mode="border", fill=(1, 2, 3))(white)
    assert (got[1:3] == 255).all()
    assert (got[[0, 3, 4]] == [1, 2, 3]).all()


@pytest.mark.parametrize("crop_mode", CROP_MODES)
@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1)])
def test_extreme_shapes_keep_their_one_colour(crop_mode, size):
    """Whatever filter is used, of one colour only that colour can come: here at least the middle pixel has it."""
    image = np.full((*size, 3), (10, 200, 90), np.uint8)
    got = Preprocess(image_size=(33, 33), crop_mode=crop_mode, crop_pct=0.9)(image)
    assert got.shape == (33, 33, 3)
    assert got[16, 16].tolist() == [10, 200, 90]


def test_a_line_that_would_fill_the_memory_is_refused_by_name():
    """1 x 16,384 scaled to 224 rows is 224 x 3,670,016: 822 million pixels."""
    line = Image.new("RGB", (16_384, 1))
    with pytest.raises(BadImage, match=r"^line\.png: .*3670016"):
        Preprocess(image_size=(224, 224)).read(line, name="line.png")


def test_the_result_is_its_own_memory_and_the_input_stays():
    image = random_image(32, 32)
    before = image.copy()
    got = Preprocess(image_size=(32, 32))(image)
    assert np.array_equal(got, image)
    got[:] = 0
    assert np.array_equal(image, before)


def test_read_is_decode_then_call():
    file = io.BytesIO()
    Image.fromarray(random_image(61, 97)).save(file, "PNG")
    preprocess = Preprocess(image_size=(32, 32), crop_pct=0.9)
    assert np.array_equal(preprocess.read(file.getvalue()), preprocess(decode(file.getvalue())))


def test_read_reduces_a_large_jpeg_but_never_below_twice_the_scaled_size():
    """1600 x 1200 to 64 / 1.0: a shorter side of 128 or more is wanted; 1200 / 8 = 150 is, so 200 x 150 is what is scaled."""
    file = io.BytesIO()
    Image.fromarray(random_image(1200, 1600)).save(file, "JPEG")
    preprocess = Preprocess(image_size=(64, 64))
    reduced = Image.open(io.BytesIO(file.getvalue()))
    reduced.draft(None, (200, 150))
    assert reduced.size == (200, 150)
    assert np.array_equal(preprocess.read(file.getvalue()), preprocess(np.array(reduced)))


def test_read_refuses_what_the_limits_do_not_allow():
    image = random_image(10, 11)
    assert Preprocess(image_size=(4, 4), limits=ImageLimits(max_pixels=110)).read(image).shape == (4, 4, 3)
    with pytest.raises(BadImage, match="11 x 10 pixels, 110 in all; the limit is 109"):
        Preprocess(image_size=(4, 4), limits=ImageLimits(max_pixels=109)).read(image)


def test_read_names_the_bad_file(tmp_path):
    path = tmp_path / "no.jpg"
    path.write_bytes(b"no image")
    with pytest.raises(BadImage) as caught:
        Preprocess(image_size=(32, 32)).read(path)
    assert caught.value.name == str(path)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 1), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((1, 8, 8, 3), np.uint8),
        np.zeros((8, 8, 3), np.float32),
        np.zeros((8, 8, 3), np.int64),
        np.zeros((0, 8, 3), np.uint8),
    ],
    ids=lambda image: f"{image.shape} {image.dtype}",
)
def test_another_shape_or_dtype_is_refused(image):
    with pytest.raises(ShapeError, match=r"expected uint8 \(H, W, 3\)"):
        Preprocess(image_size=(32, 32))(image)


IMPOSSIBLE = {
    "one side": {"image_size": (32,)},
    "three sides": {"image_size": (3, 32, 32)},
    "no pixel": {"image_size": (0, 32)},
    "negative": {"image_size": (32, -1)},
    "channels": {"channels": 2},
    "interpolation": {"interpolation": "bicubik"},
    "crop_pct 0": {"crop_pct": 0.0},
    "crop_pct negative": {"crop_pct": -0.5},
    "crop_pct NaN": {"crop_pct": float("nan")},
    "crop_pct infinite": {"crop_pct": float("inf")},
    "crop_mode": {"crop_mode": "centre"},
    "fill too long": {"crop_mode": "border", "fill": (1, 2)},
    "fill too bright": {"crop_mode": "border", "fill": (0, 0, 256)},
    "grey16_max 0": {"grey16_max": 0},
    "grey16_max too high": {"grey16_max": 65_536},
}


@pytest.mark.parametrize("settings", IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_an_impossible_setting_is_refused_by_name(settings):
    field = list(settings)[-1]
    with pytest.raises(ConfigError, match=field):
        Preprocess(**{"image_size": (32, 32), **settings})


def from_json(table):
    """As `recog.json` is read."""
    return convert_record(json.loads(json.dumps(table)), Preprocess, where="recog.json", closed=True)


@pytest.mark.parametrize("settings", IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_an_impossible_setting_in_a_bundle_is_the_bundles_error(settings):
    table = Preprocess(image_size=(32, 32)).to_dict() | settings
    with pytest.raises(BundleError, match=list(settings)[-1]):
        from_json(table)


@pytest.mark.parametrize(
    "preprocess",
    [
        Preprocess(image_size=(32, 32)),
        Preprocess(
            image_size=(28, 41),
            channels=1,
            interpolation="lanczos",
            crop_pct=0.1 + 0.2,
            crop_mode="border",
            fill=(7,),
            grey16_max=4095,
            limits=ImageLimits(max_pixels=60_000_000),
        ),
    ],
)
def test_json_and_back_is_the_same(preprocess):
    assert from_json(preprocess.to_dict()) == preprocess


def test_to_dict_holds_every_field():
    assert set(Preprocess(image_size=(32, 32)).to_dict()) == {f.name for f in dataclasses.fields(Preprocess)}


@pytest.mark.parametrize(
    "change",
    [
        {"colour_space": "lab"},  # of a newer release: to ignore it would be to answer differently in silence
        {"image_size": None},
        {"image_size": 32},
        {"image_size": "32"},
        {"image_size": [32.5, 32]},
        {"crop_pct": "1"},
        {"channels": True},
    ],
    ids=str,
)
def test_reading_it_refuses_what_it_does_not_know(change):
    table = Preprocess(image_size=(32, 32)).to_dict() | change
    with pytest.raises(BundleError, match=next(iter(change))):
        from_json(table)


@pytest.mark.parametrize("table", [{}, {"channels": 3}, [], None, "x"], ids=str)
def test_reading_it_refuses_what_has_no_size(table):
    with pytest.raises(BundleError):
        from_json(table)


def test_it_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Preprocess(image_size=(32, 32)).channels = 1
