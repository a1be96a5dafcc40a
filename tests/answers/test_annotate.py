import io
from dataclasses import replace

import numpy as np
import pytest
from answers.examples import bad, prediction, write_images
from PIL import Image

from recog.answers.annotate import Annotator, annotated, map_pictures, picture_names
from recog.answers.stream import Answer
from recog.core.errors import DataError


def answered(image, result, labels=None):
    return Answer(name=image.name, source=str(image), result=result, labels=result.labels if labels is None else labels)


def test_the_answer_stands_below_the_image_and_the_image_is_as_it_was(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(np.full((300, 400, 3), (200, 30, 30), np.uint8)).save(path)
    picture = Image.open(io.BytesIO(annotated(answered(path, prediction([0.7, 0.2, 0.1])))))
    assert picture.width == 400
    assert picture.height > 300
    above, below = np.asarray(picture)[:290], np.asarray(picture)[305:]
    assert np.abs(above.astype(int) - (200, 30, 30)).max() < 12  # JPEG
    assert (below < 90).all(axis=2).any()  # black letters


def test_each_answered_image_has_a_file_and_bad_ones_have_none(tmp_path):
    images = write_images(tmp_path, ["a.png", "b.png"])
    with Annotator(folder=tmp_path / "out", names=picture_names(["a.png", "bad.png", "b.JPG"])) as annotator:
        annotator.add(answered(images[0], prediction([0.1, 0.1, 0.8])))
        annotator.add(bad("bad.png"))
        annotator.add(answered(images[1], prediction([0.9, 0.05, 0.05]), labels=("unsure",)))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png.jpg", "b.JPG"]


def test_nothing_is_overwritten_and_an_error_leaves_nothing(tmp_path):
    (image,) = write_images(tmp_path, ["a.png"])
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "b.png.jpg").write_text("mine")

    def write():
        with Annotator(folder=tmp_path / "out", names=picture_names(["a.png", "b.png"])) as annotator:
            annotator.add(answered(image, prediction([0.1, 0.1, 0.8])))
            annotator.add(answered(image, prediction([0.1, 0.1, 0.8])))

    with pytest.raises(DataError, match="b.png.jpg exists already"):
        write()
    assert [(path.name, path.read_text()) for path in (tmp_path / "out").iterdir()] == [("b.png.jpg", "mine")]


def test_maps_stand_beside_the_image(tmp_path):
    """One panel for each label, as high as the image: 240 x 240 px, a gap of 8, 240 x 240 px, and so on."""
    (path,) = write_images(tmp_path, ["a.png"])
    seen = np.full((8, 8, 1), 90, np.uint8)
    maps = np.zeros((2, 2, 2), np.float32)
    maps[0, 0, 0] = maps[1, 1, 1] = 1
    result = prediction([0.9, 0.8, 0.1], preds=[1, 1, 0], task="multilabel")
    result = replace(result, maps=maps, seen=seen)
    picture = np.asarray(Image.open(io.BytesIO(annotated(answered(path, result)))).convert("RGB"))
    assert picture.shape[1] == 3 * 240 + 2 * 8
    first, second = picture[:240, 248:488].astype(int), picture[:240, 496:736].astype(int)
    yellow = [panel[:, :, :2].sum(axis=2) - panel[:, :, 2] for panel in (first, second)]
    assert np.unravel_index(yellow[0].argmax(), (240, 240)) < (60, 60)
    assert yellow[0][:60, :60].mean() > yellow[0][-60:, -60:].mean() + 50
    assert yellow[1][-60:, -60:].mean() > yellow[1][:60, :60].mean() + 50
    assert [label for label, _ in map_pictures(answered(path, result))] == ["cat", "=dog"]
    assert map_pictures(answered(path, prediction([0.9, 0.05, 0.05]))) == []
