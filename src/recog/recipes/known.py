"""The images that 'unknown' is fitted on: training images whose features may be kept, validation images to measure with."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from recog.bundle.reference import choose_reference
from recog.core.errors import BadImage
from recog.data.store import read_exact, read_images
from recog.evaluation.unknown_choice import KnownImages
from recog.recipes.collect import Collected, run_engine
from recog.recipes.prepare import Prepared
from recog.runtime.engine import Engine
from recog.training.crossval import FewImages
from recog.training.head import HeadConfig, LinearHead, fit_heads

MAX_BANK_IMAGES = 2000  # of training, the classes in turn: enough to tell classes apart, and a bank of a few MB


def known_by_head(images: FewImages, num_train: int, head: LinearHead, config: HeadConfig) -> KnownImages | None:
    """From the features of train and val, in this order, and the head that was fitted on train.

    A class that is left out has no part in the heads fitted anew. None for labels that do not exclude each other.
    """
    if images.targets.ndim == 2:
        return None
    labels = images.targets.astype(np.int64)
    chosen = choose_reference(labels[:num_train].tolist(), MAX_BANK_IMAGES)
    features, train_labels, val_features = images.features[chosen], labels[chosen], images.features[num_train:]
    num_classes = len(head.bias)

    def refit(left_out: int) -> NDArray[np.float32]:
        keep = train_labels != left_out
        moved = train_labels[keep] - (train_labels[keep] > left_out)
        (without,) = fit_heads(features[keep], moved, replace(config, l2=(head.l2,)), num_classes=num_classes - 1)
        return without(val_features)

    return KnownImages(
        train_features=features,
        train_labels=train_labels,
        features=val_features,
        logits=head(val_features),
        labels=labels[num_train:],
        data="val",
        refit=refit if num_classes > 2 else None,
    )


def known_by_network(engine: Engine, prepared: Prepared, val: Collected) -> KnownImages | None:
    """From the trained network: its features have seen every class, so a class left out is told apart a little too well."""
    if prepared.val.targets.ndim == 2:
        return None
    samples = prepared.dataset.subset("train")
    chosen = [samples[i] for i in choose_reference([s.label for s in samples], MAX_BANK_IMAGES)]
    read = list(read_images(chosen, read_exact(prepared.model.preprocess)))
    images = np.stack([image for image in read if not isinstance(image, BadImage)])
    labels = [s.label for s, image in zip(chosen, read, strict=True) if not isinstance(image, BadImage)]
    return KnownImages(
        train_features=run_engine(engine, images).features,
        train_labels=np.array(labels, dtype=np.int64),
        features=val.features,
        logits=val.logits,
        labels=prepared.val.targets.astype(np.int64),
        data="val",
    )
