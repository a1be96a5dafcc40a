"""From a trained classifier to a sealed bundle, in order: weights and ONNX, calibration, parity, evaluation, report, hashes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from recog.bundle.features import read_features, write_features
from recog.bundle.manifest import Manifest, TrainingData
from recog.bundle.reference import (
    MAX_REFERENCE_IMAGES,
    Reference,
    encode_reference,
    synthetic_images,
    write_reference,
)
from recog.bundle.seal import (
    CALIBRATION,
    CARD,
    CONFIG,
    ONNX,
    REPORT_HTML,
    REPORT_JSON,
    RUN_CONFIG,
    WEIGHTS,
    seal,
)
from recog.core.config import config_to_dict, dump_toml
from recog.core.decode import decode
from recog.core.files import pretty_json
from recog.data.dataset import Dataset, Sample, choose_reference
from recog.evaluation.results.data_facts import DataFacts
from recog.evaluation.results.read import AnyReport
from recog.evaluation.results.training_facts import TrainingFacts
from recog.evaluation.trust.calibration import Calibration
from recog.evaluation.trust.unknown import FeatureStatistics
from recog.export.onnx import export_onnx
from recog.export.parity import Parity, check_parity, compare_engines
from recog.export.torch_engine import TorchEngine
from recog.models.build import BuiltModel
from recog.models.network_files import load_classifier, save_network_config, save_weights
from recog.recipes.plan import Plan
from recog.report.card import render_card
from recog.report.measure import Measured, measure
from recog.runtime.engine import Engine, OnnxEngine
from recog.runtime.predictor import Predictor
from recog.runtime.verify import verify

MAX_PARITY_IMAGES = 128


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What the bundle says of where it comes from: the data, the training, and what it is measured on."""

    data: TrainingData
    training: TrainingFacts
    measured_on: DataFacts


@dataclass(frozen=True, kw_only=True)
class Packed:
    manifest: Manifest
    report: AnyReport
    parity: Parity
    calibration: Calibration
    measured: Measured


def pack(
    folder: Path,
    *,
    model: BuiltModel,
    dataset: Dataset,
    calibrate: Callable[[Engine], tuple[Calibration, FeatureStatistics | None]],
    plan: Plan,
    origin: Origin,
) -> Packed:
    """Write every file of a bundle into `folder` and seal it. Raises BundleError where the export does not answer alike.

    `calibrate` fits the calibration with the engine that will serve the bundle.
    """
    save_weights(model, folder / WEIGHTS)
    save_network_config(model, folder / CONFIG, class_names=dataset.class_names)
    preprocess = model.preprocess
    export_onnx(
        model.classifier,
        folder / ONNX,
        image_size=preprocess.image_size,
        channels=preprocess.channels,
        class_names=dataset.class_names,
    )
    draft = Manifest(
        task=dataset.task,
        architecture=model.name,
        class_names=dataset.class_names,
        preprocess=preprocess,
        data=origin.data,
        seed=plan.seed,
        files={},
    )
    engine = OnnxEngine(folder / ONNX, num_threads=plan.compute.num_threads)
    calibration, statistics = calibrate(engine)
    if statistics is not None:
        write_features(folder, statistics.to_tensors())
    predictor = Predictor(
        manifest=draft,
        calibration=calibration,
        engine=engine,
        read_statistics=lambda: FeatureStatistics.from_tensors(read_features(folder)),
    )
    # the second opinion is rebuilt from the files, so that weights and config.json are gated too; a user's own module
    # cannot be, so that the trained one itself is asked
    second = model.classifier if model.library == "own" else load_classifier(folder)
    parity = _check_export(predictor, TorchEngine(second), dataset.subset("val"))
    (folder / CALIBRATION).write_bytes(pretty_json(predictor.calibration.to_dict()))
    facts = origin.measured_on
    measured = measure(
        predictor, dataset, dataset.subset(facts.split or "val"), policy=plan.data.bad_images, facts=facts
    )
    measured = replace(measured, report=replace(measured.report, training=origin.training))
    (folder / REPORT_JSON).write_bytes(pretty_json(measured.report.to_dict()))
    page = measured.html(with_pictures=plan.reference == "images")
    (folder / REPORT_HTML).write_text(page, encoding="utf-8")
    write_reference(folder, _reference(predictor, dataset.subset("val"), plan))
    (folder / RUN_CONFIG).write_text(dump_toml(config_to_dict(plan)), encoding="utf-8")
    card = render_card(
        measured.report,
        draft,
        origin=(model.origin.source, model.origin.licence),
        recipe=plan.recipe,
        is_timm=model.library == "timm",
    )
    (folder / CARD).write_text(card, encoding="utf-8")
    manifest = seal(folder, draft)
    verify(folder)  # the sealed files, read again, answer the reference images as they did
    return Packed(
        manifest=manifest,
        report=measured.report,
        parity=parity,
        calibration=predictor.calibration,
        measured=measured,
    )


def _check_export(predictor: Predictor, second: TorchEngine, samples: Sequence[Sample]) -> Parity:
    chosen = [samples[i] for i in choose_reference(_kinds(samples), MAX_PARITY_IMAGES)]
    images = np.stack([predictor.preprocess.read(s.source, name=s.name) for s in chosen])
    ours = predictor.calibration.apply(second(images).logits)
    calibration = predictor.calibration
    thresholds = calibration.thresholds.values if calibration.thresholds else ()
    parity = compare_engines(ours, predictor.predict_batch(images).probs, task=calibration.task, thresholds=thresholds)
    check_parity(parity)
    return parity


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
        pictures = [decode(samples[i].source, name=samples[i].name, channels=preprocess.channels) for i in chosen]
    files = tuple(encode_reference(picture, preprocess) for picture in pictures)
    images = np.stack([preprocess.read(file) for file in files])
    probs = predictor.predict_batch(images).probs.astype(np.float32)
    return Reference(kind=plan.reference, images=files, probs=probs)
