import numpy as np
import pytest

from recog.core.errors import ConfigError
from recog.data.balance import (
    balanced_draws,
    class_factors,
    class_weights,
    describe_balance,
    describe_factors,
    training_weights,
)
from recog.data.dataset import Dataset, Sample

LABELS = np.repeat([0, 1, 2], [80, 15, 5])
PIXEL = np.zeros((1, 1, 3), dtype=np.uint8)


def make_dataset(*counts):
    samples = [
        Sample(name=f"{k}/{i}", source=PIXEL, labels=(k,), split="train")
        for k, n in enumerate(counts)
        for i in range(n)
    ]
    return Dataset(name="toys", layout="", class_names=("ant", "bee", "cow")[: len(counts)], samples=tuple(samples))


def test_weights_by_hand():
    weights = class_weights(np.array([3, 1]), 4)
    np.testing.assert_allclose(weights, [4 / 6, 4 / 2])
    assert weights[[0, 0, 0, 1]].mean() == pytest.approx(1)
    assert class_weights(np.array([2, 0]), 2)[1] == 0


def test_an_epoch_draws_each_class_alike_and_never_the_same_draw_twice():
    totals = np.zeros(3)
    for epoch in range(30):
        draws = balanced_draws(LABELS, 3, seed=4, epoch=epoch)
        counts = np.bincount(LABELS[draws % 100], minlength=3)
        assert sorted(counts.tolist()) == [33, 33, 34]
        totals += counts
        assert len(set(draws.tolist())) == 100
        rare = np.bincount(draws[LABELS[draws % 100] == 2] % 100, minlength=100)[95:]
        assert rare.max() - rare.min() <= 1  # the five rare images take turns
    assert totals.max() - totals.min() < 30  # the odd draw goes to another class each time


def test_a_large_class_shows_other_images_each_epoch():
    seen = [frozenset(d % 100 for d in balanced_draws(LABELS, 3, seed=0, epoch=e).tolist()) for e in range(25)]
    assert len(set(seen)) == 25
    assert len(frozenset.union(*seen)) == 100


def test_draws_are_a_function_of_seed_and_epoch():
    np.testing.assert_array_equal(
        balanced_draws(LABELS, 3, seed=1, epoch=2), balanced_draws(LABELS, 3, seed=1, epoch=2)
    )
    assert (balanced_draws(LABELS, 3, seed=1, epoch=2) != balanced_draws(LABELS, 3, seed=2, epoch=2)).any()


def test_auto_warns_from_ten_to_one_on_and_names_the_remedy():
    assert describe_balance(make_dataset(99, 10), "auto", by_steps=True) == []
    (line,) = describe_balance(make_dataset(100, 10), "auto", by_steps=True)
    assert "'ant' has 100 training images and 'bee' 10 (10.0:1)" in line
    assert "--balance weights" in line
    assert describe_balance(make_dataset(100, 10), "none", by_steps=True) == []


def test_what_was_done_is_said():
    data = make_dataset(30, 10)
    (weights,) = describe_balance(data, "weights", by_steps=True)
    assert "counts 2.00 in the rarest class and 0.67 in the largest" in weights  # 40 / (2 * 10), 40 / (2 * 30)
    (sampler,) = describe_balance(data, "sampler", by_steps=True)
    assert "draws about 20 of each class" in sampler
    assert "about 2.0 times each" in sampler
    (head,) = describe_balance(data, "sampler", by_steps=False)
    assert "taken by weights" in head
    (even,) = describe_balance(make_dataset(30, 30), "weights", by_steps=True)
    assert even == "balance by weights: every class has 30 training images; they count alike without it"


def test_labels_weigh_by_their_images_without_to_with_by_hand():
    from recog.data.balance import class_sizes, loss_weights, positive_weights

    targets = np.array([[1, 0, 0], [1, 1, 0], [1, 0, 0], [0, 0, 0]], dtype=np.float32)
    assert positive_weights(np.array([3, 1, 0]), 4).tolist() == [1 / 3, 3.0, 1.0]
    assert class_sizes(targets, 3).tolist() == [3, 1, 0]
    assert loss_weights(targets, 3).tolist() == [1 / 3, 3.0, 1.0]
    labels = np.array([0, 0, 0, 1])
    assert class_sizes(labels, 2).tolist() == [3, 1]
    assert loss_weights(labels, 2).tolist() == pytest.approx([4 / 6, 2.0])


def test_several_labels_have_no_sampler():
    from recog.core.errors import ConfigError

    samples = tuple(Sample(name=str(i), source=PIXEL, labels=(0,) if i else (0, 1), split="train") for i in range(20))
    data = Dataset(name="d", layout="", task="multilabel", class_names=("a", "b"), samples=samples)
    with pytest.raises(ConfigError, match="cannot be drawn for one without the others"):
        describe_balance(data, "sampler", by_steps=True)
    assert (
        "'b' stands on 1 of 20 training images (1 with to 19.0 without)"
        in describe_balance(data, "auto", by_steps=True)[0]
    )
    assert "counts 19.0 times" in describe_balance(data, "weights", by_steps=True)[0]
    assert describe_balance(data, "none", by_steps=True) == []


def test_own_weights_count_on_top_of_the_balance():
    names, targets = ("cat", "dog"), np.array([0, 0, 0, 1])  # balanced: 4 / (2 * 3) and 4 / (2 * 1)
    factors = class_factors({"dog": 3.0}, names)
    assert factors.tolist() == [1, 3]
    assert training_weights(targets, 2, is_balanced=False, factors=factors).tolist() == [1, 3]
    assert training_weights(targets, 2, is_balanced=True, factors=factors) == pytest.approx([2 / 3, 6])
    assert training_weights(targets, 2, is_balanced=True, factors=None) == pytest.approx([2 / 3, 2])
    assert training_weights(targets, 2, is_balanced=False, factors=class_factors({}, names)) is None
    assert describe_factors({"dog": 3.0}) == ["weights of classes: dog: 3; images of other classes count 1"]
    with pytest.raises(ConfigError, match="loss.class_weights.dgo is for no class of the data.*Did you mean 'dog'"):
        class_factors({"dgo": 3.0}, names)
