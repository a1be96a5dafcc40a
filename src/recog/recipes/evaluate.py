"""`recog evaluate`: honest numbers of a bundle on labelled images, with a word on whether the model has seen them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from recog.bundle.locate import find_bundle, run_of
from recog.core.config import did_you_mean
from recog.core.errors import ConfigError, DataError
from recog.core.files import pretty_json, staged_folder
from recog.data.dataset import Dataset, Exclusion, Sample, describe_exclusions
from recog.data.label_format import AS_FOUND, LabelFormat
from recog.data.sources import open_source
from recog.data.store import BadImagePolicy
from recog.evaluation.report import DataFacts, Report
from recog.recipes.measure import measure
from recog.recipes.slicing import add_slices, check_slice_by
from recog.recipes.splits import SPLITS_FILE, SeenImages, hash_samples, log_test_opening, read_seen, write_quarantine
from recog.runtime.predictor import load

EVALUATIONS = "evaluations"


@dataclass(frozen=True, kw_only=True)
class EvaluationRun:
    """A report, and the folder that report.json and report.html were written to, if any."""

    report: Report
    folder: Path | None
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class _Chosen:
    """The samples to measure, and what is known of them."""

    samples: tuple[Sample, ...]
    split: str | None
    num_seen_in_training: int | None
    num_of_test_split: int
    note: str


def evaluate(
    bundle: str | Path,
    source: str | Path,
    *,
    split: str | None = None,
    out: Path | None = None,
    bad_images: BadImagePolicy = "skip",
    slice_by: Sequence[str] = (),
    labels: LabelFormat = AS_FOUND,
) -> EvaluationRun:
    """Evaluate a bundle, run folder or run's name on `source`, as for training; `slice_by` adds accuracies of parts,
    by size, brightness, source-folder, or a column of the list of images.

    Of data with splits the test split is taken, unless `split` says otherwise. Of data that the run was trained on and that
    have no splits of their own, the run's own test split. Files go to `out`, else to the run's folder, else nowhere.
    """
    folder = find_bundle(bundle)
    predictor = load(folder)
    dataset = with_classes_of(open_source(source, labels=labels), predictor.class_names)
    check_slice_by(slice_by, dataset)
    run = run_of(folder)
    seen = read_seen(run) if run is not None and (run / SPLITS_FILE).is_file() else None
    chosen = _choose(dataset, split, seen)
    openings = None
    if run is not None and chosen.num_of_test_split:
        openings = log_test_opening(run, command="evaluate", num_images=chosen.num_of_test_split)
    facts = DataFacts(
        name=dataset.name,
        split=chosen.split,
        num_seen_in_training=chosen.num_seen_in_training,
        test_openings=openings,
    )
    measured = measure(predictor, dataset, chosen.samples, policy=bad_images, facts=facts)
    measured = add_slices(measured, slice_by, grey16_max=predictor.preprocess.grey16_max)
    target = out or (_free_folder(run / EVALUATIONS, dataset.name) if run is not None else None)
    if target is not None:
        with staged_folder(target) as staging:
            (staging / "report.json").write_bytes(pretty_json(measured.report.to_dict()))
            (staging / "report.html").write_text(measured.html(), encoding="utf-8")
            if bad_images == "quarantine":
                excluded = measured.report.data.excluded
                write_quarantine(staging, (Exclusion(name=name, reason=reason) for name, reason in excluded))
    notes = tuple(note for note in (chosen.note, *dataset.notes, *describe_exclusions(dataset)) if note)
    return EvaluationRun(report=measured.report, folder=target, notes=notes)


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


def _choose(dataset: Dataset, split: str | None, seen: SeenImages | None) -> _Chosen:
    hashes = dict(zip((s.name for s in dataset.samples), hash_samples(dataset.samples), strict=True))
    note = ""
    if dataset.given_splits:
        split = given_split(dataset, split)
        samples = dataset.subset(split)
    else:
        samples, split, note = _choose_by_run(dataset, split, seen, hashes)
    chosen = [hashes[sample.name] for sample in samples]
    return _Chosen(
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


def _free_folder(parent: Path, name: str) -> Path:
    number = 1
    while (parent / f"{name}-{number}").exists():
        number += 1
    return parent / f"{name}-{number}"
