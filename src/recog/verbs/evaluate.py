"""`recog evaluate`: honest numbers of a bundle on labelled images, with a word on whether the model has seen them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from recog.core.files import pretty_json, staged_folder
from recog.data.dataset import Exclusion, describe_exclusions
from recog.data.readers.label_format import AS_FOUND, LabelFormat
from recog.data.sources import Source
from recog.data.store import BadImagePolicy
from recog.evaluation.results.data_facts import DataFacts
from recog.evaluation.results.report import Report
from recog.report.measure import add_slices, check_slice_by, measure
from recog.runs.splits import write_quarantine
from recog.verbs.eligible import Side, choose_samples, open_as_trained, with_classes_of

EVALUATIONS = "evaluations"


@dataclass(frozen=True, kw_only=True)
class EvaluationRun:
    """A report, and the folder that report.json and report.html were written to, if any."""

    report: Report
    folder: Path | None
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        return f"EvaluationRun({self.report!r}, folder={str(self.folder) if self.folder else None!r})"


def evaluate(  # noqa: PLR0913  keywords of a public verb
    bundle: str | Path,
    source: Source,
    *,
    split: str | None = None,
    out: Path | None = None,
    bad_images: BadImagePolicy = "skip",
    slice_by: Sequence[str] = (),
    labels: LabelFormat = AS_FOUND,
    class_names: Sequence[str] | None = None,
    include_seen: bool = False,
) -> EvaluationRun:
    """Evaluate a bundle, run folder or run's name on `source`, as for training; `slice_by` adds accuracies of parts,
    by size, brightness, source-folder, or a column of the list of images. `class_names` names the number labels of a Dataset
    that has no names of its own.

    Of data with splits the test split is measured, unless `split` names another. Images that the run trained, selected or
    calibrated with are left out and counted, unless `include_seen`. Files go to `out`, else to the run's folder, else nowhere.
    """
    side = Side.load(bundle)
    predictor, run = side.predictor, side.run
    dataset = open_as_trained(source, side.folder, predictor.manifest, labels=labels, class_names=class_names)
    dataset = with_classes_of(dataset, predictor.class_names)
    check_slice_by(slice_by, dataset)
    chosen = choose_samples(dataset, split, [side], include_seen=include_seen)
    facts = DataFacts(
        name=dataset.name,
        split=chosen.split,
        num_seen_in_training=side.count("train", dataset, chosen.hashes),
        num_seen_in_selection=side.count("val", dataset, chosen.hashes),
        num_left_out_as_seen=chosen.num_left_out,
        test_openings=side.log_opening("evaluate", dataset, chosen.hashes),
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
    notes = (*chosen.notes, *dataset.notes, *describe_exclusions(dataset))
    return EvaluationRun(report=measured.report, folder=target, notes=notes)


def _free_folder(parent: Path, name: str) -> Path:
    number = 1
    while (parent / f"{name}-{number}").exists():
        number += 1
    return parent / f"{name}-{number}"
