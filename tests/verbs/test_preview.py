import numpy as np
import pytest
from PIL import Image

from recog.core.errors import DataError
from recog.core.preprocess import Preprocess
from recog.data.augment.policies import AugmentConfig
from recog.data.dataset import Dataset, Sample
from recog.recipes.config import TrainConfig
from recog.verbs.preview import draw_preview, preview


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


def test_16_bit_images_are_as_bright_as_in_training(tmp_path):
    """Of a camera of 12 bits, level 4,095 is white; over all 16 bits it would be 16 of 255, nearly black."""
    for name, level in (("dark", 0), ("light", 4095)):
        for i in range(4):
            pixels = np.full((8, 8), level, dtype=np.uint16)
            pixels[0, i] = 2000
            (tmp_path / "data" / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / "data" / name / f"{i}.png")
    config = TrainConfig(augment=AugmentConfig(policy="none", geometry="warp", mirror=False))
    preview(tmp_path / "data", tmp_path / "out.png", config)
    with Image.open(tmp_path / "out.png") as sheet:
        assert {sheet.getpixel((50 + 100 * column, 90)) for column in range(8)} == {(0, 0, 0), (255, 255, 255)}
