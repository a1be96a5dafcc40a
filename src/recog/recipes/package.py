"""From a trained network to a sealed bundle: weights and ONNX, parity, evaluation, report, hashes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from recog.bundle.manifest import Manifest, TrainingData
from recog.bundle.reference import (
    MAX_REFERENCE_IMAGES,
    Reference,
    encode_reference,
    read_features,
    synthetic_images,
    write_features,
    write_reference,
)
from recog.bundle.seal import (
    CALIBRATION,
    CARD,
    CONFIG,
    ONNX,
    REPORT_JSON,
    RUN_CONFIG,
    WEIGHTS,
    seal,
)
from recog.core.config import config_to_dict, dump_toml
from recog.core.errors import BundleError, ConfigError
from recog.core.files import pretty_json
from recog.core.hardware import trim_memory
from recog.core.images.decode import decode
from recog.core.text import plural
from recog.data.balance import describe_balance, training_weights
from recog.data.dataset import Sample, choose_reference
from recog.deployment.contract import onnx_facts
from recog.deployment.feature_map import with_feature_map
from recog.deployment.onnx import TorchEngine, add_metadata, export_onnx, with_present_head
from recog.deployment.parity import MAX_PROB_DIFFERENCE, Parity, check_parity, compare_engines
from recog.evaluation.results.facts import DataFacts, TrainingFacts
from recog.evaluation.trust.calibration import Calibration
from recog.evaluation.trust.unknown import FeatureStatistics
from recog.models.classifier import Classifier
from recog.models.network_files import load_classifier, save_network_config, save_weights
from recog.recipes.calibrate import HeldOut, describe_calibration
from recog.recipes.events import TrainingSummary
from recog.recipes.labelled_images import run_engine
from recog.recipes.plan import Plan, StepsPlan
from recog.recipes.prepare import Prepared
from recog.report.card import render_card
from recog.report.measure import Measured, measure, measure_logits
from recog.runtime.engine import FileEngine, open_engine
from recog.runtime.predictor import Predictor, verify

MAX_PARITY_IMAGES = 128


@dataclass(frozen=True, kw_only=True)
class Packed:
    measured: Measured  # with the report
    parity: Parity
    calibration: Calibration

    def notes(self) -> list[str]:
        """What was verified and fitted, as lines of text."""
        return [
            f"ONNX export verified on {plural(self.parity.num_images, 'image')}: max probability difference "
            f"{self.parity.max_prob_difference:.1g}",
            *describe_calibration(self.calibration),
        ]


def export(folder: Path, prepared: Prepared) -> FileEngine:
    """Write weights, config.json and the ONNX file of the trained network into `folder`; returns the engine of the file."""
    model, class_names, task = prepared.model, prepared.dataset.class_names, prepared.dataset.task
    size, channels = model.preprocess.image_size, model.preprocess.channels
    save_weights(model, folder / WEIGHTS)
    save_network_config(model, folder / CONFIG, class_names=class_names, task=task)
    is_mapped = prepared.plan.export.feature_map
    data = None
    if prepared.plan.recipe == "head":
        data = None if is_mapped else with_present_head(prepared.frozen.data, model.classifier)
        prepared.frozen.close()
        trim_memory()
    if data is None:
        classifier = with_feature_map(model.classifier, size) if is_mapped else model.classifier
        export_onnx(classifier, folder / ONNX, image_size=size, channels=channels, class_names=class_names)
    else:
        (folder / ONNX).write_bytes(data)
    return open_engine(folder / ONNX, num_threads=prepared.plan.compute.num_threads)


def pack(  # noqa: PLR0913  all that a run made
    folder: Path,
    prepared: Prepared,
    *,
    engine: FileEngine,
    calibration: Calibration,
    statistics: FeatureStatistics | None,
    summary: TrainingSummary,
    measured_on: DataFacts,
    out_of_fold: HeldOut | None = None,
) -> Packed:
    """Write all other files of a bundle into `folder`, which `export` has begun, and seal it.

    `out_of_fold` are the answers to the training images that are measured where no split is held out.

    BundleError if the exported network does not predict as the trained one.
    """
    model, dataset, plan = prepared.model, prepared.dataset, prepared.plan
    data = TrainingData(
        name=dataset.name,
        fingerprint=prepared.fingerprint,
        num_images={split: len(dataset.subset(split)) for split in dataset.given_splits},
    )
    draft = Manifest(
        task=dataset.task,
        architecture=model.name,
        class_names=dataset.class_names,
        preprocess=model.preprocess,
        data=data,
        seed=plan.seed,
        files={},
    )
    if statistics is not None:
        write_features(folder, statistics.to_tensors())
    predictor = Predictor(
        manifest=draft,
        calibration=calibration,
        engine=engine,
        read_statistics=lambda: FeatureStatistics.from_tensors(read_features(folder)),
    )
    # this network is rebuilt from the files, so that weights and config.json are verified too; a module of the
    # user's own cannot be rebuilt, so the trained one itself is compared
    own_samples = dataset.subset("val") or dataset.subset("train")
    classifier = model.classifier if model.library == "own" else load_classifier(folder)
    parity = _check_export(predictor, TorchEngine(classifier), own_samples)
    if plan.export.feature_map:
        _check_map(engine, classifier, predictor.preprocess.read(own_samples[0].source, name=own_samples[0].name))
    del classifier
    (folder / CALIBRATION).write_bytes(pretty_json(calibration.to_dict()))
    add_metadata(folder / ONNX, onnx_facts(model.preprocess, calibration))
    measured = _measure(predictor, prepared, measured_on, out_of_fold)
    measured = replace(measured, report=replace(measured.report, training=training_facts(prepared, summary)))
    (folder / REPORT_JSON).write_bytes(pretty_json(measured.report.to_dict()))
    write_reference(folder, _reference(predictor, own_samples, plan))
    shipped = replace(  # without the places of this machine
        plan,
        data=replace(plan.data, source=dataset.name, images=(), exclude=plan.data.layout.exclude_patterns, relabel=""),
        model=replace(plan.model, weights=Path(plan.model.weights).name, parent=""),
    )
    (folder / RUN_CONFIG).write_text(dump_toml(config_to_dict(shipped)), encoding="utf-8")
    card = render_card(
        measured.report,
        draft,
        origin=(model.origin.source, model.origin.licence),
        parent=model.origin.parent,
        recipe=plan.recipe,
        library=model.library,
        has_map=plan.export.feature_map,
    )
    (folder / CARD).write_text(card, encoding="utf-8")
    seal(folder, draft)
    trim_memory()
    verify(folder)  # read again, the sealed files predict the reference images as before
    return Packed(measured=measured, parity=parity, calibration=calibration)


def _measure(predictor: Predictor, prepared: Prepared, measured_on: DataFacts, out_of_fold: HeldOut | None) -> Measured:
    dataset, exact = prepared.dataset, prepared.exact
    if out_of_fold is None or exact is None:
        samples = dataset.subset(measured_on.split or "val")
        return measure(predictor, dataset, samples, policy=prepared.plan.data.bad_images, facts=measured_on)
    by_name = {sample.name: sample for split in ("train", "val") for sample in dataset.subset(split)}
    val_names = () if prepared.val is None else prepared.val.names
    names = exact.names + val_names
    if len(out_of_fold.logits) < len(names):  # many images: of heads that were fitted without val
        names = val_names
    samples = tuple(by_name[name] for name in names)
    return measure_logits(
        predictor, samples, out_of_fold.logits, out_of_fold.targets, uniforms=out_of_fold.uniforms, facts=measured_on
    )


def training_facts(prepared: Prepared, summary: TrainingSummary) -> TrainingFacts:
    """How the network was trained, for the report."""
    plan, dataset = prepared.plan, prepared.dataset
    train = prepared.exact if prepared.larger is None else prepared.larger
    if train is None:
        raise ConfigError("no training data were prepared.")  # prepare gives one of the two for every recipe
    steps = plan if isinstance(plan, StepsPlan) else None
    is_weighted = plan.balance == "weights" or (plan.balance == "sampler" and steps is None)
    effect = [] if plan.balance == "auto" else describe_balance(dataset, plan.balance, by_steps=steps is not None)
    weights = training_weights(
        train.targets, len(dataset.class_names), is_balanced=is_weighted, factors=train.class_factors
    )
    return TrainingFacts(
        network=prepared.model.name,
        recipe=plan.recipe,
        num_images=len(train.targets),
        num_planned_epochs=0 if steps is None else steps.optim.epochs,
        batch_size=0 if steps is None else min(steps.images_per_step, len(train.targets)),
        balance=plan.balance,
        balance_effect=" ".join(effect),
        class_weights=() if weights is None else tuple(float(weight) for weight in weights),
        **vars(summary),
    )


def with_run_time(
    measured: Measured, *, duration_s: float, is_resumed: bool, budget_s: float | None = None
) -> Measured:
    """With what only this run is; equal runs write equal bundles, which do not have it."""
    training = measured.report.training
    if training is not None:
        training = replace(training, duration_s=duration_s, is_resumed=is_resumed, budget_s=budget_s)
    return replace(measured, report=replace(measured.report, training=training))


def _check_export(predictor: Predictor, second: TorchEngine, samples: Sequence[Sample]) -> Parity:
    chosen = [samples[i] for i in choose_reference(_kinds(samples), MAX_PARITY_IMAGES)]
    images = np.stack([predictor.preprocess.read(s.source, name=s.name) for s in chosen])
    calibration = predictor.calibration
    ours = calibration.apply(second(images).logits)
    theirs = calibration.apply(run_engine(predictor.engine, images)[0].logits)
    parity = compare_engines(ours, theirs, task=calibration.task, thresholds=calibration.threshold_values)
    check_parity(parity)
    return parity


def _check_map(engine: FileEngine, second: Classifier, image: NDArray[np.uint8]) -> None:
    """BundleError unless the file's feature map of `image` uint8 [H, W, C] is the network's."""
    found = engine(image[None], feature_map=True).feature_map
    with torch.inference_mode():
        expected = with_feature_map(second, (image.shape[0], image.shape[1]))(torch.as_tensor(image[None]))[2].numpy()
    if found is None or np.abs(found - expected).max() > MAX_PROB_DIFFERENCE * np.abs(expected).max():
        raise BundleError(
            "the feature map of the exported model differs from the trained network's. No bundle was written. Train without "
            "export.feature_map, and please report the network's name."
        )


def _kinds(samples: Sequence[Sample]) -> list[int]:
    """A number for each label, or each set of labels, that samples have: of each kind some are wanted."""
    numbers: dict[tuple[int, ...], int] = {}
    return [numbers.setdefault(sample.labels, len(numbers)) for sample in samples]


def _reference(predictor: Predictor, samples: Sequence[Sample], plan: Plan) -> Reference:
    preprocess = predictor.preprocess
    if plan.reference == "none":
        return Reference(kind="none", images=(), probs=np.zeros((0, 0), dtype=np.float32))
    if plan.reference == "synthetic":
        pictures = synthetic_images(preprocess, seed=plan.seed)
    else:
        chosen = choose_reference(_kinds(samples), MAX_REFERENCE_IMAGES)
        pictures = [
            decode(samples[i].source, name=samples[i].name, channels=preprocess.channels, limits=preprocess.limits)
            for i in chosen
        ]
    files = tuple(encode_reference(picture, preprocess) for picture in pictures)
    images = np.stack([preprocess.read(file) for file in files])
    outputs, _ = run_engine(predictor.engine, images)  # in parts: 16 photos at once take 600 MB
    probs = predictor.calibration.apply(outputs.logits).astype(np.float32)
    return Reference(kind=plan.reference, images=files, probs=probs)
