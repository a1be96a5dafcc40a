import base64
import io

import numpy as np
import pytest
from PIL import Image

from recog.core.errors import ShapeError
from recog.report.page.thumbnails import THUMBNAIL_PX, thumbnail


def photo(height=300, width=400, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def opened(uri):
    head, _, data = uri.partition(";base64,")
    return head, Image.open(io.BytesIO(base64.b64decode(data, validate=True)))


def test_thumbnail_of_a_photo_is_a_small_jpeg():
    head, image = opened(thumbnail(photo(3000, 4000)))
    assert head == "data:image/jpeg"
    assert image.size == (THUMBNAIL_PX, THUMBNAIL_PX * 3 // 4)
    assert not image.getexif()
    assert set(image.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}


def test_thumbnail_of_a_tiny_image_keeps_every_pixel():
    tiny = photo(8, 8, 1)
    head, image = opened(thumbnail(tiny))
    assert head == "data:image/png"
    assert (np.asarray(image) == tiny[:, :, 0]).all()
    assert image.info == {}


def test_thumbnail_of_a_very_long_image():
    _, image = opened(thumbnail(photo(1, 5000)))
    assert image.size == (THUMBNAIL_PX, 1)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4, 3)),
        np.zeros((4, 4), dtype=np.uint8),
        np.zeros((4, 4, 2), dtype=np.uint8),
        np.zeros((0, 4, 3), dtype=np.uint8),
    ],
)
def test_thumbnail_refuses_what_is_no_image(image):
    with pytest.raises(ShapeError, match="expected uint8"):
        thumbnail(image)
