"""Planning within a time budget: measure this machine on the data at hand, then choose what fits."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
from torch import nn

from recog.core.errors import BadImage, ConfigError
from recog.core.hardware import read_hardware
from recog.core.text import plural
from recog.data.dataset import Dataset, Sample, targets_of
from recog.data.store import ImageStore, Reader, read_exact, read_images, read_larger
from recog.deployment.onnx import Exported, open_exported
from recog.models.build import name_own_module
from recog.models.config import with_bundle, with_known_name
from recog.recipes.config import TrainConfig, with_options, with_parent
from recog.recipes.cost import (
    AIM,
    ENGINE_GAIN,
    LATE,
    MARGIN,
    MAX_EPOCHS,
    PROBE,
    Budget,
    Candidate,
    Choice,
    Counts,
    NetworkSpeed,
    NothingFitsError,
    Speeds,
    after_training_s,
    before_steps_s,
    candidates_for,
    choose,
    describe_seconds,
    epoch_s,
)
from recog.recipes.labelled_images import LabelledImages
from recog.recipes.learn import start_training
from recog.recipes.plan import LARGE_PHOTO_PX, StepsPlan, choose_recipe, plan
from recog.recipes.prepare import (
    NO_SPLITS,
    PlannedModel,
    Prepared,
    PreparedData,
    plan_model,
    prepare_data,
    prepare_model,
)
from recog.training.config import Precision
from recog.training.distributed import World
from recog.training.fit import StepLog, collect_logits, fit

NUM_READ = 256  # images that are read, and that steps are measured on
READ_S, STEPS_S = 1.0, 3.0  # time for measuring, beyond which no further image or step is taken; less of a short budget
WARM_UP, MOST_STEPS = 2, 24  # steps that allocate; steps in all
NUM_EAGER = 4  # images through torch's float32
PYTHON_S = 0.0055  # of `_pace_s` on one core of the machine of docs/speed.md


@dataclass(frozen=True, kw_only=True)
class BudgetPlan:
    """`config` with recipe, network, input size and epochs set; training's last step ends by `deadline`."""

    config: TrainConfig
    measured: Exported | None  # its network, if it was exported to be measured
    deadline: float  # seconds of time.perf_counter
    reasons: tuple[str, ...]


def check_budget(config: TrainConfig, world: World, *, find_lr: bool) -> None:
    """ConfigError where a setting is for what the budget plans."""
    given = {
        "--epochs (optim.epochs)": config.optim.epochs is not None,
        "stop.max_steps": config.stop.max_steps is not None,
        "--find-lr": find_lr,
        "head.compare": config.head.compare,
    }
    conflicts = [name for name, is_given in given.items() if is_given]
    if conflicts:
        raise ConfigError(
            f"--budget plans how long to train, which conflicts with {', '.join(conflicts)}; use one of them. A run.toml has its "
            "epochs and repeats its run without --budget."
        )
    if world.size > 1:
        raise ConfigError("--budget measures one process; under torchrun, give --epochs instead.")


def prepare_within(
    budget: Budget,
    config: TrainConfig,
    dataset: Dataset | None = None,
    *,
    network: nn.Module | None = None,
    known_splits: Mapping[str, str] = NO_SPLITS,
) -> tuple[Prepared, float]:
    """As `prepare`, by a plan that fits `budget`; and the time, of time.perf_counter, at which training has to end."""
    data = prepare_data(config, dataset, world=World(), known_splits=known_splits)
    found = plan_within(config, data, budget, network=network)
    prepared = prepare_model(found.config, data, network=network, world=World(), measured=found.measured)
    return replace(prepared, notes=(*prepared.notes, *found.reasons)), found.deadline


def plan_within(
    config: TrainConfig, data: PreparedData, budget: Budget, *, network: nn.Module | None = None
) -> BudgetPlan:
    """What fits `budget`, by the speed of this machine on the data. ConfigError where nothing does."""
    planned = _Planner(config, data, network)
    speeds = planned.measure(budget)
    choice, used_s = planned.choose(budget, speeds), time.perf_counter() - budget.started
    return BudgetPlan(
        config=planned.config_of(choice.candidate, choice.epochs),
        measured=planned.exported.get(choice.candidate),
        deadline=budget.started + budget.seconds - LATE * choice.after_s,
        reasons=(*planned.reasons, _describe(budget, choice, used_s)),
    )


def _describe(budget: Budget, choice: Choice, used_s: float) -> str:
    candidate = choice.candidate
    size = "" if candidate.image_size is None else f" at {candidate.image_size[1]} px"
    epochs = f", {plural(choice.epochs, 'epoch')}" if choice.epochs else ""
    end = "; more time is not expected to give a better one" if choice.is_last else ""
    return (
        f"budget {describe_seconds(budget.seconds)}: recipe {candidate.recipe}, {candidate.network}{size}{epochs}; "
        f"expected to end after {describe_seconds(used_s + choice.expected_s)}{end}"
    )


def _describe_too_short(budget: Budget, shortest: Choice, used_s: float, counts: Counts) -> str:
    least = _rounded(max(budget.seconds, MARGIN * (used_s + shortest.expected_s) / AIM))
    images = plural(counts.train + counts.val + counts.test, "image")
    return (
        f"--budget {describe_seconds(budget.seconds)} is too short for {images} on this machine as busy as it is now: the "
        f"shortest plan, recipe {shortest.candidate.recipe} with {shortest.candidate.network}, is expected to take "
        f"{describe_seconds(used_s + shortest.expected_s)} in all; give --budget {describe_seconds(least)} or more."
    )


def _rounded(seconds: float) -> float:
    """Up to 5 s, from one minute on to 30 s."""
    step = 5 if seconds < 60 else 30
    return math.ceil(seconds / step) * step


@dataclass(frozen=True, kw_only=True)
class Pace:
    """What a run takes on this machine, in seconds, as planned for a time budget."""

    epoch_s: float  # an epoch and its validation; 0 of a head
    before_s: float  # reading all images, and the head where there is one
    after_s: float  # export, calibration, evaluation and report


def measure_pace(config: TrainConfig, data: PreparedData, budget: Budget) -> Pace:
    """Of the recipe, network and input size that `config` names, which are measured on `data`.

    ConfigError where one run does not fit `budget`.
    """
    planner = _Planner(config, data, None)
    speeds, candidate = planner.measure(budget), planner.candidates[0]
    return Pace(
        epoch_s=0.0 if candidate.recipe == "head" else epoch_s(candidate, planner.counts, speeds),
        before_s=before_steps_s(candidate, planner.counts, speeds),
        after_s=after_training_s(candidate, planner.counts, speeds),
    )


class _Planner:
    """The candidates for `config`, and their speed."""

    def __init__(self, config: TrainConfig, data: PreparedData, network: nn.Module | None) -> None:
        if network is not None:
            config = replace(config, model=name_own_module(config.model, network))
        config, _ = with_parent(replace(config, model=with_known_name(config.model)))
        self._config, self._data, self._network = config, data, network
        recipe, _ = choose_recipe(config, data.facts, has_val="val" in data.dataset.given_splits)
        usual, name = _usual_network(config, data), config.model.name
        self.candidates = candidates_for(
            recipe,
            usual if name is None and config.model.weights not in ("auto", "none") else name,
            config.model.image_size,
            large=data.facts.median_short_side >= LARGE_PHOTO_PX,
            usual=usual,
        )
        splits = {split: len(data.dataset.subset(split)) for split in ("train", "val", "test")}
        self.counts = Counts(**splits, classes=len(data.dataset.class_names))
        self.exported: dict[Candidate, Exported] = {}
        self.reasons: tuple[str, ...] = ()
        self._share_s = math.inf  # of the budget, for measuring
        self._precisions: dict[str, Precision] = {}  # that the steps were measured in, by network

    def config_of(self, candidate: Candidate, epochs: int) -> TrainConfig:
        settings = candidate.settings(epochs)
        if candidate.network in self._precisions:
            settings["compute.precision"] = self._precisions[candidate.network]
        return with_options(self._config, {}, settings)

    def choose(self, budget: Budget, speeds: Speeds) -> Choice:
        """Of the candidates that `speeds` has the network of. ConfigError where none fits what is left of `budget`."""
        used_s = time.perf_counter() - budget.started
        candidates = [each for each in self.candidates if each.yardstick in speeds.networks]
        try:
            return choose(candidates, self.counts, speeds, left_s=AIM * budget.seconds - used_s)
        except NothingFitsError as error:
            raise ConfigError(_describe_too_short(budget, error.shortest, used_s, self.counts)) from None

    def measure(self, budget: Budget) -> Speeds:
        """Each network that a candidate is measured by, once, from the smallest, as far as a share of `budget` goes.

        ConfigError as soon as it is clear that not even the smallest fits.
        """
        of_network = {
            each.network: each for each in self.candidates if each.network == each.yardstick and each.cost == 1
        }
        self._share_s, started = PROBE * budget.seconds, time.perf_counter()
        speeds = Speeds(read_s=0.0, export_s=0.0, pace=_pace_s() / PYTHON_S)
        for name, candidate in of_network.items():
            if speeds.networks and time.perf_counter() - started > self._share_s:
                left_out = ", ".join(each for each in of_network if each not in speeds.networks)
                self.reasons = (f"not considered, as measuring takes at most {PROBE:.0%} of the budget: {left_out}",)
                break
            # planned for many epochs, as a short training does without the trial of bfloat16
            model = plan_model(self.config_of(candidate, MAX_EPOCHS), self._data, network=self._network)
            exact, read_s = self._read(read_exact(model.built.preprocess))
            speed, export_s = NetworkSpeed(eval_s=_eval_s(model, exact)), _export_s(model, speeds.pace)
            if not speeds.networks:
                guess = replace(speed, predict_s=speed.eval_s / ENGINE_GAIN)
                self.choose(budget, replace(speeds, read_s=read_s, export_s=export_s, networks={name: guess}))
            if isinstance(model.plan, StepsPlan):
                speed, larger_s = self._with_steps(speed, candidate, model, exact)
                read_s = max(read_s, larger_s)
            if candidate.recipe != "scratch":
                speed, export_s = self._with_engine(speed, candidate, model, exact)
            speeds = replace(
                speeds,
                read_s=max(speeds.read_s, read_s),
                export_s=max(speeds.export_s, export_s),
                exported=tuple(self.exported),
                networks={**speeds.networks, name: speed},
            )
        return replace(speeds, pace=_pace_s() / PYTHON_S)

    def _with_steps(
        self, speed: NetworkSpeed, candidate: Candidate, model: PlannedModel, exact: LabelledImages
    ) -> tuple[NetworkSpeed, float]:
        """`speed` with that of steps, and the seconds for reading an image to augment."""
        plan, larger, larger_s = cast(StepsPlan, model.plan), exact, 0.0
        self._precisions[candidate.network] = plan.compute.precision
        if plan.augment.needs_larger_images:
            larger, larger_s = self._read(read_larger(model.built.preprocess))
        step_s = _step_s(model, plan, larger, limit_s=min(STEPS_S, self._share_s / 3))
        return replace(speed, step_s=step_s, predict_s=speed.eval_s), larger_s

    def _with_engine(
        self, speed: NetworkSpeed, candidate: Candidate, model: PlannedModel, exact: LabelledImages
    ) -> tuple[NetworkSpeed, float]:
        """`speed` with that of the engine, and the seconds of the export; the file is kept."""
        started = time.perf_counter()
        self.exported[candidate] = exported = open_exported(
            model.built.classifier,
            model.built.preprocess,
            self._data.dataset.class_names,
            num_threads=model.plan.compute.num_threads,
        )
        export_s = time.perf_counter() - started
        predict_s, num_features = _predict_s(exported, exact)
        return replace(speed, predict_s=predict_s, features=num_features), export_s

    def _read(self, reader: Reader) -> tuple[LabelledImages, float]:
        """Some training images, and the seconds for each."""
        limit_s = min(READ_S, self._share_s / 5)
        samples = self._data.dataset.subset("train")
        chosen = [samples[i] for i in np.unique(np.linspace(0, len(samples) - 1, NUM_READ).astype(int))]
        good: list[Sample] = []
        images = []
        started = time.perf_counter()
        for sample, image in zip(chosen, read_images(chosen, reader), strict=True):
            if not isinstance(image, BadImage):
                good.append(sample)
                images.append(image)
            if time.perf_counter() - started > limit_s and images:
                break
        read_s = (time.perf_counter() - started) / max(1, len(images))
        if not images:
            raise ConfigError("--budget found no usable image among those that it measures with; see recog scan.")
        dataset = self._data.dataset
        targets = targets_of(good, len(dataset.class_names), dataset.task)
        groups = np.arange(len(good), dtype=np.int64)
        return LabelledImages(store=ImageStore(images), targets=targets, groups=groups), read_s


def _usual_network(config: TrainConfig, data: PreparedData) -> str:
    """The network that is planned without a budget."""
    config = replace(config, model=with_bundle(config.model))
    planned, _ = plan(config, data.dataset, data.facts, read_hardware(), has_bfloat16=False)
    return str(planned.model.name)


def _eval_s(model: PlannedModel, images: LabelledImages) -> float:
    rows = images.store.rows()[:NUM_EAGER]
    collect_logits(model.built.classifier, rows, precision="float32")
    started = time.perf_counter()
    collect_logits(model.built.classifier, rows, precision="float32")
    return (time.perf_counter() - started) / len(rows)


def _step_s(model: PlannedModel, plan: StepsPlan, images: LabelledImages, *, limit_s: float) -> float:
    """Seconds of an image in a step, by the median of several steps with images of the full size."""
    images, step_cost = _repeated(images, plan.images_per_step), plan.schedule.step_cost
    plan = replace(plan, schedule=replace(plan.schedule, small_fraction=0.0))
    state, loader = start_training(model.built.classifier, images, plan, image_size=model.built.preprocess.image_size)
    times, num_images = [time.perf_counter()], 1
    for log in fit(state, loader, lambda step: 0.0, epochs=MOST_STEPS):
        if isinstance(log, StepLog):
            times.append(time.perf_counter())
            num_images = log.num_images
        is_enough = len(times) > WARM_UP + 1 and times[-1] - times[0] > limit_s
        if is_enough or len(times) > MOST_STEPS:
            break
    steps = [after - before for before, after in zip(times[WARM_UP:], times[WARM_UP + 1 :], strict=False)]
    return step_cost * statistics.median(steps) / num_images


def _repeated(images: LabelledImages, num_images: int) -> LabelledImages:
    """At least `num_images`, so that a step is of as many as it will be."""
    rows = np.arange(max(num_images, len(images.targets))) % len(images.targets)
    store = images.store
    return replace(
        images, store=ImageStore(store.fetch(rows)), targets=images.targets[rows], groups=images.groups[rows]
    )


def _predict_s(exported: Exported, images: LabelledImages) -> tuple[float, int]:
    """Seconds of an image by the engine, and the number of features."""
    rows = images.store.rows()[:32]
    exported.engine(rows)
    started = time.perf_counter()
    outputs = exported.engine(rows)
    return (time.perf_counter() - started) / len(rows), outputs.features.shape[1]


def _export_s(model: PlannedModel, pace: float) -> float:
    """What writing the ONNX file is expected to take: it grows with the layers."""
    layers = sum(1 for module in model.built.classifier.modules() if not list(module.children()))
    return (1.2 + 0.04 * layers) * pace


def _pace_s() -> float:
    """Seconds of a fixed piece of work in Python, the least of three."""

    def once() -> float:
        started = time.perf_counter()
        total = 0
        for number in range(200_000):
            total += number & 7
        return time.perf_counter() - started

    return min(once() for _ in range(3))
