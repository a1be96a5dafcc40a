from dataclasses import replace

import numpy as np
import pytest
from small_traits import typical

from recog.doctor.shortcuts import fact_auroc, find_shortcuts

LABELS = np.repeat([0, 1], 50)
IS_CLASS = LABELS[:, None] == [0, 1]
FOLDS = np.arange(100) % 5


def test_a_fact_that_decides_the_class():
    assert fact_auroc(LABELS * 10, IS_CLASS, FOLDS) == pytest.approx(1)
    assert fact_auroc(np.where(LABELS, "JPEG", "PNG"), IS_CLASS, FOLDS) == pytest.approx(1)


def test_a_class_in_the_middle_is_found_too():
    """No threshold on the value tells it apart; the bins do."""
    values = np.concatenate([np.linspace(0, 1, 50), np.linspace(0.45, 0.55, 50)])
    assert fact_auroc(values, IS_CLASS, FOLDS).min() > 0.85


def test_chance_is_one_half():
    aurocs = [fact_auroc(np.random.default_rng(seed).normal(size=100), IS_CLASS, FOLDS).mean() for seed in range(20)]
    assert np.mean(aurocs) == pytest.approx(0.5, abs=0.05)


def test_the_table_has_the_facts_that_vary_the_most_telling_first():
    traits = [replace(typical(), num_bytes=1000 + i, jpeg_quality=95 if i < 50 else 75) for i in range(100)]
    groups = np.arange(100)
    found = find_shortcuts(traits, np.tile([0, 1], 50), groups, ["a", "b"])
    assert {shortcut.fact for shortcut in found} == {"file size", "JPEG quality"}
    found = find_shortcuts(traits, LABELS, groups, ["a", "b"])
    assert [shortcut.worst_auroc > 0.95 for shortcut in found] == [True, True]


def test_classes_of_few_images_are_not_counted():
    traits = [replace(typical(), num_bytes=i) for i in range(100)]
    labels = np.where(np.arange(100) < 90, 0, 1)
    assert find_shortcuts(traits, labels, np.arange(100), ["a", "b"]) == ()


def test_a_label_of_images_with_several_is_told_by_the_quality_of_its_files():
    """The first label is on the files of quality 95, the second on every other image, the third on all but ten."""
    numbers = np.arange(100)
    traits = [replace(typical(), jpeg_quality=95 if i < 50 else 75) for i in numbers]
    targets = np.stack([numbers < 50, numbers % 2 == 0, numbers >= 10], axis=1).astype(np.float32)
    (found,) = find_shortcuts(traits, targets, numbers, ["a", "b", "c"])
    assert (found.fact, found.worst_class, found.worst_auroc) == ("JPEG quality", "a", pytest.approx(1))
    assert found.auroc == pytest.approx(0.75, abs=0.05)  # the mean of 1 and, for the second, about 1/2
    assert find_shortcuts(traits, targets[:, 2:], numbers, ["c"]) == ()
