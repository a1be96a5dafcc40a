"""Which labelled images a bundle may be measured on."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from itertools import product
from pathlib import Path

from recog.bundle.manifest import Manifest, find_bundle, run_of
from recog.bundle.seal import RUN_CONFIG
from recog.core.config import build_config, did_you_mean, load_toml
from recog.core.errors import ConfigError, DataError
from recog.core.task import Task
from recog.core.text import listing, plural
from recog.data.data_layout import DETECTED, DataLayout
from recog.data.dataset import Dataset, Sample
from recog.data.inspection import hash_kind, hash_samples
from recog.data.lists.label_format import LabelFormat
from recog.data.sources import Source, open_source
from recog.runs.splits import SPLITS_FILE, SeenImages, TestOpening, log_test_opening, read_seen
from recog.runtime.predictor import Predictor, load
from recog.runtime.views import Views

MAX_DEPTH = 4  # at which class folders are looked for by their names


@dataclass(frozen=True, kw_only=True)
class ChosenSamples:
    """The samples to measure; `hashes` are their content hashes, in order."""

    samples: tuple[Sample, ...]
    hashes: tuple[str, ...]
    split: str | None  # of the data, or where they have none and all samples are the run's test images, 'test'
    num_left_out: int  # not measured, because a run trained, selected or calibrated with them
    notes: tuple[str, ...]


def open_as_trained(
    source: Source,
    bundle: Path,
    manifest: Manifest,
    *,
    labels: LabelFormat,
    layout: DataLayout = DETECTED,
    class_names: Sequence[str] | None = None,
) -> Dataset:
    """The data that `source` means, for a bundle with this `manifest`. DataError where its task is another one.

    Files are first read as the training data were, with their label separator, encoding of names, split folders, depth of
    classes and groups, where these are not given. Where that does not fit, they are read as found; of several readings, the
    one whose classes are the bundle's.
    """
    read = partial(
        open_source, source, one_class_map=False, class_names=class_names, default_names=manifest.class_names
    )
    dataset, labels = None, replace(labels, task=manifest.task)
    if isinstance(source, (str, Path)):
        readings = [*_recorded(bundle, manifest.task, labels, layout), (labels, layout)]
        dataset = _first_known(read, readings, manifest.class_names) or _by_depth(
            read, labels, layout, manifest.class_names
        )
    if dataset is None:
        dataset = read(labels=labels, layout=layout)
    return dataset


def _first_known(
    read: Callable[..., Dataset], readings: Iterable[tuple[LabelFormat, DataLayout]], class_names: Sequence[str]
) -> Dataset | None:
    """The data by the first of `readings` that fits and finds no other classes than `class_names`."""
    for labels, layout in readings:
        with contextlib.suppress(DataError):  # another form of data
            dataset = read(labels=labels, layout=layout)
            if set(dataset.class_names) <= set(class_names):
                return dataset
    return None


def _by_depth(
    read: Callable[..., Dataset], labels: LabelFormat, layout: DataLayout, class_names: Sequence[str]
) -> Dataset | None:
    """The data with the class folders at the level where their names are classes of the bundle, unless it is given."""
    if layout.classes_at_depth is not None:
        return None
    for depth in range(2 if layout.split_folders else 1, MAX_DEPTH + 1):
        deeper = replace(layout, classes_at_depth=depth)
        if dataset := _first_known(read, [(labels, deeper)], class_names):
            note = f"folders at depth {depth} are read as the classes, as their names are classes of the bundle"
            return replace(dataset, notes=(*dataset.notes, note))
    return None


def _recorded(
    bundle: Path, task: Task, labels: LabelFormat, layout: DataLayout
) -> Iterator[tuple[LabelFormat, DataLayout]]:
    """How the training data were read, where that differs from `labels` and `layout`, then without what suits fewest data."""
    data = load_toml(bundle / RUN_CONFIG).get("data", {}) if (bundle / RUN_CONFIG).is_file() else {}
    if not isinstance(data, dict):
        return
    formats, layouts = [labels], [layout]
    separator, names = data.get("label_separator"), data.get("names")
    with contextlib.suppress(ConfigError):
        if not labels.is_given and isinstance(separator, str) and separator:
            formats.insert(0, replace(labels, separator=separator))
        if isinstance(names, str) and not labels.names:
            formats = [replace(each, names=names) for each in formats] + formats
    if layout == DETECTED:
        with contextlib.suppress(ConfigError):
            fields_of = [field.name for field in fields(DataLayout)]
            recorded = build_config(DataLayout, {name: data[name] for name in fields_of if name in data})
            # without the folders of images first: another list may have images of the same names beside it
            choices = product(((), _images_of_run(bundle)), (recorded.exclude, ()), (recorded.group, ""))
            layouts = [*(replace(recorded, images=i, exclude=e, group=g) for i, e, g in choices), layout]
    for each in dict.fromkeys(product(formats, layouts)):
        if each != (labels, layout):
            yield each


def _images_of_run(bundle: Path) -> tuple[str, ...]:
    """The folders that the images of the training list are in; a bundle does not hold them, but its run does."""
    run = run_of(bundle)
    data = load_toml(run / RUN_CONFIG).get("data", {}) if run is not None else {}
    images = data.get("images", ()) if isinstance(data, dict) else ()
    if run is None or not isinstance(images, list):
        return ()
    return tuple(os.path.relpath(run / path) for path in images if isinstance(path, str))


def with_classes_of(dataset: Dataset, class_names: Sequence[str]) -> Dataset:
    """The dataset with labels that index `class_names`. DataError with the names where it has a class that they lack."""
    unknown = [name for name in dataset.class_names if name not in class_names]
    if unknown:
        raise DataError(
            f"{dataset.name} has {len(unknown)} of {len(dataset.class_names)} classes that the bundle does not know: "
            f"{listing(unknown, 10)}.{did_you_mean(unknown[0], class_names)} Rename them to the bundle's names, leave "
            "their images out (--exclude PATTERN), or evaluate a bundle that was trained on them."
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


def choose_samples(
    dataset: Dataset, split: str | None, sides: Sequence[Side], *, include_seen: bool = False
) -> ChosenSamples:
    """Of the given splits the one to measure, else all images; less those that a run trained, selected or calibrated with.

    What a run did with an image is told by its content (`splits.json`), never by the name of a split. `include_seen` leaves
    nothing out. ConfigError where nothing is left.
    """
    if dataset.given_splits:
        split = given_split(dataset, split)
        samples = dataset.subset(split)
    elif split is not None:
        raise ConfigError(f"{dataset.name} has no splits; leave --split out.")
    else:
        samples = dataset.samples
    limits = max((side.predictor.preprocess.limits for side in sides), key=lambda limits: limits.max_bytes)
    hashes = hash_samples(samples, limits)
    known = [side.known(dataset) for side in sides]
    is_seen = [any(seen.shaped_the_model(h) for seen in known if seen) for h in hashes]
    num_seen = sum(is_seen)
    notes = [side.why_unknown for side, seen in zip(sides, known, strict=True) if not seen]
    if num_seen and not include_seen:
        roles = _describe_roles(known, hashes)
        if num_seen == len(samples):
            raise ConfigError(
                f"all {plural(num_seen, 'image')} of {dataset.name}{f', {split} split,' if split else ''} were used to make the "
                f"model ({roles}), so they cannot measure it. Use new images, or measure them anyway with --include-seen."
            )
        notes.append(
            f"left out {num_seen:,} of {plural(len(samples), 'image')}: {roles}. --include-seen measures them too"
        )
        samples = tuple(sample for sample, seen in zip(samples, is_seen, strict=True) if not seen)
        hashes = [h for h, seen in zip(hashes, is_seen, strict=True) if not seen]
    if split is None and all(seen is not None and seen.count("test", hashes) == len(hashes) for seen in known):
        split = "test"
    return ChosenSamples(
        samples=samples,
        hashes=tuple(hashes),
        split=split,
        num_left_out=0 if include_seen else num_seen,
        notes=tuple(notes),
    )


def _describe_roles(known: Sequence[SeenImages | None], hashes: Sequence[str]) -> str:
    """How many of the images each role of the runs has, such as '2 for training, 1 for model selection and calibration'."""
    counts = {
        "for training": sum(any(seen and seen.count("train", [h]) for seen in known) for h in hashes),
        "for model selection and calibration": sum(
            any(seen and seen.count("val", [h]) for seen in known) for h in hashes
        ),
    }
    return ", ".join(f"{count:,} {role}" for role, count in counts.items() if count)


@dataclass(frozen=True, kw_only=True)
class Side:
    """A bundle to measure: its predictor, and its run with the images that the run used, where it lies in one."""

    folder: Path  # of the bundle
    predictor: Predictor
    run: Path | None
    seen: SeenImages | None

    @classmethod
    def load(cls, bundle: str | Path, *, num_threads: int | None = None, views: Views = "one") -> Side:
        folder = find_bundle(bundle)
        run = run_of(folder)
        seen = read_seen(run) if run is not None and os.path.lexists(run / SPLITS_FILE) else None
        return cls(folder=folder, predictor=load(folder, num_threads=num_threads, views=views), run=run, seen=seen)

    def known(self, dataset: Dataset) -> SeenImages | None:
        """`seen`, or None where its content hashes cannot be compared with those of `dataset`: not known is not 'none'."""
        kinds = {hash_kind(dataset.samples), self.seen.hash_of if self.seen else None}
        return self.seen if len(kinds) == 1 and kinds != {"both"} else None

    @property
    def why_unknown(self) -> str:
        reason = "one of the two is image files, the other arrays, and their contents cannot be compared"
        if self.seen is None:
            reason = f"the bundle is not in its run folder, whose {SPLITS_FILE} lists the images that were used"
        return f"warning: it is not known whether {self.folder} was trained on these images: {reason}"

    def count(self, role: str, dataset: Dataset, hashes: Sequence[str]) -> int | None:
        """How many of the images with these content hashes the run used as `role`, a split; None: not known."""
        seen = self.known(dataset)
        return None if seen is None else seen.count(role, hashes)

    def log_opening(self, command: str, dataset: Dataset, hashes: Sequence[str]) -> TestOpening | None:
        """Record in the run that its test images are used; None where they are not."""
        if self.run is None or not (num_images := self.count("test", dataset, hashes)):
            return None
        return log_test_opening(self.run, command=command, num_images=num_images)
