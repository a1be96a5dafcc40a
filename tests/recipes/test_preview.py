import numpy as np
import pytest
from PIL import Image

from recog.core.errors import DataError
from recog.core.preprocess import Preprocess
from recog.data.dataset import Dataset, Sample
from recog.data.policies import AugmentConfig
from recog.recipes.preview import draw_preview, preview


def make_dataset(count, split="train"):
    levels = (0, 200)
    samples = tuple(
        Sample(name=str(i), source=np.full((8, 8), levels[i % 2], dtype=np.uint8), labels=(i % 2,), split=split)
        for i in range(count)
    )
    return Dataset(name="toys", layout="", class_names=("dark", "light"), samples=samples)


@pytest.mark.parametrize("policy", ["none", "strong"])
def test_the_sheet_shows_32_images_enlarged(tmp_path, policy):
    path = tmp_path / "out.png"
    config = AugmentConfig(policy=policy, geometry="warp", mirror=False)
    draw_preview(make_dataset(50), config, path, preprocess=Preprocess(image_size=(8, 8), channels=1))
    sheet = Image.open(path)
    assert sheet.size == (8 * (96 + 4), 4 * (96 + 4 + 18))  # 8 px are shown twelvefold
    if policy == "none":
        cells = {sheet.getpixel((50 + 100 * column, 50)) for column in range(8)}
        assert cells == {(0, 0, 0), (200, 200, 200)}


def test_nothing_to_draw_is_an_error(tmp_path):
    config = AugmentConfig(policy="none", geometry="warp")
    with pytest.raises(DataError, match="no usable training image"):
        draw_preview(make_dataset(4, "test"), config, tmp_path / "x.png", preprocess=Preprocess(image_size=(8, 8)))
    assert not list(tmp_path.iterdir())


def test_the_preview_is_of_what_training_would_do(tmp_path):
    augment = preview("digits", tmp_path / "digits.png")
    assert (augment.policy, augment.geometry, augment.mirror) == ("standard", "warp", False)
    with Image.open(tmp_path / "digits.png") as sheet:
        # 8 px enlarged 12 times, 2 px of margin around and 18 px for the caption: 8 columns and 4 rows
        assert sheet.size == (8 * (96 + 4), 4 * (96 + 4 + 18))
