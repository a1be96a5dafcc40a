"""`noisy_labels`: which images are left out, what the plan states, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from recog.core.errors import ConfigError
from recog.data.dataset import Dataset, Sample
from recog.data.store import ImageStore
from recog.recipes.config import TrainConfig, describe_noisy_labels
from recog.recipes.events import PrunedLabels, Suspect
from recog.recipes.head import find_suspects
from recog.recipes.labelled_images import FrozenFeatures, LabelledImages

NOISY = TrainConfig(noisy_labels=True)
DATA = Dataset(
    name="d", layout="test", class_names=("a", "b"), samples=(Sample(name="0", source="0.png", labels=(0,)),)
)


def clouds(per_class=30):
    """Features of two well separated classes, with three wrong labels, then those of val."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], per_class)
    features = rng.normal(size=(len(labels), 8)).astype(np.float32)
    features[np.arange(len(labels)), labels] += 8
    given = labels.copy()
    given[[2, 40, 41]] = 1 - given[[2, 40, 41]]
    images = [np.full((2, 2, 1), i, np.uint8) for i in range(len(labels))]
    names = tuple(f"{i:02d}.png" for i in range(len(labels)))
    train = LabelledImages(store=ImageStore(images), targets=given, groups=np.arange(len(labels)), names=names)
    val = rng.normal(size=(4, 8)).astype(np.float32)
    found = FrozenFeatures(features=np.concatenate([features, val]), coins=np.zeros(len(labels) + 4))
    return found, train


def test_wrong_labels_are_found_and_left_out():
    found, train = clouds()
    event = find_suspects(found, train, ("a", "b"), seed=0)
    rows = {suspect.name: (suspect.label, suspect.looks_like) for suspect in event.suspects}
    assert rows == {"02.png": ("b", "a"), "40.png": ("a", "b"), "41.png": ("a", "b")}
    suspicions = [suspect.suspicion for suspect in event.suspects]
    assert suspicions == sorted(suspicions, reverse=True)
    assert "3 of 60 training images (5.0%) left out" in str(event)
    left = train.without(rows)
    assert len(left.store) == len(left.targets) == len(left.groups) == len(left.names) == 57
    assert left.names[2:4] == ("03.png", "04.png")
    assert [int(image[0, 0, 0]) for image in left.store.fetch(np.array([2, 56]))] == [3, 59]
    assert left.groups[2] == 3


def test_what_cannot_be_judged_is_kept():
    found, train = clouds()
    one_class = replace(train, targets=np.zeros_like(train.targets))
    event = find_suspects(found, one_class, ("a", "b"), seed=0)
    assert event == PrunedLabels(num_images=60, suspects=(), is_judged=False)
    assert "cannot be judged" in str(event)
    assert "1 of 1 training image" in str(
        PrunedLabels(num_images=1, suspects=(Suspect(name="x", label="a", looks_like="b", suspicion=1.0),))
    )


def test_the_plan_states_what_is_done():
    (line,) = describe_noisy_labels(NOISY, "head", DATA, has_val=True)
    assert "are left out; other splits stay as they are" in line
    assert describe_noisy_labels(TrainConfig(), "scratch", DATA, has_val=True) == []


@pytest.mark.parametrize(
    ("config", "recipe", "dataset", "has_val", "message"),
    [
        (NOISY, "head", replace(DATA, task="multilabel"), True, "judges images with one class"),
        (NOISY, "head", DATA, False, "would measure accuracy on the images that it chose to keep"),
        (NOISY, "scratch", DATA, True, "which recipe scratch does not have"),
    ],
)
def test_refusals(config, recipe, dataset, has_val, message):
    with pytest.raises(ConfigError, match=message):
        describe_noisy_labels(config, recipe, dataset, has_val=has_val)
