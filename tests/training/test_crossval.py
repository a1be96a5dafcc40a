import numpy as np
import pytest

from recog.core.errors import DataError
from recog.training.config import HeadConfig
from recog.training.head import NUM_REPEATS, HeadData, cross_validate, stratified_folds


def test_folds_hold_each_class_alike_and_keep_groups_together():
    labels = np.repeat([0, 1], [10, 7])
    groups = np.arange(17)
    groups[3] = groups[2]
    folds = stratified_folds(labels, groups, 5, seed=0, repeat=0)
    assert folds[2] == folds[3]
    for k, n in ((0, 10), (1, 7)):
        counts = np.bincount(folds[labels == k], minlength=5)
        assert counts.sum() == n
        assert counts.max() - counts.min() <= 1
    assert (stratified_folds(labels, groups, 5, seed=0, repeat=1) != folds).any()


def test_features_that_tell_the_class_are_found_out_and_noise_is_not():
    generator = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], 12)
    noise = generator.normal(size=(36, 4)).astype(np.float32)
    telling = noise + 6 * np.eye(3, 4, dtype=np.float32)[labels]
    config = HeadConfig(l2=(0.01, 0.1))
    for features, low, high in ((telling, 0.97, 1.0), (noise, 0.05, 0.6)):
        data = HeadData(features=features, targets=labels, groups=np.arange(36))
        logits = cross_validate(data, config, num_classes=3, seed=0)
        assert config.strengths == [0.1, 0.01]
        assert data.num_folds(3) == 5
        assert logits.shape == (2, NUM_REPEATS, 36, 3)
        accuracy = (logits[0].argmax(axis=2) == labels).mean()
        assert low <= accuracy <= high


def test_an_image_and_its_copy_never_test_each_other():
    """With random labels but each image twice, a fold that parted copies would make the accuracy high."""
    generator = np.random.default_rng(1)
    features = np.repeat(generator.normal(size=(20, 50)).astype(np.float32), 2, axis=0)
    labels = np.repeat(generator.permutation(np.repeat([0, 1], 10)), 2)
    config = HeadConfig(l2=(0.001,))

    def accuracy(groups):
        data = HeadData(features=features, targets=labels, groups=groups)
        return (cross_validate(data, config, num_classes=2, seed=0)[0].argmax(axis=2) == labels).mean()

    assert accuracy(np.arange(40)) > 0.85
    assert accuracy(np.arange(40) // 2) < 0.75


def test_a_single_image_of_a_class_is_refused():
    data = HeadData(features=np.zeros((3, 2), np.float32), targets=np.array([0, 0, 1]), groups=np.arange(3))
    with pytest.raises(DataError, match="one image only"):
        cross_validate(data, HeadConfig(), num_classes=2, seed=0)
