"""One trial: a head on shared features, or a network trained by gradient steps, and its answers to held-out images.

Decoded images and frozen features are computed once for all trials that need the same ones; features are also kept in the
study's folder, for its other processes.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from recog.core.config import config_to_dict
from recog.core.errors import ConfigError, TrainingError, TrainingStopped, one_line
from recog.core.files import canonical_json, sha256_bytes
from recog.core.hardware import read_hardware
from recog.core.preprocess import Preprocess
from recog.data.balance import training_weights
from recog.data.dataset import Dataset, Targets, targets_of
from recog.evaluation.trust.scaling import fit_temperature
from recog.models.config import with_bundle, with_known_name
from recog.recipes.choose_head import choose
from recog.recipes.config import BY_STEPS, Recipe, TrainConfig, with_options, with_parent
from recog.recipes.events import CutShort, EpochResult, score_answers
from recog.recipes.head import head_data, is_cross_fitted, try_heads
from recog.recipes.labelled_images import DecodedSplits, FrozenFeatures, decode_splits, frozen_features
from recog.recipes.learn import learn
from recog.recipes.plan import Plan, plan
from recog.recipes.prepare import Prepared, PreparedData, prepare_model
from recog.recipes.resume import ResumePoint
from recog.training.device import is_out_of_memory
from recog.training.distributed import World
from recog.training.fit import collect_logits
from recog.training.head import HeadData
from recog.tuning.optimism import pack_answers
from recog.tuning.space import Value, as_setting

NUM_DECODED = 3  # decoded forms of the data that are kept in memory
NUM_FEATURES = 6  # arrays of features
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a finished trial gave. `plan` is the config of its run, with every setting."""

    plan: Mapping[str, Any]
    score: float
    nll: float
    answers: str
    epochs: int = 0
    full_s: float = 0.0
    own_s: float = 0.0  # of it, what no other trial shares: without features


class TrialEndedError(Exception):
    """A trial that ended before its time."""

    def __init__(self, reason: str, *, has_failed: bool = False, epochs: int = 0) -> None:
        super().__init__(reason)
        self.reason, self.has_failed, self.epochs = reason, has_failed, epochs


@dataclass(frozen=True, kw_only=True, eq=False)
class SharedFeatures:
    """Frozen features of train, then val, with all that fitting heads on them needs."""

    plan: Mapping[str, Any]
    data: HeadData
    coins: NDArray[np.float64]
    num_train: int
    seconds: float  # that they took


def without_test(data: PreparedData) -> PreparedData:
    """`data` as the trials see them: the test split is not part of them."""
    samples = tuple(sample for sample in data.dataset.samples if sample.split != "test")
    return replace(data, dataset=replace(data.dataset, samples=samples))


def planned(config: TrainConfig, data: PreparedData) -> Plan:
    """The plan of `config` for `data`, without building a network."""
    config, _ = with_parent(replace(config, split=data.split, model=with_known_name(config.model)))
    config = replace(config, model=with_bundle(config.model))
    return plan(config, data.dataset, data.facts, read_hardware(), has_bfloat16=False)[0]


def config_of(
    config: TrainConfig,
    data: PreparedData,
    recipe: Recipe,
    settings: Mapping[str, Value],
    *,
    factors: frozenset[str] = frozenset(),
    max_epochs: int | None = None,
) -> TrainConfig:
    """`config` with the settings of a trial; those in `factors` are multiplied with what is planned without them.

    At most `max_epochs` are trained.
    """
    plain = {name: as_setting(name, value) for name, value in settings.items() if name not in factors}
    chosen = with_options(replace(config, recipe=recipe), {}, plain)
    if recipe not in BY_STEPS:
        return chosen
    usual = planned(chosen, data)
    epochs = min(usual.optim.epochs or 1, max_epochs or 10**9)
    scaled: dict[str, Any] = {"optim.epochs": epochs}
    for name in sorted(factors & settings.keys()):
        section, _, key = name.partition(".")
        base = epochs if name == "optim.epochs" else getattr(getattr(usual, section), key)
        value = base * float(settings[name])
        scaled[name] = max(1, round(value)) if isinstance(base, int) else value
    return with_options(chosen, {}, scaled)


class _Recent(OrderedDict[str, T]):
    """The values that were used last, at most `size`."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size = size

    def get_or(self, key: str, make: Callable[[], T]) -> T:
        if key not in self:
            self[key] = make()
            while len(self) > self._size:
                self.popitem(last=False)
        self.move_to_end(key)
        return self[key]


class TrialRunner:
    """Runs trials on `data`, which has no test split. `folder` is for features, which other processes share.

    `out_of_fold`: trials are measured by cross-validation on train and val, else on val.
    """

    def __init__(self, data: PreparedData, folder: Path, *, out_of_fold: bool, is_shared: bool = False) -> None:
        self._data, self._folder, self._out_of_fold = data, folder, out_of_fold
        self._features: _Recent[SharedFeatures] = _Recent(NUM_FEATURES)
        self._decoded: _Recent[DecodedSplits] = _Recent(NUM_DECODED)
        self._precisions: dict[str, Any] = {}  # that were chosen by timing, by network and size
        self._read = partial(decode_splits, max_memory_bytes=0) if is_shared else decode_splits
        self.targets: Targets | None = None  # of the images that trials are measured on, once one has run

    def run(self, config: TrainConfig, report: Callable[[int, float], str], *, deadline: float = math.inf) -> Outcome:
        """Run the trial of `config`, whose recipe is set. `report` is told each epoch's score; a reason that it returns ends it.

        TrialEndedError where it ends before its time, by `report`, at `deadline` (time.perf_counter) or by a failure.
        """
        try:
            if config.recipe in BY_STEPS:
                return self._run_steps(config, report, deadline)
            return self._run_head(config)
        except TrainingStopped:
            raise
        except TrainingError as error:
            raise TrialEndedError(str(error), has_failed=True) from None
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise TrialEndedError(f"out of memory: {one_line(error)}", has_failed=True) from None
        except ConfigError as error:
            raise TrialEndedError(str(error), has_failed=True) from None

    def _run_head(self, config: TrainConfig) -> Outcome:
        started = time.perf_counter()
        shared = self.features(config)
        fitting = time.perf_counter()
        num_classes = len(self._data.dataset.class_names)
        is_balanced = config.balance in ("weights", "sampler")
        own = shared.data.weights  # the user's factors
        weights = training_weights(shared.data.targets, num_classes, is_balanced=is_balanced, factors=own)
        data = replace(shared.data, weights=weights)
        tried = try_heads(data, shared.num_train, config, num_classes, out_of_fold=self._out_of_fold)
        best = choose(tried)
        self.targets = data.targets if self._out_of_fold else data.targets[shared.num_train :]
        head = config_to_dict(replace(config.head, layers=cast(Any, shared.plan["head"]["layers"])))
        now = time.perf_counter()
        return Outcome(
            plan={**shared.plan, "head": head, "balance": config.balance},
            score=best.log.val_score[1],
            nll=best.log.val_nll,
            answers=pack_answers(best.logits, self.targets),
            full_s=max(now - started, shared.seconds + now - fitting),
            own_s=now - fitting,
        )

    def _run_steps(self, config: TrainConfig, report: Callable[[int, float], str], deadline: float) -> Outcome:
        started = time.perf_counter()
        prepared, features_s = self._prepare_steps(config)
        found = prepared.val
        if found is None:
            raise ConfigError("a trial of gradient training needs a validation split; remove --split none.")
        events, epochs, is_cut = learn(prepared, ResumePoint(), World(), deadline=deadline), 0, False
        for event in events:
            is_cut |= isinstance(event, CutShort)
            if isinstance(event, EpochResult):
                epochs = event.log.epoch
                reason = report(epochs, event.val_score[1])
                if reason:
                    events.close()
                    raise TrialEndedError(reason, epochs=epochs)
        if is_cut:
            raise TrialEndedError("stopped where the time was up", epochs=epochs)
        classifier, precision = prepared.model.classifier, prepared.plan.compute.precision
        logits = collect_logits(classifier, found.store.rows(), precision=precision).logits
        self.targets = found.targets
        fit = fit_temperature(logits, found.targets)
        return Outcome(
            plan=config_to_dict(prepared.plan),
            score=score_answers(logits, found.targets).selection,
            nll=float(fit.nll_before if fit.is_bounded else fit.nll_after),  # where all are right, no temperature fits
            answers=pack_answers(logits[None], found.targets),
            epochs=epochs,
            full_s=time.perf_counter() - started + features_s,
        )

    def _prepare_steps(self, config: TrainConfig) -> tuple[Prepared, float]:
        """And the seconds that its frozen features took, where an earlier trial had computed them."""
        usual = planned(config, self._data)
        network = f"{usual.model.name} {usual.model.image_size}"
        if config.compute.precision is None and network in self._precisions:
            config = replace(config, compute=replace(config.compute, precision=self._precisions[network]))
        prepared = prepare_model(config, self._data, network=None, world=World(), decode=self._decode)
        self._precisions[network] = prepared.plan.compute.precision
        if prepared.exact is None or prepared.model.has_head:
            return prepared, 0.0
        is_known = _key_of(usual) in self._features
        shared = self._features.get_or(_key_of(usual), lambda: self._load(usual) or self._compute(prepared, usual))
        features = FrozenFeatures(features=shared.data.features, coins=shared.coins)
        return replace(prepared, features=features), shared.seconds if is_known else 0.0

    def features(self, config: TrainConfig) -> SharedFeatures:
        """Of the network, the input and the layers of `config`."""
        usual = planned(config, self._data)

        def compute() -> SharedFeatures:
            prepared = prepare_model(config, self._data, network=None, world=World(), decode=self._decode)
            return self._compute(prepared, usual)

        return self._features.get_or(_key_of(usual), lambda: self._load(usual) or compute())

    def _compute(self, prepared: Prepared, usual: Plan) -> SharedFeatures:
        exact, val = prepared.exact, prepared.val
        if exact is None:
            raise ConfigError("no images were read for frozen features.")  # prepare reads them for these recipes
        started = time.perf_counter()
        found = frozen_features(prepared.frozen.engine, [exact] if val is None else [exact, val])
        data = head_data(prepared.model.classifier, found, exact, val, replace(prepared.plan, balance="none"))
        shared = SharedFeatures(
            plan=config_to_dict(prepared.plan),
            data=data,
            coins=found.coins,
            num_train=len(exact.targets),
            seconds=time.perf_counter() - started,
        )
        self._save(shared, usual)
        return shared

    def _decode(
        self, dataset: Dataset, hashes: Mapping[str, str], preprocess: Preprocess, usual: Plan, world: World
    ) -> DecodedSplits:
        wants = [preprocess.to_dict(), usual.recipe, usual.augment.needs_larger_images, usual.data.bad_images]
        key = sha256_bytes(canonical_json([*wants, dict(usual.loss.class_weights)]))
        return self._decoded.get_or(key, lambda: self._read(dataset, hashes, preprocess, usual, world))

    def _file_of(self, usual: Plan) -> Path:
        return self._folder / f"{_key_of(usual)[:32]}.npz"

    def _load(self, usual: Plan) -> SharedFeatures | None:
        """From the study's folder; None where they are not there, or not whole."""
        try:
            with np.load(self._file_of(usual), allow_pickle=False) as arrays:
                facts = json.loads(str(arrays["facts"]))
                data = HeadData(features=arrays["features"], targets=arrays["targets"], groups=arrays["groups"])
                coins, weights = arrays["coins"], arrays["weights"]
        except (OSError, ValueError, KeyError, EOFError):
            return None
        return SharedFeatures(
            plan=facts["plan"],
            data=replace(data, weights=weights if len(weights) else None),
            coins=coins,
            num_train=facts["num_train"],
            seconds=facts["seconds"],
        )

    def _save(self, shared: SharedFeatures, usual: Plan) -> None:
        self._folder.mkdir(exist_ok=True)
        data = shared.data
        facts = json.dumps({"plan": shared.plan, "num_train": shared.num_train, "seconds": shared.seconds})
        descriptor, name = tempfile.mkstemp(dir=self._folder, suffix=".tmp")
        with os.fdopen(descriptor, "wb") as file:
            np.savez(
                file,
                features=data.features,
                targets=data.targets,
                groups=data.groups,
                weights=np.zeros(0) if data.weights is None else data.weights,
                coins=shared.coins,
                facts=np.array(facts),
            )
        os.replace(name, self._file_of(usual))


def measured_out_of_fold(data: PreparedData, recipes: tuple[Recipe, ...]) -> bool:
    """Whether trials are measured by cross-validation: where all of them are heads, and images so few that these do so anyway."""
    if set(recipes) != {"head"}:
        return False
    dataset = data.dataset
    kept = [sample for sample in dataset.samples if sample.split in ("train", "val")]
    num_classes = len(dataset.class_names)
    together = HeadData(
        features=np.zeros((len(kept), 1), np.float32),
        targets=targets_of(kept, num_classes, dataset.task),
        groups=np.arange(len(kept), dtype=np.int64),
    )
    return is_cross_fitted(together, len(dataset.subset("train")), num_classes)


def _key_of(usual: Plan) -> str:
    """A digest over what decides the frozen features."""
    table = config_to_dict(usual)
    kept = {name: table.get(name) for name in ("model", "data", "limits", "seed", "split")}
    layers = [usual.recipe, usual.head.layers, usual.head.mirror, dict(usual.loss.class_weights)]
    return sha256_bytes(canonical_json([kept, layers]))
