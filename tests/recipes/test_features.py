import numpy as np

from recog.evaluation.trust.conformal import image_coins
from recog.recipes.features import run_engine
from recog.runtime.engine import Outputs


def level_engine(images):
    level = images.reshape(len(images), -1).mean(axis=1, dtype=np.float32)
    return Outputs(logits=np.stack([-level, level], axis=1), features=level[:, None])


def test_batches_are_joined_in_order():
    images = np.arange(70, dtype=np.uint8).reshape(70, 1, 1, 1)
    collected, uniforms = run_engine(level_engine, images)
    assert collected.features[:, 0].tolist() == list(range(70))
    assert collected.logits[:, 1].tolist() == list(range(70))
    assert (uniforms == image_coins(images)).all()
