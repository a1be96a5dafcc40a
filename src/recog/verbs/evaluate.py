"""`recog evaluate`: honest numbers of a bundle on labelled images, with a word on whether the model has seen them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from recog.bundle.locate import find_bundle, run_of
from recog.core.files import pretty_json, staged_folder
from recog.data.dataset import Exclusion, describe_exclusions
from recog.data.readers.label_format import AS_FOUND, LabelFormat
from recog.data.sources import Source
from recog.data.store import BadImagePolicy
from recog.evaluation.results.data_facts import DataFacts
from recog.evaluation.results.read import AnyReport
from recog.report.measure import add_slices, check_slice_by, measure
from recog.runs.splits import SPLITS_FILE, log_test_opening, read_seen, write_quarantine
from recog.runtime.predictor import load
from recog.verbs.eligible import choose_samples, open_as_trained, with_classes_of

EVALUATIONS = "evaluations"


@dataclass(frozen=True, kw_only=True)
class EvaluationRun:
    """A report, and the folder that report.json and report.html were written to, if any."""

    report: AnyReport
    folder: Path | None
    notes: tuple[str, ...]


def evaluate(
    bundle: str | Path,
    source: Source,
    *,
    split: str | None = None,
    out: Path | None = None,
    bad_images: BadImagePolicy = "skip",
    slice_by: Sequence[str] = (),
    labels: LabelFormat = AS_FOUND,
) -> EvaluationRun:
    """Evaluate a bundle, run folder or run's name on `source`, as for training; `slice_by` adds accuracies of parts,
    by size, brightness, source-folder, or a column of the list of images. Numbers that are the labels of a Dataset without
    `.classes` mean the bundle's classes in their order.

    Of data with splits the test split is taken, unless `split` says otherwise. Of data that the run was trained on and that
    have no splits of their own, the run's own test split. Files go to `out`, else to the run's folder, else nowhere.
    """
    folder = find_bundle(bundle)
    predictor = load(folder)
    dataset = open_as_trained(source, folder, predictor.manifest, labels=labels)
    dataset = with_classes_of(dataset, predictor.class_names)
    check_slice_by(slice_by, dataset)
    run = run_of(folder)
    seen = read_seen(run) if run is not None and (run / SPLITS_FILE).is_file() else None
    chosen = choose_samples(dataset, split, seen)
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


def _free_folder(parent: Path, name: str) -> Path:
    number = 1
    while (parent / f"{name}-{number}").exists():
        number += 1
    return parent / f"{name}-{number}"
