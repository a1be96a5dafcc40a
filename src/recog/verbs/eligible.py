"""Which labelled images a bundle may be measured on."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from recog.bundle.locate import find_bundle, run_of
from recog.bundle.manifest import Manifest
from recog.bundle.seal import RUN_CONFIG
from recog.core.config import did_you_mean, load_toml
from recog.core.errors import ConfigError, DataError
from recog.core.task import Task
from recog.data.dataset import Dataset, Sample, check_class_map
from recog.data.inspection import hash_samples
from recog.data.readers.label_format import LabelFormat
from recog.data.sources import Source, open_source
from recog.runs.splits import SPLITS_FILE, SeenImages, read_seen
from recog.runtime.predictor import Predictor, load


@dataclass(frozen=True, kw_only=True)
class ChosenSamples:
    """The samples to measure, and what is known of them."""

    samples: tuple[Sample, ...]
    split: str | None
    num_seen_in_training: int | None
    num_of_test_split: int
    note: str


def check_task(dataset: Dataset, task: Task) -> None:
    """DataError where the bundle answers another question than the data do."""
    if dataset.task == task:
        return
    if task == "multilabel":
        raise DataError(
            f"{dataset.name} has one label an image, and the bundle says none to several of each. Give a list whose labels are "
            "joined by a separator (--label-separator '|'), columns of 0 and 1, or lists of labels."
        )
    raise DataError(
        f"{dataset.name} has none to several labels an image, and the bundle says one class of each; it can be measured on "
        "images with one label each only."
    )


def open_as_trained(source: Source, bundle: Path, manifest: Manifest, *, labels: LabelFormat) -> Dataset:
    """The data that `source` means, for a bundle with this `manifest`. DataError where they answer another question.

    Where nothing is said of `labels` and one would be read per image, several are tried, written as those of the training data.
    """
    task = manifest.task
    dataset = open_source(source, one_class_map=False, labels=labels, default_names=manifest.class_names)
    if dataset.task != task and task == "multilabel" and not labels.is_given:
        data = load_toml(bundle / RUN_CONFIG).get("data", {})
        separator = data.get("label_separator") if isinstance(data, dict) else None
        if isinstance(separator, str) and separator:
            with contextlib.suppress(DataError):  # no list: what was found first says what is wrong
                dataset = open_source(source, one_class_map=False, labels=LabelFormat(separator=separator))
    check_task(dataset, task)
    check_class_map(dataset)
    return dataset


def with_classes_of(dataset: Dataset, class_names: Sequence[str]) -> Dataset:
    """The dataset with labels that index `class_names`. DataError with the names where it has a class that they lack."""
    unknown = [name for name in dataset.class_names if name not in class_names]
    if unknown:
        raise DataError(
            f"{dataset.name} has {len(unknown)} of {len(dataset.class_names)} classes that the bundle does not know: "
            f"{', '.join(unknown[:10])}.{did_you_mean(unknown[0], class_names)}"
        )
    label_of = [class_names.index(name) for name in dataset.class_names]
    samples = tuple(
        replace(sample, labels=tuple(label_of[label] for label in sample.labels)) for sample in dataset.samples
    )
    return replace(dataset, class_names=tuple(class_names), samples=samples)


def given_split(dataset: Dataset, split: str | None) -> str:
    """Of the splits that the data themselves have: `split`, or where it is None the test split, else the last."""
    given = dataset.given_splits
    chosen = split or ("test" if "test" in given else given[-1])
    if chosen not in given:
        raise ConfigError(f"{dataset.name} has no split '{chosen}'; it has {', '.join(given)}.")
    return chosen


def choose_samples(dataset: Dataset, split: str | None, seen: SeenImages | None) -> ChosenSamples:
    hashes = dict(zip((s.name for s in dataset.samples), hash_samples(dataset.samples), strict=True))
    note = ""
    if dataset.given_splits:
        split = given_split(dataset, split)
        samples = dataset.subset(split)
    else:
        samples, split, note = _choose_by_run(dataset, split, seen, hashes)
    chosen = [hashes[sample.name] for sample in samples]
    return ChosenSamples(
        samples=samples,
        split=split,
        num_seen_in_training=seen.count("train", chosen) if seen else None,
        num_of_test_split=seen.count("test", chosen) if seen else 0,
        note=note,
    )


def _choose_by_run(
    dataset: Dataset, split: str | None, seen: SeenImages | None, hashes: dict[str, str]
) -> tuple[tuple[Sample, ...], str | None, str]:
    """Data without splits of their own: where the run was trained on some of them, its own split decides."""
    everything = list(hashes.values())
    if seen is None or not seen.count("train", everything):
        if split is not None:
            raise ConfigError(
                f"{dataset.name} has no splits, and the bundle's run does not know it; leave --split out."
            )
        return dataset.samples, None, ""
    if split is None:
        split = next((name for name in ("test", "val") if seen.count(name, everything)), None)
        if split is None:
            return dataset.samples, "train", ""
    wanted = seen.hashes.get(split, frozenset())
    samples = tuple(sample for sample in dataset.samples if hashes[sample.name] in wanted)
    if not samples:
        raise ConfigError(f"none of the images of {dataset.name} is in the run's split '{split}'.")
    note = (
        f"the run was trained on part of {dataset.name}; measured on the {len(samples)} images of its own {split} split"
    )
    return samples, split, note


@dataclass(frozen=True, kw_only=True)
class Side:
    """One of the two, with its run where it stands in one and what the run has seen."""

    folder: Path  # of the bundle
    predictor: Predictor
    run: Path | None
    seen: SeenImages | None

    @classmethod
    def load(cls, bundle: str | Path) -> Side:
        folder = find_bundle(bundle)
        run = run_of(folder)
        seen = read_seen(run) if run is not None and (run / SPLITS_FILE).is_file() else None
        return cls(folder=folder, predictor=load(folder), run=run, seen=seen)
