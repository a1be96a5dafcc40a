import json

import numpy as np
import pytest
from PIL import Image

from recog.core.errors import ConfigError, DataError
from recog.evaluation.report import Report
from recog.recipes.evaluate import evaluate


@pytest.fixture
def pictures(tmp_path):
    """40 images of two digits: those of camera b are larger and brighter."""
    for digit in ("3", "7"):
        for camera, side, level in (("a", 8, 40), ("b", 16, 200)):
            folder = tmp_path / "pictures" / digit / camera
            folder.mkdir(parents=True)
            for i in range(10):
                Image.fromarray(np.full((side, side), level + i, dtype=np.uint8)).save(folder / f"{i}.png")
    return tmp_path / "pictures"


def test_size_brightness_and_folder(bundle, pictures, tmp_path):
    result = evaluate(bundle, pictures, out=tmp_path / "out", slice_by=["size", "brightness", "source-folder", "size"])
    by_size, by_brightness, by_folder = result.report.slices
    assert {(part.name, part.num_images) for part in by_size.slices} == {("64 px", 20), ("256 px", 20)}
    assert {part.name for part in by_brightness.slices} == {
        "40 to 44 of 255", "45 to 49 of 255", "200 to 204 of 255", "205 to 209 of 255",
    }  # fmt: skip
    assert {part.name for part in by_folder.slices} == {"3/a", "3/b", "7/a", "7/b"}
    assert sum(part.num_correct for part in by_folder.slices) == result.report.num_correct
    table = json.loads((tmp_path / "out" / "report.json").read_text())
    assert Report.from_dict(table) == result.report
    assert "Slices" in (tmp_path / "out" / "report.html").read_text()


def test_an_unknown_property_is_refused_before_any_work():
    with pytest.raises(ConfigError, match="cannot be sliced by 'brigthness'. Did you mean 'brightness'"):
        evaluate("no such bundle", "nor data", slice_by=["brigthness"])


def test_images_of_one_size_cannot_be_sliced_by_size(bundle):
    with pytest.raises(DataError, match="all 1797 images have the same size, 64 px"):
        evaluate(bundle, "digits", slice_by=["size"])
