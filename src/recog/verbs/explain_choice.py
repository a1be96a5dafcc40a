"""Which images and labels `recog explain` explains: named ones, the worst errors of a report, or test images of classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recog.answers.inputs import gather
from recog.attribution.subject import Subject, subject_of
from recog.bundle.manifest import find_bundle, read_bundle_json, run_of
from recog.bundle.seal import REPORT_JSON, RUN_CONFIG
from recog.core.config import did_you_mean
from recog.core.errors import BadImage, ConfigError, DataError
from recog.data.dataset import Dataset, Sample
from recog.data.lists.label_format import AS_FOUND
from recog.evaluation.results.read import parse_report
from recog.runs.folder import load_run_config
from recog.runs.splits import SPLITS_FILE, read_splits
from recog.runtime.predictor import ImageSource, Predictor, load
from recog.verbs.eligible import open_as_trained, with_classes_of

MAX_IMAGES = 200
MAX_LABELS = 4  # maps of one image
NUM_ERRORS = NUM_OF_CLASS = 24
NUM_OVERVIEW, PER_CLASS = 120, 12  # without images named: of all classes together, and of one


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What is explained and how. Without images, errors or a class, test images of all classes."""

    images: Sequence[str] = ()
    errors: bool = False
    class_name: str = ""
    data: str = ""  # where the labelled images are; default: where the run found them
    label: str = ""  # explain this label for each image; default: the predicted and the true ones
    method: str = "auto"
    check: bool = False
    nearest: int = 0  # training images that are shown beside each

    def __post_init__(self) -> None:
        if self.nearest < 0:
            raise ConfigError(f"--nearest is {self.nearest}; expected 0 or more.")
        if self.images and self.data and not self.nearest:
            raise ConfigError("--data has no use beside named images, but with --nearest. Leave it or the images out.")


@dataclass(frozen=True, kw_only=True)
class Item:
    name: str
    source: ImageSource
    labels: tuple[int, ...] | None  # true ones; None where they are not known


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A bundle to explain, with its run where it lies in one."""

    folder: Path
    run: Path | None
    predictor: Predictor
    subject: Subject

    @classmethod
    def load(cls, bundle: str | Path, *, num_threads: int | None = None) -> Opened:
        folder = find_bundle(bundle)
        predictor = load(folder, num_threads=num_threads)
        return cls(folder=folder, run=run_of(folder), predictor=predictor, subject=subject_of(predictor, folder))

    def dataset(self, source: str) -> Dataset:
        """The labelled images of the run, or those at `source`."""
        if not source:
            if self.run is None:
                raise ConfigError(
                    f"{self.folder} is not in its run folder, so its data are not known. Give --data DATA."
                )
            source = load_run_config(self.run / RUN_CONFIG).data.source
            if not source:
                raise ConfigError("the run was trained on data that a program held. Name images, or give --data DATA.")
        dataset = open_as_trained(source, self.folder, self.predictor.manifest, labels=AS_FOUND)
        return with_classes_of(dataset, self.predictor.class_names)

    def samples_of(self, dataset: Dataset, split: str) -> tuple[Sample, ...]:
        """The images that the run used as `split`; of data it does not know those that are called so."""
        if self.run is not None and (self.run / SPLITS_FILE).is_file():
            names = {row.name for row in read_splits(self.run).splits.get(split, ())}
            found = tuple(sample for sample in dataset.samples if sample.name in names)
            if found:
                return found
        return dataset.subset(split)


def choose_items(opened: Opened, choice: Choice) -> tuple[list[Item], str, list[str]]:
    """The images, a title and notes. None without errors to explain, which a note tells."""
    if sum(map(bool, (choice.images, choice.errors, choice.class_name))) > 1:
        raise ConfigError("images, --errors and --class cannot be combined. Choose one of them.")
    if choice.images:
        inputs = gather(choice.images)
        notes = list(inputs.notes)
        if len(inputs.names) > MAX_IMAGES:
            notes.append(f"of {len(inputs.names):,} images the first {MAX_IMAGES} are explained")
        found = zip(inputs.names[:MAX_IMAGES], inputs.sources[:MAX_IMAGES], strict=True)
        return [Item(name=name, source=source, labels=None) for name, source in found], inputs.name, notes
    dataset = opened.dataset(choice.data)
    if choice.errors:
        return _errors(opened, dataset)
    class_names = opened.predictor.class_names
    if choice.class_name and choice.class_name not in class_names:
        raise ConfigError(f"there is no class '{choice.class_name}'.{did_you_mean(choice.class_name, class_names)}")
    samples = opened.samples_of(dataset, "test") or opened.samples_of(dataset, "val") or dataset.samples
    wanted = [class_names.index(choice.class_name)] if choice.class_name else range(len(class_names))
    limit = NUM_OF_CLASS if choice.class_name else max(1, min(PER_CLASS, NUM_OVERVIEW // len(class_names)))
    chosen = [sample for label in wanted for sample in spread([s for s in samples if label in s.labels], limit)]
    if not chosen:
        raise DataError(f"{dataset.name} has no image of '{choice.class_name}' to explain.")
    return as_items(chosen[:MAX_IMAGES]), choice.class_name or f"{dataset.name}, all classes", []


def spread(samples: Sequence[Sample], limit: int) -> list[Sample]:
    """At most `limit` of the samples, at equal distances."""
    places = np.unique(np.linspace(0, len(samples) - 1, min(limit, len(samples))).astype(int))
    return [samples[i] for i in places]


def as_items(samples: Sequence[Sample]) -> list[Item]:
    return [Item(name=sample.name, source=sample.source, labels=sample.labels) for sample in samples]


def _errors(opened: Opened, dataset: Dataset) -> tuple[list[Item], str, list[str]]:
    """The worst errors of the evaluation at the end of training, of which the files are still there."""
    report = parse_report(read_bundle_json(opened.folder / REPORT_JSON))
    by_name = {sample.name: sample for sample in dataset.samples}
    names = [error.name for error in report.errors]
    samples = [by_name[name] for name in names if name in by_name][:NUM_ERRORS]
    if not names:
        return [], "", [f"the report of {opened.folder} lists no errors, so there is nothing to explain"]
    if not samples:
        raise DataError(
            f"none of the {len(names)} images with errors is in {dataset.name}, such as {names[0]}. Give --data DATA."
        )
    return as_items(samples), f"{dataset.name}, worst errors", []


def read_items(predictor: Predictor, items: Sequence[Item]) -> tuple[list[Item], NDArray[np.uint8], list[BadImage]]:
    """The items that can be read, their images uint8 [N, H, W, C], and the others."""
    good, images, bad = [], [], []
    for item in items:
        try:
            images.append(predictor.preprocess.read(item.source, name=item.name))
        except BadImage as error:
            bad.append(error)
        else:
            good.append(item)
    return good, np.array(images, dtype=np.uint8), bad


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One label of one image."""

    item: int
    label: int
    role: str


def choose_pairs(predictor: Predictor, items: Sequence[Item], preds: NDArray[np.bool_], label: str) -> list[Pair]:
    """Of each image the predicted labels and the true ones that were missed, or the one that is asked for."""
    names = predictor.class_names
    if label:
        if label not in names:
            raise ConfigError(f"--label: there is no class '{label}'.{did_you_mean(label, names)}")
        return [Pair(item=i, label=names.index(label), role="asked for") for i in range(len(items))]
    pairs = []
    for i, (item, row) in enumerate(zip(items, preds, strict=True)):
        found = [(int(k), "predicted") for k in np.flatnonzero(row)]
        found += [(k, "true") for k in item.labels or () if not row[k]]
        pairs += [Pair(item=i, label=k, role=role) for k, role in found[:MAX_LABELS]]
    if not pairs:
        raise DataError("no label is predicted for these images. Ask for one: --label NAME.")
    return pairs
