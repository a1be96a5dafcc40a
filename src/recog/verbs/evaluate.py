"""`recog evaluate`: honest numbers of a bundle on labelled images, with a word on whether the model has seen them."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from recog.answers.columns import Cell, Column
from recog.answers.writers import Layout, answer_file, check_output
from recog.core import notebook
from recog.core.errors import ConfigError, DataError
from recog.core.files import claim_folder, claimed, is_read_only, not_linked, pretty_json, staged_folder
from recog.core.outputs import check_new_path
from recog.data.data_layout import DETECTED, DataLayout
from recog.data.dataset import Exclusion, describe_exclusions
from recog.data.lists.label_format import AS_FOUND, LabelFormat
from recog.data.sources import Source
from recog.data.store import BadImagePolicy
from recog.evaluation.measures.task import TASK_MEASURES
from recog.evaluation.results.facts import DataFacts
from recog.evaluation.results.report import Report
from recog.evaluation.results.rows import ImageResult, Predictions
from recog.report.measure import Measured, add_slices, check_slice_by, measure
from recog.runs.page_facts import facts_of_evaluation
from recog.runs.splits import write_quarantine
from recog.runtime.views import Views, ViewsEngine
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

    def _repr_html_(self) -> str:
        files = notebook.paragraph(f"Report: {self.folder / 'report.html'}") if self.folder else ""
        notes = (notebook.paragraph(note, soft=True) for note in self.notes)
        return notebook.below(self.report._repr_html_(), files, *notes)


def evaluate(  # noqa: PLR0913  keywords of a public verb
    bundle: str | Path,
    source: Source,
    *,
    split: str | None = None,
    out: str | Path | None = None,
    bad_images: BadImagePolicy = "auto",
    slice_by: Sequence[str] = (),
    labels: LabelFormat = AS_FOUND,
    layout: DataLayout = DETECTED,
    class_names: Sequence[str] | None = None,
    include_seen: bool = False,
    predictions: str | Path | None = None,
    report_images: bool = True,
    maps: bool = False,
    views: Views = "one",
) -> EvaluationRun:
    """Evaluate a bundle, run folder or run's name on `source`, as for training; `slice_by` adds accuracies of parts,
    by size, brightness, source-folder, or a column of the list of images. `class_names` names the number labels of a Dataset
    that has no names of its own.

    Of data with splits the test split is measured, unless `split` names another. Images that the run trained, selected or
    calibrated with are left out and counted, unless `include_seen`. Files go to `out`, else to the run's folder, else nowhere.
    `predictions` is a new .csv, .json, .jsonl or .parquet file for the results of each image, which `report.predictions` has.
    `report_images` are the thumbnails of report.html, and `maps` where the worst errors count for their answer: see `explain`.
    `views` are those of `load`.
    """
    if maps and not report_images:
        raise ConfigError("--maps is for a report with thumbnails. Remove --no-images, or remove --maps.")
    out, predictions = (None if path is None else Path(path) for path in (out, predictions))
    if out is not None:
        check_new_path(out, "--out")
    if predictions is not None:
        check_output(predictions, "--predictions", instead="")
    side = Side.load(bundle, views=views)
    manifest = side.predictor.manifest
    dataset = open_as_trained(source, side.folder, manifest, labels=labels, layout=layout, class_names=class_names)
    dataset = with_classes_of(dataset, side.predictor.class_names)
    check_slice_by(slice_by, dataset)
    chosen = choose_samples(dataset, split, [side], include_seen=include_seen)
    with contextlib.nullcontext() if out is None else claimed(out):
        opening = side.log_opening("evaluate", dataset, chosen.hashes)
        facts = DataFacts(
            name=dataset.name,
            split=chosen.split,
            num_seen_in_training=side.count("train", dataset, chosen.hashes),
            num_seen_in_selection=side.count("val", dataset, chosen.hashes),
            num_left_out_as_seen=chosen.num_left_out,
            test_openings=None if opening is None else opening.number,
            views=views,
        )
        measured = measure(side.predictor, dataset, chosen.samples, policy=bad_images, facts=facts)
        measured = add_slices(measured, slice_by)
        folder, note = (out, None) if out is not None else claim_in_run(side.run, EVALUATIONS, dataset.name)
        if folder is not None:
            page = measured.html(
                facts_of_evaluation(side.folder, manifest, dataset, measured, split=chosen.split),
                with_pictures=report_images,
                **(_maps(side, measured) if maps else {}),
            )
            _write(folder, measured.report, page, with_quarantine=bad_images == "quarantine")
    if predictions is not None:
        _write_results(predictions, measured.results)
    engine = side.predictor.engine
    price = engine.price if isinstance(engine, ViewsEngine) else None
    notes = [
        *chosen.notes,
        *dataset.notes,
        *describe_exclusions(dataset),
        note,
        opening.note if opening else None,
        price,
    ]
    return EvaluationRun(report=measured.report, folder=folder, notes=tuple(filter(None, notes)))


def _maps(side: Side, measured: Measured) -> dict[str, Any]:
    """What `Measured.html` takes of maps."""
    from recog.verbs.explain import maps_of_errors  # it loads torch

    found, note = maps_of_errors(side.folder, measured)
    return {"maps": found, "maps_note": note}


def _write_results(path: Path, results: Predictions) -> None:
    with answer_file(path, Layout(columns=_result_columns(results))) as writer:
        for result in results:
            writer.add(result)


def _result_columns(results: Predictions) -> tuple[Column[ImageResult], ...]:
    """path, true, predicted, is_correct, label_set and is_unknown where the bundle has them, then the probability of each."""
    measures = TASK_MEASURES[results.task]
    columns = [
        Column[ImageResult](header="path", kind="text", value=lambda result: result.path),
        Column(header="true", kind=measures.cell_kind, value=lambda result: measures.cell(result.true)),
        Column(header="predicted", kind=measures.cell_kind, value=lambda result: measures.cell(result.predicted)),
        Column[ImageResult](header="is_correct", kind="flag", value=lambda result: result.is_correct),
    ]
    if results.in_set is not None:
        columns.append(Column(header="label_set", kind="texts", value=lambda result: list(result.label_set or ())))
    if results.is_unknown is not None:
        columns.append(Column(header="is_unknown", kind="flag", value=lambda result: result.is_unknown))
    columns += (
        Column(header=f"prob_{name}", kind="number", value=partial(_prob_of, k))
        for k, name in enumerate(results.class_names)
    )
    return tuple(columns)


def _prob_of(label: int, result: ImageResult) -> Cell:
    return float(result.probs[label])


def claim_in_run(run: Path | None, kind: str, name: str) -> tuple[Path | None, str | None]:
    """A new folder for a result in the folder `kind` of `run`; without one or the right to write into it, None and a note."""
    if run is None:
        return None, None
    try:
        return claim_folder(not_linked(run / kind), name), None
    except OSError as error:
        if not is_read_only(error):
            raise DataError(f"{run / kind} cannot be written: {error.strerror}.") from None
        return None, f"{run} is read-only, so the result was not written there; --out FOLDER writes it elsewhere"


def _write(folder: Path, report: Report, page: str, *, with_quarantine: bool) -> None:
    with staged_folder(folder, is_claimed=True) as staging:
        (staging / "report.json").write_bytes(pretty_json(report.to_dict()))
        (staging / "report.html").write_text(page, encoding="utf-8")
        if with_quarantine:
            write_quarantine(staging, (Exclusion(name=n, reason=reason) for n, reason in report.data.excluded))
