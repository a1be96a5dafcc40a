"""The labelled images that an export is measured on, and those that it is quantised on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recog.bundle.manifest import read_bundle_json
from recog.bundle.seal import REPORT_JSON
from recog.core.errors import ConfigError, DataError
from recog.core.text import plural
from recog.data.dataset import Dataset, Sample, choose_reference
from recog.data.inspection import hash_samples
from recog.data.lists.label_format import AS_FOUND
from recog.data.sources import Source
from recog.runs.folder import RUN_CONFIG, load_run_config
from recog.runs.splits import SPLITS_FILE, read_splits
from recog.verbs.eligible import Side, choose_samples, open_as_trained, with_classes_of

MAX_IMAGES = 500  # of the gate
NUM_TRAINING = 100  # to quantise on: ranges of activations change little beyond
FEW_IMAGES = 200  # below, one image is more than half a point of accuracy
_REMEDY = "Name labelled images, laid out as for training: --images DATA"


@dataclass(frozen=True, kw_only=True)
class GateImages:
    samples: tuple[Sample, ...]  # to measure
    training: tuple[Sample, ...]  # to quantise on, none of `samples`
    description: str  # of `samples`, in words
    notes: tuple[str, ...]


def find_images(side: Side, source: Source | None, *, with_training: bool) -> GateImages:
    """The run's validation images, or labelled images of `source` without those that the run used; ConfigError without any.

    `with_training` finds training images too: the run's, else those of the train split of `source`, else a part of it that is
    then not measured.
    """
    if source is None:
        dataset = data_of_run(side)
        samples, description = images_of_split(side, dataset, "val"), _validation(side)
        if not samples:
            samples, description = (
                images_of_split(side, dataset, "train"),
                "training images, as the run has no validation split",
            )
        training = images_of_split(side, dataset, "train") if with_training else ()
        notes: tuple[str, ...] = ()
    else:
        dataset = open_as_trained(source, side.folder, side.predictor.manifest, labels=AS_FOUND)
        dataset = with_classes_of(dataset, side.predictor.class_names)
        samples, description, notes = _new_images(side, dataset)
        training = _training_beside(side, dataset) if with_training else ()
    if with_training:
        samples, training = _apart(samples, training)
    samples = tuple(samples[i] for i in _spread(len(samples), MAX_IMAGES))
    if len(samples) < FEW_IMAGES:
        notes = (*notes, _few(len(samples)))
    return GateImages(samples=samples, training=tuple(training), description=description, notes=notes)


def _validation(side: Side) -> str:
    """Its name in words: agreement is the same on images that the head has seen, accuracy is higher."""
    training = read_bundle_json(side.folder / REPORT_JSON).get("training")
    is_fitted = isinstance(training, dict) and training.get("num_val_images")
    return "validation split, which the head was fitted on too" if is_fitted else "validation split"


def _few(count: int) -> str:
    return f"the gate has {plural(count, 'image')}, so one of them is {100 / count:.1f} points of accuracy; more: --images DATA"


def _spread(count: int, limit: int) -> list[int]:
    """Up to `limit` of `count` places, evenly."""
    return [int(i) for i in np.unique(np.linspace(0, count - 1, min(count, limit)).astype(int))]


def data_of_run(side: Side) -> Dataset:
    if side.run is None or not (side.run / SPLITS_FILE).is_file():
        raise ConfigError(f"{side.folder} is not in its run folder, so its validation images are not known. {_REMEDY}.")
    source = load_run_config(side.run / RUN_CONFIG).data.source
    if not source:
        raise ConfigError(f"{side.run} was trained on data given in Python, which are not kept. {_REMEDY}.")
    try:
        dataset = open_as_trained(source, side.folder, side.predictor.manifest, labels=AS_FOUND)
        return with_classes_of(dataset, side.predictor.class_names)
    except DataError as error:
        raise DataError(f"the run's training data cannot be read: {error} {_REMEDY}.") from None


def images_of_split(side: Side, dataset: Dataset, split: str) -> tuple[Sample, ...]:
    """The run's images of `split` that are still in `dataset`, by name and content; at most as many as are used."""
    if side.run is None or not (side.run / SPLITS_FILE).is_file():
        return ()
    recorded = {row.name: row.sha256 for row in read_splits(side.run).splits.get(split, ())}
    named = [sample for sample in dataset.samples if sample.name in recorded]
    limit = NUM_TRAINING if split == "train" else MAX_IMAGES
    chosen = [named[i] for i in choose_reference([hash(s.labels) for s in named], limit)]
    hashes = hash_samples(chosen, side.predictor.preprocess.limits)
    return tuple(s for s, content in zip(chosen, hashes, strict=True) if recorded[s.name] == content)


def _new_images(side: Side, dataset: Dataset) -> tuple[tuple[Sample, ...], str, tuple[str, ...]]:
    """(images that the run did not use, what they are, notes)."""
    chosen = choose_samples(dataset, None, [side])
    opening = side.log_opening("export", dataset, chosen.hashes)
    description = f"{dataset.name}, {chosen.split} split" if chosen.split else dataset.name
    return chosen.samples, description, (*chosen.notes, *filter(None, [opening.note if opening else None]))


def _training_beside(side: Side, dataset: Dataset) -> tuple[Sample, ...]:
    """Training images for a gate on other data: of the train split of `dataset`, else of the run."""
    own = dataset.subset("train")
    if own:
        return tuple(own[i] for i in choose_reference([hash(s.labels) for s in own], NUM_TRAINING))
    try:
        return images_of_split(side, data_of_run(side), "train")
    except (ConfigError, DataError):
        return ()


def _apart(samples: Sequence[Sample], training: Sequence[Sample]) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
    """`samples` to measure and others to quantise on: without `training` images, or where they are the same, half each."""
    names = {sample.name for sample in samples}
    training = [sample for sample in training if sample.name not in names]
    if not training:
        training = samples[: 2 * NUM_TRAINING : 2]
        samples = [*samples[1 : 2 * NUM_TRAINING : 2], *samples[2 * NUM_TRAINING :]]
    if not training or not samples:
        raise ConfigError(f"--int8 needs images to quantise on and others to measure. {_REMEDY}.")
    return tuple(samples), tuple(training)
