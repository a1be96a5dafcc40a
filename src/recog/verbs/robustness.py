"""`recog robustness`: how a bundle's answers change under corruptions and attacks, on labelled images."""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from recog.bundle.seal import CARD, REPORT_HTML
from recog.core import notebook
from recog.core.errors import BadImage, ConfigError, DataError
from recog.core.files import claimed, pretty_json, staged_folder, write_bytes_atomic
from recog.core.hardware import num_cores
from recog.core.outputs import check_new_path
from recog.core.records import read_bytes
from recog.core.version import __version__
from recog.data.data_layout import DETECTED, DataLayout
from recog.data.dataset import Dataset, Sample, describe_exclusions, targets_of
from recog.data.lists.label_format import AS_FOUND, LabelFormat
from recog.data.sources import Source
from recog.data.store import BadImagePolicy, exclude_bad, read_images
from recog.perturbation.attack_config import ATTACKS_OF, AttackConfig, build_attack_config
from recog.perturbation.corruptions import MAX_SMALL_PX, SEVERITIES, choose_corruptions, corrupt
from recog.perturbation.measure import CLEAN, Condition, ConditionLog, Subject, measure_conditions
from recog.perturbation.page import render_robustness
from recog.perturbation.report import CorruptionReport, RobustnessReport, corruption_report, table_of
from recog.perturbation.run_section import with_card_section, with_report_section
from recog.runtime.engine import ENGINES
from recog.runtime.predictor import Predictor, load
from recog.verbs.eligible import ChosenSamples, Side, choose_samples, open_as_trained, with_classes_of
from recog.verbs.evaluate import claim_in_run

if TYPE_CHECKING:
    from recog.perturbation.attack_suite import AttackReport

ROBUSTNESS = "robustness"  # the folder in a run
MODEL_CARD = "model_card.md"  # in a run: that of its bundle, which is sealed, with what was measured later
MAX_PAGE_BYTES = 1 << 30
MAX_IMAGES = 1000
QUICK_CORRUPTIONS = (
    *("gaussian_noise", "motion_blur", "snow", "contrast", "jpeg_compression"),
    *("rotation", "resize_chain"),
)
QUICK_SEVERITIES = (1, 3, 5)
QUICK_IMAGES = 200


@dataclass(frozen=True, kw_only=True)
class RobustnessRun:
    """A report, and the folder that its files were written to, if any."""

    report: RobustnessReport
    folder: Path | None
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        return f"RobustnessRun({self.report!r}, folder={str(self.folder) if self.folder else None!r})"

    def _repr_html_(self) -> str:
        files = notebook.paragraph(f"Report: {self.folder / 'robustness.html'}") if self.folder else ""
        return notebook.below(self.report._repr_html_(), files, *(notebook.paragraph(n, soft=True) for n in self.notes))


@dataclass(frozen=True, kw_only=True)
class RobustnessProgress:
    """`num_done` of all conditions are measured, `name` is the corruption of the last; or of the images that `name` attacks."""

    num_done: int
    num_all: int
    name: str


@dataclass(frozen=True, kw_only=True)
class RobustnessConfig:
    """What to measure. `corruptions` are names or groups of CORRUPTIONS, 'all', or 'none'; images are spread over the classes."""

    corruptions: tuple[str, ...] = ("all",)
    severities: tuple[int, ...] = SEVERITIES
    num_images: int = MAX_IMAGES
    seed: int = 0
    num_threads: int | None = None
    out: Path | None = None  # a new folder; in the run if None
    attacks: AttackConfig | None = None
    report_images: bool = True  # whether the page shows the first image under each corruption

    def __post_init__(self) -> None:
        wrong = [severity for severity in self.severities if severity not in SEVERITIES]
        if wrong or not self.severities:
            raise ConfigError(f"--severities is {list(self.severities)}; expected some of 1, 2, 3, 4, 5.")
        if self.num_images < 1:
            raise ConfigError(f"--limit is {self.num_images}; it must be 1 or more.")
        if not 0 <= self.seed < 2**63:
            raise ConfigError(f"--seed is {self.seed}; it must be a whole number from 0 to 2^63 - 1.")
        if "none" in self.corruptions and len(self.corruptions) > 1:
            raise ConfigError("--corruptions names 'none' and others; give one or the other.")
        self.names(channels=3)

    def names(self, *, channels: int) -> tuple[str, ...]:
        """The corruptions in the order of the table. ConfigError for an unknown name."""
        return () if self.corruptions == ("none",) else choose_corruptions(self.corruptions, channels=channels)


def robustness(  # noqa: PLR0913  keywords of a public verb
    bundle: str | Path,
    source: Source,
    *,
    corruptions: Sequence[str] | None = None,
    severities: Sequence[int] | None = None,
    limit: int | None = None,
    quick: bool = False,
    attacks: Sequence[str] = (),
    norm: Literal["linf", "l2"] = "linf",
    eps: str | float | None = None,
    restarts: int = 1,
    seed: int = 0,
    split: str | None = None,
    out: str | Path | None = None,
    bad_images: BadImagePolicy = "auto",
    labels: LabelFormat = AS_FOUND,
    layout: DataLayout = DETECTED,
    include_seen: bool = False,
    report_images: bool = True,
) -> RobustnessRun:
    """Measure a bundle, run folder or run's name on corrupted forms of the images of `source`, read as for `recog.evaluate`.

    `corruptions` are names, the groups 'common', 'extra' and 'camera', or 'all'; `severities` are of 1 to 5; `limit` is the
    number of images, 1,000 by default, spread over the classes. `quick` takes seven corruptions at severities 1, 3 and 5 on 200
    images, where these are not given.

    `attacks` are of fgsm, pgd, apgd-ce, apgd-dlr and square, or 'all': changes of at most `eps` ('8/255') in `norm`. They need
    torch, and corruptions are then measured only where they are given. Files go to `out`, else to the run's folder, else nowhere.
    """
    attack = build_attack_config(attacks, norm=norm, eps=eps, restarts=restarts, quick=quick)
    config = build_robustness_config(corruptions, severities, limit, quick=quick, attacks=attack)
    config = replace(config, seed=seed, out=None if out is None else Path(out), report_images=report_images)
    labelled = open_labelled(bundle, source, split=split, labels=labels, layout=layout, include_seen=include_seen)
    *_, last = robustness_events(labelled, config, bad_images=bad_images)
    if not isinstance(last, RobustnessRun):
        raise DataError("robustness was not measured.")
    return last


def build_robustness_config(
    corruptions: Sequence[str] | None,
    severities: Sequence[int] | None,
    limit: int | None,
    *,
    quick: bool,
    attacks: AttackConfig | None = None,
) -> RobustnessConfig:
    """What was given, else the defaults, which are fewer if `quick` or with attacks."""
    usual = ("none",) if attacks else QUICK_CORRUPTIONS if quick else ("all",)
    return RobustnessConfig(
        corruptions=tuple(corruptions or usual),
        severities=tuple(sorted({*(severities or (QUICK_SEVERITIES if quick else SEVERITIES))})),
        num_images=(QUICK_IMAGES if quick or attacks else MAX_IMAGES) if limit is None else limit,
        attacks=attacks,
    )


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """A bundle and the images that it may be measured on."""

    bundle: str  # as it was given
    side: Side
    dataset: Dataset
    chosen: ChosenSamples


def open_labelled(
    bundle: str | Path,
    source: Source,
    *,
    split: str | None,
    labels: LabelFormat,
    layout: DataLayout,
    include_seen: bool,
) -> Labelled:
    side = Side.load(bundle)
    dataset = open_as_trained(source, side.folder, side.predictor.manifest, labels=labels, layout=layout)
    dataset = with_classes_of(dataset, side.predictor.class_names)
    chosen = choose_samples(dataset, split, [side], include_seen=include_seen)
    return Labelled(bundle=str(bundle), side=side, dataset=dataset, chosen=chosen)


def robustness_events(
    labelled: Labelled, config: RobustnessConfig, *, bad_images: BadImagePolicy = "auto"
) -> Iterator[RobustnessProgress | RobustnessRun]:
    """Measure the conditions in turn; the last event is the result. The engine is the fastest that `recog bench` has found."""
    out = config.out
    if config.attacks is not None:
        if not ATTACKS_OF[labelled.dataset.task]:
            raise ConfigError(
                "attacks need one class per image, and this bundle predicts several labels. Remove --attacks."
            )
        importlib.import_module("torch")  # before the images are read; its absence is reported
    if out is not None:
        check_new_path(out, "--out")
    with contextlib.nullcontext() if out is None else claimed(out):
        subject, notes = _read_subject(labelled, config, bad_images)
        names = config.names(channels=subject.predictor.preprocess.channels)
        log = ConditionLog(subject)
        found = yield from _measure_corruptions(subject, names, config.severities, log)
        attacked = yield from _attack(labelled, subject, config.attacks)
        report = _report(labelled, subject, found, attacked)
        folder, note = (
            (out, None) if out is not None else claim_in_run(labelled.side.run, ROBUSTNESS, labelled.dataset.name)
        )
        if folder is not None:
            page = render_robustness(report, _samples(subject, names) if config.report_images else ())
            _write(folder, report, page)
            if out is None and labelled.side.run is not None:
                notes += _add_to_run(labelled.side.run, labelled.side.folder, folder, report)
        log.remove()
    yield RobustnessRun(report=report, folder=folder, notes=tuple(filter(None, [*notes, note])))


def _measure_corruptions(
    subject: Subject, names: Sequence[str], severities: Sequence[int], log: ConditionLog
) -> Generator[RobustnessProgress, None, CorruptionReport | None]:
    if not names:
        return None
    predictor, measured = subject.predictor, list[Condition]()
    conditions = [(CLEAN, 0), *((name, severity) for name in names for severity in severities)]
    for condition in measure_conditions(subject, conditions, log):
        measured.append(condition)
        yield RobustnessProgress(num_done=len(measured), num_all=len(conditions), name=condition.name)
    constants = "CIFAR-10-C" if min(predictor.preprocess.image_size) <= MAX_SMALL_PX else "ImageNet-C"
    return corruption_report(measured, subject.is_class, predictor.class_names, constants=constants)


def _attack(
    labelled: Labelled, subject: Subject, config: AttackConfig | None
) -> Generator[RobustnessProgress, None, AttackReport | None]:
    if config is None:
        return None
    from recog.perturbation.attack_suite import Attacked, AttackProgress, attack_bundle

    attacked = Attacked(
        images=subject.images, labels=subject.targets.astype(np.int64), hashes=subject.hashes, seed=subject.seed
    )
    report = None
    for event in attack_bundle(labelled.side.folder, attacked, config):
        if isinstance(event, AttackProgress):
            yield RobustnessProgress(num_done=event.num_done, num_all=event.num_all, name=event.name)
        else:
            report = event
    return report


def _read_subject(labelled: Labelled, config: RobustnessConfig, policy: BadImagePolicy) -> tuple[Subject, list[str]]:
    """The images as the network takes them, and notes on how they were chosen."""
    side, dataset, chosen = labelled.side, labelled.dataset, labelled.chosen
    notes = [*chosen.notes, *dataset.notes, *describe_exclusions(dataset)]
    numbers = _spread(chosen, config.num_images)
    if len(numbers) < len(chosen.samples):
        notes.append(
            f"{len(numbers):,} of {len(chosen.samples):,} images are measured, spread over the classes; --limit N sets the number"
        )
    opening = side.log_opening("robustness", dataset, [chosen.hashes[i] for i in numbers])
    if opening is not None and opening.note is not None:
        notes.append(opening.note)
    predictor = load(side.folder, num_threads=config.num_threads, engine="auto")
    samples = [chosen.samples[i] for i in numbers]
    good, images, bad = [], [], []
    for i, image in zip(numbers, read_images(samples, partial(_read, predictor)), strict=True):
        if isinstance(image, BadImage):
            bad.append(image)
        else:
            good.append(i)
            images.append(image)
    exclude_bad(dataset, bad, policy=policy)
    if not good:
        raise DataError(f"{dataset.name} has no usable image to measure.")
    notes += [f"left out {image.name}: {image.reason}" for image in bad]
    targets = targets_of([chosen.samples[i] for i in good], len(predictor.class_names), dataset.task)
    subject = Subject(
        predictor=predictor,
        images=np.stack(images),
        hashes=[chosen.hashes[i] for i in good],
        targets=targets,
        num_threads=config.num_threads or num_cores(),
        seed=config.seed,
    )
    return subject, notes


def _read(predictor: Predictor, sample: Sample) -> NDArray[np.uint8]:
    return predictor.preprocess.read(sample.source, name=sample.name)


def _spread(chosen: ChosenSamples, limit: int) -> list[int]:
    """At most `limit` images, as many of each class as it has of all; which of them, by their contents."""
    if len(chosen.samples) <= limit:
        return list(range(len(chosen.samples)))
    by_class = sorted(range(len(chosen.samples)), key=lambda i: (chosen.samples[i].labels, chosen.hashes[i]))
    return sorted(by_class[i] for i in np.linspace(0, len(by_class) - 1, limit).astype(int))


def _report(
    labelled: Labelled, subject: Subject, found: CorruptionReport | None, attacked: AttackReport | None
) -> RobustnessReport:
    predictor = subject.predictor
    seen = [labelled.side.count(role, labelled.dataset, subject.hashes) for role in ("train", "val")]
    libraries = ("numpy", "scipy", "pillow", ENGINES[predictor.engine_name].runtime)
    return RobustnessReport(
        bundle=labelled.bundle,
        data=labelled.dataset.name,
        split=labelled.chosen.split,
        task=labelled.dataset.task,
        num_images=len(subject.images),
        image_size=predictor.preprocess.image_size,
        engine=predictor.engine_name,
        seed=subject.seed,
        data_digest=subject.data_digest(),
        num_seen=None if None in seen else sum(count or 0 for count in seen),
        versions={"recog": __version__, **{name: importlib.metadata.version(name) for name in libraries}},
        corruptions=found,
        attacks=attacked,
    )


def _samples(subject: Subject, names: Sequence[str]) -> list[tuple[str, NDArray[np.uint8]]]:
    """The first image as it is, and under each of the corruptions at severity 3; nothing without corruptions."""
    if not names:
        return []
    image, index = subject.images[0], int(subject.hashes[0][:8], 16)
    return [(CLEAN, image), *((name, corrupt(image, name, 3, seed=subject.seed, index=index)) for name in names)]


def _add_to_run(run: Path, bundle: Path, folder: Path, report: RobustnessReport) -> list[str]:
    """Put the section of `report`, written in `folder` of the run, into its page and a copy of its model card; notes."""
    page, notes = run / REPORT_HTML, []
    if page.is_file():
        link = quote((folder / "robustness.html").relative_to(run).as_posix())
        text = with_report_section(read_bytes(page, max_bytes=MAX_PAGE_BYTES, error=DataError).decode(), report, link)
        if text is None:
            notes.append(f"{page} was written by an earlier release and has no place for a section on robustness")
        else:
            write_bytes_atomic(page, text.encode())
    card = read_bytes(bundle / CARD).decode()
    write_bytes_atomic(run / MODEL_CARD, with_card_section(card, report).encode())
    return notes


def _write(folder: Path, report: RobustnessReport, page: str) -> None:
    with staged_folder(folder, is_claimed=True) as staging:
        (staging / "robustness.json").write_bytes(pretty_json(report.to_dict()))
        if report.corruptions is not None:
            (staging / "robustness.csv").write_text(table_of(report.corruptions), encoding="utf-8")
        (staging / "robustness.html").write_text(page, encoding="utf-8")
