"""recog: labelled images in, an image classifier that can be trusted and shipped out.

Importing recog imports no torch; each name is loaded when it is first used.
"""

from __future__ import annotations

import os

from recog.core.version import __version__ as __version__

TYPE_CHECKING = False  # as typing's, which is not imported yet: until `recog.__main__` runs, Ctrl-C prints a traceback
if TYPE_CHECKING:
    from typing import Any

    from recog.bundle.seal import Verification
    from recog.core.errors import (
        BadImage,
        BundleError,
        CheckpointError,
        ConfigError,
        DataError,
        DiskError,
        MissingExtraError,
        PeerError,
        RecogError,
        ShapeError,
        TrainingError,
        TrainingStopped,
    )
    from recog.core.images.image_file import ImageLimits
    from recog.data.augment.policies import AugmentConfig
    from recog.data.data_layout import DataLayout
    from recog.data.lists.label_format import LabelFormat
    from recog.data.split import SplitConfig
    from recog.doctor.findings import Finding, Findings, Shortcut
    from recog.evaluation.results.comparison import Comparison
    from recog.evaluation.results.report import MulticlassReport, MultilabelReport, Report
    from recog.evaluation.trust.calibration import CalibrationConfig
    from recog.models.config import ModelConfig
    from recog.perturbation.attack_suite import AttackReport
    from recog.perturbation.comparison import RobustnessComparison
    from recog.perturbation.report import CorruptionReport, RobustnessReport
    from recog.recipes.config import ComputeConfig, DataConfig, ExportConfig, LoaderConfig, TrainConfig
    from recog.runtime.prediction import Answers, Prediction
    from recog.runtime.predictor import Predictor, load, verify
    from recog.training.config import AdversarialConfig, CheckpointConfig, HeadConfig, LossConfig, OptimConfig
    from recog.training.schedule import ScheduleConfig, StopConfig
    from recog.verbs.bench import BenchReport, bench
    from recog.verbs.compare import ComparisonRun, compare, compare_robustness
    from recog.verbs.evaluate import EvaluationRun, evaluate
    from recog.verbs.explain import Explanations, explain
    from recog.verbs.export import Export, export
    from recog.verbs.python.classifier import ImageClassifier
    from recog.verbs.python.embedded import train
    from recog.verbs.robustness import RobustnessRun, robustness
    from recog.verbs.run import Run
    from recog.verbs.scan import ScanReport, ScanRun, scan
    from recog.verbs.tune import TuneRun, tune

# Read when onnxruntime and huggingface_hub are imported, always after this module. Without the first,
# onnxruntime writes a device id and a database of events into the user's cache and sends them where it can.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

__all__ = [
    "AdversarialConfig",
    "Answers",
    "AttackReport",
    "AugmentConfig",
    "BadImage",
    "BenchReport",
    "BundleError",
    "CalibrationConfig",
    "CheckpointConfig",
    "CheckpointError",
    "Comparison",
    "ComparisonRun",
    "ComputeConfig",
    "ConfigError",
    "CorruptionReport",
    "DataConfig",
    "DataError",
    "DataLayout",
    "DiskError",
    "EvaluationRun",
    "Explanations",
    "Export",
    "ExportConfig",
    "Finding",
    "Findings",
    "HeadConfig",
    "ImageLimits",
    "ImageClassifier",
    "LabelFormat",
    "LoaderConfig",
    "LossConfig",
    "MissingExtraError",
    "ModelConfig",
    "MulticlassReport",
    "MultilabelReport",
    "OptimConfig",
    "PeerError",
    "Prediction",
    "Predictor",
    "RecogError",
    "Report",
    "RobustnessComparison",
    "RobustnessReport",
    "RobustnessRun",
    "Run",
    "ScanReport",
    "ScanRun",
    "ScheduleConfig",
    "ShapeError",
    "Shortcut",
    "SplitConfig",
    "StopConfig",
    "TrainConfig",
    "TrainingError",
    "TrainingStopped",
    "TuneRun",
    "Verification",
    "bench",
    "compare",
    "compare_robustness",
    "evaluate",
    "explain",
    "export",
    "load",
    "robustness",
    "scan",
    "train",
    "tune",
    "verify",
]

_NAMES = {
    "recog.bundle.seal": ("Verification",),
    "recog.core.errors": (
        "BadImage",
        "BundleError",
        "CheckpointError",
        "ConfigError",
        "DataError",
        "DiskError",
        "MissingExtraError",
        "PeerError",
        "RecogError",
        "ShapeError",
        "TrainingError",
        "TrainingStopped",
    ),
    "recog.core.images.image_file": ("ImageLimits",),
    "recog.data.augment.policies": ("AugmentConfig",),
    "recog.data.data_layout": ("DataLayout",),
    "recog.data.lists.label_format": ("LabelFormat",),
    "recog.data.split": ("SplitConfig",),
    "recog.doctor.findings": ("Finding", "Findings", "Shortcut"),
    "recog.evaluation.results.comparison": ("Comparison",),
    "recog.evaluation.results.report": ("MulticlassReport", "MultilabelReport", "Report"),
    "recog.evaluation.trust.calibration": ("CalibrationConfig",),
    "recog.models.config": ("ModelConfig",),
    "recog.perturbation.attack_suite": ("AttackReport",),
    "recog.perturbation.comparison": ("RobustnessComparison",),
    "recog.perturbation.report": ("CorruptionReport", "RobustnessReport"),
    "recog.recipes.config": ("ComputeConfig", "DataConfig", "ExportConfig", "LoaderConfig", "TrainConfig"),
    "recog.runtime.predictor": ("Answers", "Prediction", "Predictor", "load", "verify"),
    "recog.training.config": ("AdversarialConfig", "CheckpointConfig", "HeadConfig", "LossConfig", "OptimConfig"),
    "recog.training.schedule": ("ScheduleConfig", "StopConfig"),
    "recog.verbs.bench": ("BenchReport", "bench"),
    "recog.verbs.python.classifier": ("ImageClassifier",),
    "recog.verbs.compare": ("ComparisonRun", "compare", "compare_robustness"),
    "recog.verbs.evaluate": ("EvaluationRun", "evaluate"),
    "recog.verbs.explain": ("Explanations", "explain"),
    "recog.verbs.export": ("Export", "export"),
    "recog.verbs.robustness": ("RobustnessRun", "robustness"),
    "recog.verbs.scan": ("ScanReport", "ScanRun", "scan"),
    "recog.verbs.python.embedded": ("train",),
    "recog.verbs.run": ("Run",),
    "recog.verbs.tune": ("TuneRun", "tune"),
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names}
_WITH_OPTIONS = (
    "bench",
    "compare",
    "compare_robustness",
    "evaluate",
    "explain",
    "export",
    "robustness",
    "scan",
    "train",
    "tune",
)  # verbs whose errors name options


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'recog' has no attribute '{name}'")
    import importlib  # here, as until `recog.__main__` runs, Ctrl-C prints a traceback

    try:
        found = getattr(importlib.import_module(_HOMES[name]), name)
        if name in _WITH_OPTIONS:
            from recog.verbs.python.wording import worded_for_python

            found = globals()[name] = worded_for_python(found)
        return found
    except ModuleNotFoundError as error:
        from recog.core.errors import missing_extra

        missing = missing_extra(error)
        if missing is None:
            raise
        raise missing from None


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
