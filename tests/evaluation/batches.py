"""Random small batches, and the oracle's warnings silenced: shared by the tests of the measures."""

import contextlib
import warnings

import numpy as np
from hypothesis import strategies as st

from recog.evaluation.measures.probability import softmax

EXACT = {"rel": 1e-9, "abs": 1e-9}


@st.composite
def prob_batches(draw):
    """(probs [N, K], labels [N]) with few images: absent classes, one-class batches and ties are common."""
    num_images, num_classes = draw(st.integers(1, 40)), draw(st.integers(2, 8))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    labels = rng.integers(0, draw(st.integers(1, num_classes)), num_images)
    logits = rng.normal(0, draw(st.sampled_from([0.1, 1, 10])), (num_images, num_classes))
    if draw(st.booleans()):
        logits = logits.round()  # ties
    return softmax(logits), labels


@contextlib.contextmanager
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn's notes on what it filled in
        yield


def clusters(num_images, num_features=6, num_classes=3, seed=0):
    """Features around a centre for each class, their logits by nearness, labels."""
    rng = np.random.default_rng(seed)
    centres = 5 * np.eye(num_classes, num_features)
    labels = np.arange(num_images) % num_classes
    features = (centres[labels] + rng.normal(0, 1, (num_images, num_features))).astype(np.float32)
    return features, (features @ centres.T).astype(np.float32), labels
