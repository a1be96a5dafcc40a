"""Which images 'unknown' is fitted on, and that a head that leaves a class out has never seen it."""

from dataclasses import replace

import numpy as np
from small_plans import planned

from recog.data.dataset import Dataset, Sample
from recog.data.store import ImageStore
from recog.recipes.calibrate import MAX_BANK_IMAGES, hold_out_head, known_by_head, known_by_network
from recog.recipes.config import TrainConfig
from recog.recipes.labelled_images import run_engine
from recog.runtime.engine import Outputs
from recog.training.config import HeadConfig
from recog.training.head import HeadData, fit_heads


def pooled(num_train, num_val, num_classes=3):
    rng = np.random.default_rng(0)
    targets = np.arange(num_train + num_val) % num_classes
    rows = (rng.normal(size=(len(targets), 8)) + 2 * np.eye(num_classes, 8)[targets]).astype(np.float32)
    images = HeadData(features=rows, targets=targets, groups=np.arange(len(targets)))
    (head,) = fit_heads(rows[:num_train], targets[:num_train], HeadConfig(l2=(0.1,)), num_classes=num_classes)
    return images, head


def test_train_is_kept_and_val_is_measured():
    images, head = pooled(90, 30)
    known = known_by_head(images, 90, head, HeadConfig())
    assert sorted(known.train_labels.tolist()) == sorted(images.targets[:90].tolist())
    assert (known.features == images.features[90:]).all()
    assert (known.logits == head(images.features[90:])).all()
    assert (known.labels == images.targets[90:]).all()


def test_a_class_left_out_is_not_in_the_heads_fitted_anew():
    images, head = pooled(90, 30)
    known = known_by_head(images, 90, head, HeadConfig())
    for left_out in range(3):
        keep = known.train_labels != left_out
        moved = np.searchsorted([k for k in range(3) if k != left_out], known.train_labels[keep])
        (without,) = fit_heads(known.train_features[keep], moved, HeadConfig(l2=(head.l2,)), num_classes=2)
        np.testing.assert_allclose(known.refit(left_out), without(known.features), rtol=1e-5, atol=1e-5)


def test_of_two_classes_none_is_fitted_anew_and_several_labels_have_no_unknown():
    images, head = pooled(60, 30, num_classes=2)
    assert known_by_head(images, 60, head, HeadConfig()).refit is None
    several = HeadData(features=images.features, targets=np.ones((90, 2), np.float32), groups=images.groups)
    assert hold_out_head(several, np.zeros(90), head, planned(TrainConfig(recipe="head")), num_train=60).known is None


def test_a_large_train_split_gives_as_many_of_each_class():
    images, head = pooled(3 * MAX_BANK_IMAGES, 30)
    known = known_by_head(images, 3 * MAX_BANK_IMAGES, head, HeadConfig())
    counts = np.bincount(known.train_labels)
    assert counts.sum() == MAX_BANK_IMAGES
    assert counts.max() - counts.min() <= 1


def test_a_networks_training_images_are_read_as_evaluation_reads_them(tmp_path):
    from types import SimpleNamespace

    from recog.core.preprocess import Preprocess

    def engine(pixels):
        level = pixels.reshape(len(pixels), -1).mean(axis=1, dtype=np.float32)
        return Outputs(logits=np.stack([-level, level], axis=1), features=level[:, None])

    samples = tuple(
        Sample(name=str(i), source=np.full((4, 4), 20 * i, dtype=np.uint8), labels=(i % 2,), split="train")
        for i in range(6)
    )
    dataset = Dataset(name="made", layout="arrays", class_names=("a", "b"), samples=samples)
    prepared = SimpleNamespace(
        dataset=dataset,
        model=SimpleNamespace(preprocess=Preprocess(image_size=(4, 4), channels=1)),
        val=SimpleNamespace(targets=np.array([0, 1])),
        exact=None,
    )
    val, _ = run_engine(engine, np.zeros((2, 4, 4, 1), dtype=np.uint8))
    known = known_by_network(engine, prepared, val, prepared.val.targets)
    assert dict(zip(known.train_features[:, 0].tolist(), known.train_labels.tolist(), strict=True)) == {
        20.0 * i: i % 2 for i in range(6)
    }
    assert (known.labels.tolist(), known.refit) == ([0, 1], None)
    # finetune has these images already: no file is read again
    rows = SimpleNamespace(
        names=tuple("543210"), store=ImageStore([np.full((4, 4, 1), 20 * i, np.uint8) for i in range(5, -1, -1)])
    )
    unreadable = tuple(replace(sample, source=tmp_path / "gone.png") for sample in samples)
    prepared.dataset, prepared.exact = replace(dataset, samples=unreadable), rows
    same = known_by_network(engine, prepared, val, prepared.val.targets)
    assert (same.train_features == known.train_features).all()
    assert (same.train_labels == known.train_labels).all()
