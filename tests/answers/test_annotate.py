import io

import numpy as np
import pytest
from answers.examples import bad, prediction, write_images
from PIL import Image

from recog.answers.annotate import Annotator, annotated, picture_names
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
