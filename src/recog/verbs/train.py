"""`recog train`: from labelled images to a sealed bundle."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from recog.bundle.manifest import BUNDLE, RUNS, find_bundle, run_of
from recog.bundle.seal import REPORT_HTML, REPORT_JSON
from recog.core.config import build_config, config_to_dict
from recog.core.errors import ConfigError
from recog.core.files import pretty_json, staged_folder, write_bytes_atomic
from recog.core.records import read_bytes
from recog.core.text import plural
from recog.data.dataset import Dataset
from recog.data.inspection import hash_kind
from recog.data.sources import open_source
from recog.evaluation.measures.task import TASK_MEASURES
from recog.evaluation.results.facts import CROSS_VALIDATED, DataFacts
from recog.evaluation.results.read import parse_report
from recog.recipes.budget import check_budget, prepare_within
from recog.recipes.calibrate import HeldOut, calibrate, calibration_notes, hold_out_val
from recog.recipes.config import TrainConfig
from recog.recipes.cost import Budget
from recog.recipes.events import CutShort, EpochResult, HeadLog, LearnEvent, PrunedLabels, TrainingSummary, warnings_of
from recog.recipes.find_lr import check_find_lr, with_lr
from recog.recipes.find_lr import find_lr as run_range_test
from recog.recipes.learn import count_steps, learn
from recog.recipes.package import export, pack, with_run_time
from recog.recipes.prepare import Prepared, prepare
from recog.recipes.resume import ResumePoint, shared
from recog.runs.folder import (
    RUN_CONFIG,
    check_new_run,
    check_same_data,
    describe_loaded,
    find_unfinished,
    has_begun,
    load_run_config,
    locked,
    make_run_folder,
    open_checkpoints,
    remove_leftovers,
    resumed_config,
    write_launch,
    write_run_config,
)
from recog.runs.journal import TENSORBOARD, Journal, epoch_values, head_values, record_event
from recog.runs.page_facts import facts_of_run, machine_facts
from recog.runs.splits import (
    QUARANTINE,
    SPLITS_FILE,
    SeenImages,
    log_test_opening,
    read_seen,
    write_pruned,
    write_quarantine,
    write_splits,
)
from recog.runs.trackers import SafeTracker, check_tracker
from recog.training.distributed import World, broadcast, joined
from recog.verbs.run import Clock, Note, Planned, Run, run_from_json, run_to_json

if TYPE_CHECKING:
    from torch import nn


WEAK_PARENT = 0.6  # accuracy or mAP; published weights with a new head usually reach more

TrainEvent = Note | Planned | LearnEvent | Run


def train_events(  # noqa: PLR0913  what a run is made of, and how it is conducted
    config: TrainConfig,
    *,
    name: str | None = None,
    runs: Path = RUNS,
    dataset: Dataset | None = None,
    choose_lr: bool = False,
    network: nn.Module | None = None,
    budget: Budget | None = None,
    clock: Clock | None = None,
) -> Iterator[TrainEvent]:
    """The events of a run as they happen, the Run last. A run that stops or fails leaves no bundle.

    Of the processes that torchrun starts, the first does so; each of the others yields only the Run, once it is written.

    `dataset` is what is trained on where `config.data.source` names nothing, `network` a module of the user's own. With
    `choose_lr`, a range test on copies comes first, and its suggestion is the learning rate of the run, and of its run.toml.
    With `budget`, recipe, network, input size and epochs are those that are expected to fit it. `clock` is of a command that
    began before this call, or of a run that is part of a longer one.
    """
    if not config.data.source and dataset is None:
        raise ConfigError("no data to train on; give a folder of class folders, or 'digits'.")
    check_tracker(config.log_to)
    if choose_lr:
        check_find_lr(config)
    with joined() as world:
        if budget is not None:
            check_budget(config, world, find_lr=choose_lr)
        if broadcast(world, name is not None and has_begun(runs / name, world)):
            # by the path that this machine has the data at
            dataset = dataset or open_source(config.data.source, labels=config.data.labels, layout=config.data.layout)
            yield from resume_events(runs / str(name), dataset=dataset, network=network)
        elif world.is_writer:
            clock = clock or Clock(started=time.perf_counter() if budget is None else budget.started)
            check_new_run(config, name, runs, world=world)
            if budget is None:
                prepared = _prepare(config, dataset, network=network, world=world)
            else:
                known = _known_splits(config)
                prepared, deadline = prepare_within(budget, config, dataset, network=network, known_splits=known)
                clock = replace(clock, deadline=deadline, budget_s=budget.seconds)
            yield from _begin(prepared, name=name, runs=runs, choose_lr=choose_lr, world=world, clock=clock)
        else:
            prepared = _prepare(config, dataset, network=network, world=world)
            if choose_lr:
                prepared = with_lr(prepared, broadcast(world, None))
            yield _follow(prepared, world)


def resume_events(
    name: str | Path,
    *,
    runs: Path = RUNS,
    source: str | None = None,
    dataset: Dataset | None = None,
    network: nn.Module | None = None,
    clock: Clock | None = None,
) -> Iterator[TrainEvent]:
    """As train_events, for the run in the folder `name` or of that name, from its newest checkpoint that verifies.

    `source` is where its data are now, if they were moved; their content must be the same.
    """
    with joined() as world:
        if world.is_writer:
            clock = clock or Clock(started=time.perf_counter())
            events = _resume(name, runs=runs, source=source, dataset=dataset, network=network, world=world, clock=clock)
            yield from events
        else:
            config = build_config(TrainConfig, broadcast(world, None))
            yield _follow(_prepare(config, dataset, network=network, world=world), world)


def _prepare(config: TrainConfig, dataset: Dataset | None, *, network: nn.Module | None, world: World) -> Prepared:
    """As `prepare`; an image that the parent's run knows keeps its split."""
    return prepare(config, dataset, network=network, world=world, known_splits=_known_splits(config))


def _known_splits(config: TrainConfig) -> dict[str, str]:
    """By content hash, of the images that the parent's run knows."""
    parent = _read_parent(config)
    return {} if parent is None else parent.split_of()


def _read_parent(config: TrainConfig) -> SeenImages | None:
    """The images that made the bundle which `config` continues; None without one, or where its run folder is not there."""
    run = run_of(find_bundle(config.model.parent)) if config.model.parent else None
    return read_seen(run) if run is not None and os.path.lexists(run / SPLITS_FILE) else None


def _describe_parent(prepared: Prepared, parent: SeenImages | None) -> list[str]:
    """How good the parent is, and a warning where its images cannot be told from new ones."""
    kind = hash_kind(prepared.dataset.samples)
    if not prepared.plan.model.parent:
        return []
    described = list(_describe_quality(Path(prepared.plan.model.parent)))
    if parent is not None and parent.hash_of == kind != "both":
        return described
    why = "its bundle is not in its run folder" if parent is None else "one of the two is image files, the other arrays"
    return [
        *described,
        f"warning: it is not known which of these images the parent was trained on ({why}); those in val and test make results "
        "optimistic",
    ]


def _describe_quality(bundle: Path) -> Iterator[str]:
    """The headline of the parent's report, and a warning where it is weak."""
    table = json.loads(read_bytes(bundle / REPORT_JSON))
    if table.get("evidence") != "evaluation":
        return
    report = parse_report(table)
    if report.score is None:
        return
    measured = f"{TASK_MEASURES[report.task].score_name} {report.score:.1%} on {plural(report.num_images, 'image')}"
    yield f"parent: {measured} of {report.data.name}{f' ({report.data.split})' if report.data.split else ''}"
    if report.score < WEAK_PARENT:
        yield (
            "warning: the parent is weak, and this training starts from it; without --from it starts from published weights, "
            "which are often the better start"
        )


def _begin(
    prepared: Prepared, *, name: str | None, runs: Path, choose_lr: bool, world: World, clock: Clock
) -> Iterator[TrainEvent]:
    """A new run, in the process that writes."""
    parent = _read_parent(prepared.plan)
    for text in (*prepared.notes, *_describe_parent(prepared, parent)):
        yield Note(text=text)
    if world.max_restarts and name is None:
        yield Note(
            text="torchrun may restart this run; without --name it would start another one instead of resuming it"
        )
    folder = make_run_folder(runs, name or prepared.dataset.name, fixed=name is not None, world=world)
    with locked(folder):
        write_launch(folder, world)
        if choose_lr:
            yield Note(text="learning-rate range test on a copy of the network")
            prepared, text = run_range_test(prepared, folder)
            broadcast(world, prepared.plan.optim.lr)
            yield Note(text=text)
        write_splits(folder, prepared.dataset, prepared.hashes, seed=prepared.plan.seed, parent=parent)
        write_run_config(folder, prepared.plan)
        if prepared.plan.data.bad_images == "quarantine":
            bad = [exclusion for exclusions in prepared.bad.values() for exclusion in exclusions]
            write_quarantine(folder, bad)
            yield Note(text=f"bad images: {len(bad):,}, listed in {folder / QUARANTINE}")
        yield from _tracked(folder, prepared, _run(folder, prepared, world, clock=clock))


def _resume(
    name: str | Path,
    *,
    runs: Path,
    source: str | None,
    dataset: Dataset | None,
    network: nn.Module | None,
    world: World,
    clock: Clock,
) -> Iterator[TrainEvent]:
    folder = find_unfinished(name, runs)
    with locked(folder):
        find_unfinished(folder)  # again: the process that held the lock may have finished it
        remove_leftovers(folder)
        read_seen(folder)  # which the report needs at the end
        config = load_run_config(folder / RUN_CONFIG) if dataset is not None else resumed_config(folder, source)
        if not config.data.source and dataset is None:
            raise ConfigError(
                f"{folder} was trained on a Dataset object; pass it again: recog.train(dataset, resume=...)."
            )
        broadcast(world, config_to_dict(config))
        yield Note(text=f"reading {config.data.source or 'the images'}", is_activity=True)
        prepared = _prepare(config, dataset, network=network, world=world)
        check_same_data(folder, config.data.fingerprint, prepared)
        if source is not None:
            write_run_config(folder, config)  # with the new place, which the bundle will name too
        for text in prepared.notes:
            yield Note(text=text)
        yield from _tracked(folder, prepared, _run(folder, prepared, world, clock=clock))


def _tracked(folder: Path, prepared: Prepared, events: Iterator[TrainEvent]) -> Iterator[TrainEvent]:
    """`events`, of which the tracker that the plan names is told too; its failures become notes."""
    tracker = SafeTracker(prepared.plan.log_to, folder)
    tracker.open(config_to_dict(prepared.plan))
    try:
        for event in events:
            if isinstance(event, EpochResult):
                tracker.metrics("epoch", epoch_values(event), event.log.epoch)
            elif isinstance(event, HeadLog):
                tracker.metrics("head", head_values(event), event.trial)
            elif isinstance(event, Run):
                tracker.finish(folder / REPORT_HTML, {"accuracy": event.report.accuracy})
            for text in tracker.pop_warnings():
                yield Note(text=text)
            yield event
    finally:
        tracker.finish(None, {})  # of a run that did not end well


def _follow(prepared: Prepared, world: World) -> Run:
    """The part of a process that does not write: learn as the writer does, and receive the Run."""
    resume = shared(world, ResumePoint())
    for _ in learn(prepared, resume, world):
        pass
    return run_from_json(broadcast(world, None))


def _run(folder: Path, prepared: Prepared, world: World, *, clock: Clock) -> Iterator[TrainEvent]:
    """Learn, from the newest checkpoint if there is one, and seal the bundle."""
    plan = prepared.plan
    checkpoints = open_checkpoints(folder, plan)
    loaded = checkpoints.load_newest()
    resumed_from = describe_loaded(loaded)
    for text in resumed_from:
        yield Note(text=text)
    resume = shared(world, ResumePoint(checkpoints=checkpoints, state=None if loaded is None else loaded.state))
    with Journal(folder, after=resume.cursor) as journal:
        journal.log(*(f"{name}: {value}" for name, value in machine_facts()), *prepared.notes, *resumed_from)
        yield Planned(folder=folder, config=plan, num_steps=count_steps(prepared))
        with journal.suppressed(TENSORBOARD):
            journal.board.settings((folder / RUN_CONFIG).read_text(encoding="utf-8"))
        events = learn(prepared, resume, world, deadline=clock.deadline)
        summary, held_out = yield from _recorded(events, journal, folder, prepared)
        with journal.suppressed(TENSORBOARD):
            journal.board.outcome(config_to_dict(plan), journal.outcome)
    prepared = _as_trained(prepared, summary.cut_at_step)
    yield Note(text="exporting to ONNX", is_activity=True)
    measured_on = _open_measured_split(folder, prepared)
    with staged_folder(folder / BUNDLE) as staging:
        engine = export(staging, prepared)
        yield Note(text="calibrating and evaluating", is_activity=True)
        held_out = held_out or hold_out_val(engine, prepared)
        calibration, statistics = calibrate(held_out, plan, prepared.dataset.class_names)
        for text in calibration_notes(calibration, plan):
            yield Note(text=text)
        packed = pack(
            staging,
            prepared,
            engine=engine,
            calibration=calibration,
            statistics=statistics,
            summary=summary,
            measured_on=measured_on,
            out_of_fold=held_out if measured_on.is_cross_validated else None,
        )
    checkpoints.remove()  # several times the size of the bundle, and a finished run is not resumed
    for text in packed.notes():
        yield Note(text=text, is_detail=True)
    duration_s = time.perf_counter() - clock.started
    run = Run(folder=folder, bundle=folder / BUNDLE, report=packed.measured.report, duration_s=duration_s)
    measured = with_run_time(
        packed.measured, duration_s=duration_s, is_resumed=loaded is not None, budget_s=clock.budget_s
    )
    write_bytes_atomic(folder / REPORT_JSON, pretty_json(measured.report.to_dict()))
    facts = facts_of_run(folder, prepared, measured, engine, duration_s=duration_s)
    page = measured.html(facts, with_pictures=plan.report_images and plan.reference == "images")
    write_bytes_atomic(folder / REPORT_HTML, page.encode())
    broadcast(world, run_to_json(run))
    yield run


def _as_trained(prepared: Prepared, cut_at_step: int | None) -> Prepared:
    """With the step in its plan at which training was cut short, so that the plan repeats it."""
    if cut_at_step is None:
        return prepared
    plan = prepared.plan
    return replace(prepared, plan=replace(plan, stop=replace(plan.stop, max_steps=cut_at_step)))


def _recorded(
    events: Generator[LearnEvent, None, tuple[TrainingSummary, HeldOut | None]],
    journal: Journal,
    folder: Path,
    prepared: Prepared,
) -> Generator[TrainEvent, None, tuple[TrainingSummary, HeldOut | None]]:
    """`events`, each recorded and followed by its warnings."""
    while True:
        try:
            event = next(events)
        except StopIteration as end:
            return cast(tuple[TrainingSummary, HeldOut | None], end.value)
        record_event(journal, event, prepared)
        if isinstance(event, PrunedLabels):
            write_pruned(folder, event)
            journal.record("noisy_labels", 0, {"num_images": event.num_images, "num_pruned": len(event.suspects)})
        if isinstance(event, CutShort):
            write_run_config(folder, _as_trained(prepared, event.step).plan)
        yield event
        for text in (*warnings_of(event), *journal.pop_warnings()):
            yield Note(text=text)


def _open_measured_split(folder: Path, prepared: Prepared) -> DataFacts:
    """The split that the report is measured on, or all images out of fold; if it is the test split, its opening is logged."""
    dataset, opens_test = prepared.dataset, prepared.plan.report_split == "auto"
    wanted = ("test",) if opens_test and "test" in dataset.given_splits else () if prepared.fits_val else ("val",)
    split = next((split for split in wanted if split in dataset.given_splits), "train")
    of = (split, "val") if split == "train" and prepared.fits_val else (split,)
    hashes = [prepared.hashes[sample.name] for name in of for sample in dataset.subset(name)]
    openings, seen, is_cross_validated = None, read_seen(folder), split == "train"
    if split == "test":
        openings = log_test_opening(folder, command="train", num_images=len(hashes), once=True).number
    return DataFacts(
        name=dataset.name,
        split=CROSS_VALIDATED if is_cross_validated else split,
        num_seen_in_training=seen.count("train", hashes),
        num_seen_in_selection=len(hashes) if is_cross_validated else seen.count("val", hashes),
        test_openings=openings,
        excluded=tuple((e.name, e.reason) for e in prepared.bad.get(split, ())),
    )
