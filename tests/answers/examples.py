"""Predictions, predictors and images that tests of answers share."""

from types import SimpleNamespace

import numpy as np
from PIL import Image

from recog.answers.stream import Answer
from recog.core.errors import BadImage
from recog.runtime.prediction import PREDICTIONS

ANIMALS = ("cat", "=dog", "eel")


def prediction(probs, *, preds=None, task="multiclass", is_unknown=None, in_set=None, class_names=ANIMALS):
    probs = np.array(probs)
    return PREDICTIONS[task](
        name="x",
        class_names=class_names,
        probs=probs,
        logits=np.zeros(len(probs), np.float32),
        preds=np.arange(len(probs)) == probs.argmax() if preds is None else np.array(preds, bool),
        is_unknown=is_unknown,
        unknown_score=None if is_unknown is None else 2.5,
        in_set=None if in_set is None else np.array(in_set, bool),
    )


def answer(name, result, labels=None):
    if isinstance(result, BadImage):
        return Answer(name=name, source=name, result=result)
    return Answer(name=name, source=name, result=result, labels=result.labels if labels is None else labels)


def bad(name, reason="truncated", remedy="Replace it."):
    return answer(name, BadImage(name, reason, remedy))


def predictor(task="multiclass", class_names=ANIMALS, *, sets=None):
    """What the layout of answers asks of a Predictor."""
    return SimpleNamespace(
        manifest=SimpleNamespace(task=task), class_names=class_names, calibration=SimpleNamespace(sets=sets)
    )


def write_images(folder, names):
    """Grey PNG files of 8 x 8 px, each of another level; returns their paths."""
    paths = [folder / name for name in names]
    for level, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8), level % 256, np.uint8)).save(path, format="PNG")
    return paths
