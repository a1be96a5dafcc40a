from pathlib import Path

import numpy as np
import pytest

from recog.core.errors import ConfigError
from recog.runtime.engine import Outputs
from recog.runtime.predictor import load
from recog.runtime.views import ViewsEngine

GOLDEN = Path(__file__).parents[1] / "golden"


class CornerEngine:
    """Logits: the levels of the upper left and of the upper right pixel. Keeps the batches."""

    class_names, num_classes, image_shape = ("left", "right"), 2, (4, 4, 1)

    def __init__(self):
        self.batches = []

    def __call__(self, images):
        self.batches.append(images)
        logits = images[:, 0, [0, -1], 0].astype(np.float32)
        return Outputs(logits=logits, features=2 * logits)


def numbered(first=0):
    """The levels first, first + 1, ... row by row."""
    return np.arange(first, first + 16, dtype=np.uint8).reshape(1, 4, 4, 1)


def probs_of(logits):
    """Of an engine whose first logit is its confidence in percent."""
    return np.stack([logits[:, 0] / 100, 1 - logits[:, 0] / 100], axis=1).astype(np.float64)


def test_mirror_views_are_averaged():
    engine = ViewsEngine(CornerEngine(), "mirror", probs_of)
    outputs = engine(numbered())
    np.testing.assert_allclose(outputs.logits, [[1.5, 1.5]])  # corners 0 and 3, then 3 and 0
    np.testing.assert_allclose(outputs.features, [[3, 3]])
    assert engine.price == "views: 2 passes per image"


def test_shifted_views_by_hand():
    """A shift is one pixel of 4. The image has 0 and 3 in its upper corners; shifted to the upper left, where the pixel at (1, 1)
    comes first, 5 and 6 (reflected: beyond 7 comes 6); to the lower right, 5 (reflected) and 6. Mirrored: exchanged."""
    corners = CornerEngine()
    outputs = ViewsEngine(corners, "shifts", probs_of)(numbered())
    views = np.concatenate([batch[:, 0, [0, -1], 0] for batch in corners.batches])
    np.testing.assert_array_equal(views, [[0, 3], [3, 0], [5, 6], [5, 6], [6, 5], [6, 5]])
    np.testing.assert_allclose(outputs.logits, [[(0 + 3) / 4 + (5 + 5 + 6 + 6) / 8] * 2])


def test_an_image_without_structure_keeps_its_outputs():
    same = np.full((3, 4, 4, 1), 60, np.uint8)
    for views in ("mirror", "shifts", "selective"):
        np.testing.assert_allclose(ViewsEngine(CornerEngine(), views, probs_of)(same).logits, 60)


def test_selective_views_of_unsure_images_only():
    """Confidences 95 % and 5 %, or rather 95 % in the other class, which is sure too; and 50 %."""
    images = np.concatenate([numbered(95), numbered(5), numbered(50)])
    corners = CornerEngine()
    engine = ViewsEngine(corners, "selective", probs_of)
    outputs = engine(images)
    assert [len(batch) for batch in corners.batches] == [3, 1, 1, 1, 1, 1]
    np.testing.assert_allclose(outputs.logits[:2], [[95, 98], [5, 8]])
    alone = ViewsEngine(CornerEngine(), "shifts", probs_of)(images[2:])
    np.testing.assert_allclose(outputs.logits[2:], alone.logits)
    assert engine.price == "views: 2.7 passes per image"  # (1 + 1 + 6) / 3


def test_a_bundle_that_was_not_mirrored_is_refused():
    with pytest.raises(ConfigError, match=r"augment\.mirror = false.*Use one view"):
        load(GOLDEN / "digits-format-1", views="mirror")


def test_views_that_do_not_exist():
    with pytest.raises(ConfigError, match="views is 'five'; expected one of one, mirror, shifts, selective"):
        load(GOLDEN / "digits-format-1", views="five")


def test_selective_needs_one_label_per_image():
    with pytest.raises(ConfigError, match="predicts several labels. Use mirror or shifts"):
        load(GOLDEN / "digits-labels-format-1", views="selective")
