import numpy as np
import pytest
from PIL import Image

from recog.core.images.decode import decode
from recog.data.dataset import Sample
from recog.data.inspection import full_scale, highest_grey16, inspect_images


def write(path, levels):
    Image.fromarray(levels).save(path)
    return Sample(name=path.name, source=path, labels=(0,))


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_the_highest_level_of_all(tmp_path, suffix):
    samples = [
        write(tmp_path / f"a.{suffix}", np.array([[0, 1000]], np.uint16)),
        write(tmp_path / f"b.{suffix}", np.array([[7, 3987]], np.uint16)),
        write(tmp_path / "c.png", np.array([[0, 255]], np.uint8)),
        Sample(name="array", source=np.full((2, 2), 255, np.uint8), labels=(0,)),
        Sample(name="gone", source=tmp_path / "gone.png", labels=(0,)),
    ]
    assert highest_grey16(inspect_images(samples)) == 3987
    assert highest_grey16(inspect_images(samples[2:])) is None


def test_a_pgm_says_its_maximum_itself(tmp_path):
    """Its header's maximum is what white is, and the decoder follows it: it must not take part in the search."""
    path = tmp_path / "a.pgm"
    path.write_bytes(b"P5 2 1 1000\n" + np.array([0, 1000], ">u2").tobytes())
    assert highest_grey16(inspect_images([Sample(name="a", source=path, labels=(0,))])) is None
    assert decode(path, channels=1, grey16_max=4095).max() == 255


@pytest.mark.parametrize(
    ("level", "white"),
    [(0, 255), (255, 255), (256, 511), (3987, 4095), (4095, 4095), (4096, 8191), (65535, 65535)],
)
def test_full_scale_is_all_bits_set(level, white):
    assert full_scale(level) == white


def test_the_scale_is_found_in_train_and_stored(tmp_path):
    """12-bit levels: 4,095 becomes white, in Preprocess and so in the bundle."""
    from recog.recipes.config import ComputeConfig, DataConfig, TrainConfig
    from recog.recipes.prepare import prepare
    from recog.training.config import OptimConfig

    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for i in range(8):
            levels = rng.integers(0, 3000, (8, 8), dtype=np.uint16)
            levels[0, 0] = 3500
            write(tmp_path / name / f"{i}.png", levels)
    config = TrainConfig(
        recipe="scratch",
        data=DataConfig(source=str(tmp_path)),
        optim=OptimConfig(epochs=1),
        compute=ComputeConfig(num_threads=1),
    )
    prepared = prepare(config)
    assert prepared.model.preprocess.grey16_max == 4095
    assert prepared.plan.data.grey16_max == 4095
    assert prepared.val.store[0][0, 0, 0] == round(3500 * 255 / 4095)
    assert any("level 4,095 becomes white" in note for note in prepared.notes)
