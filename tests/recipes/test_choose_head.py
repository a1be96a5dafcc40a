"""Which candidate is chosen, and what its answers and scores are made of."""

import numpy as np
import pytest
from small_plans import planned

from recog.core.errors import ConfigError
from recog.evaluation.trust.scaling import fit_temperature
from recog.recipes.choose_head import choose, methods_for, try_on_val, try_out_of_fold
from recog.recipes.config import TrainConfig
from recog.training.config import HeadConfig
from recog.training.head import HeadData


def pool(num_images, gap=1.5, num_classes=3):
    rng = np.random.default_rng(0)
    labels = np.arange(num_images) % num_classes
    features = (rng.normal(size=(num_images, 12)) + gap * np.eye(num_classes, 12)[labels]).astype(np.float32)
    return HeadData(features=features, targets=labels, groups=np.arange(num_images))


def config(task="multiclass", **head):
    return planned(TrainConfig(recipe="head", head=HeadConfig(**head)), task=task)


@pytest.mark.parametrize(
    ("wanted", "task", "methods"),
    [
        (None, "multiclass", ("logistic", "ridge")),
        (None, "multilabel", ("logistic",)),
        ("ridge", "multiclass", ("ridge",)),
        ("logistic", "multiclass", ("logistic",)),
    ],
)
def test_both_kinds_are_compared_unless_one_is_set(wanted, task, methods):
    assert methods_for(wanted, task) == methods


def test_ridge_needs_one_class_per_image():
    with pytest.raises(ConfigError, match=r"head.method is ridge, .* use logistic for several labels"):
        config(task="multilabel", method="ridge")


def test_the_lowest_product_of_error_and_calibrated_nll_is_chosen():
    images = pool(120)
    tried = try_out_of_fold(images, config(), num_classes=3, num_repeats=2)
    assert [candidate.log.trial for candidate in tried] == list(range(1, 11))
    for candidate in tried:
        assert candidate.logits.shape == (2, 120, 3)
        errors = [(rows.argmax(axis=1) != images.targets).mean() for rows in candidate.logits]
        nlls = [fit_temperature(rows, images.targets).nll_after for rows in candidate.logits]
        assert candidate.log.val_accuracy == pytest.approx(1 - np.mean(errors))
        assert candidate.log.val_nll == pytest.approx(np.mean(nlls))
        assert candidate.cost == pytest.approx((np.mean(errors) + 1 / 120) * np.mean(nlls))
    assert choose(tried).cost == min(candidate.cost for candidate in tried)


def test_where_all_are_right_the_nll_decides():
    tried = try_out_of_fold(pool(120, gap=50), config(method="ridge"), num_classes=3, num_repeats=1)
    assert all(candidate.log.val_accuracy == 1 for candidate in tried)
    assert choose(tried).log.val_nll == min(candidate.log.val_nll for candidate in tried)


def test_on_val_heads_that_were_fitted_on_train_answer():
    images = pool(160)
    train, val = images.part(slice(100)), images.part(slice(100, None))
    tried = try_on_val(train, val, config(l2=(0.1,), ridge_l2=(1.0,)), num_classes=3)
    assert [(c.log.method, c.log.num_folds, c.logits.shape) for c in tried] == [
        ("logistic", 0, (1, 60, 3)),
        ("ridge", 0, (1, 60, 3)),
    ]
    assert all(c.log.val_accuracy > 0.6 for c in tried)
