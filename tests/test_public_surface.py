"""The frozen list of what others may rely on: growth is a visible change of this file."""

from __future__ import annotations

import ast
import dataclasses
import json
import typing
from pathlib import Path

import recog
from recog.cli import COMMANDS
from recog.core.config import config_to_dict
from recog.core.errors import RecogError

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "tests" / "golden" / "digits-format-1"


def test_verbs():
    assert [name for name in recog.__all__ if name.islower()] == [
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
    assert (
        *(
            "scan",
            "train",
            "tune",
            "evaluate",
            "compare",
            "robustness",
            "predict",
            "explain",
            "serve",
            "bench",
            "export",
            "verify",
        ),
        *("runs", "report", "push", "models", "cache"),
    ) == tuple(COMMANDS)


def test_classes():
    assert [name for name in recog.__all__ if not name.islower()] == [
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
    ]


def test_every_public_name_can_be_loaded_and_is_the_only_kind_that_dir_shows():
    assert dir(recog) == sorted([*recog.__all__, "__version__"])
    for name in recog.__all__:
        assert getattr(recog, name).__name__ == name


def _recog_classes(hint):
    """The classes of recog that an annotation names, but for protocols, which others implement."""
    if isinstance(hint, type) and not typing.get_args(hint):
        is_protocol = getattr(hint, "_is_protocol", False)
        return {hint} if hint.__module__.startswith("recog.") and not is_protocol else set()
    return set().union(*map(_recog_classes, typing.get_args(hint)))


def test_every_class_that_a_signature_a_result_or_a_setting_names_is_public():
    """From the verbs over the fields of results and settings; an error's base is public too."""
    from torch import nn

    public = {getattr(recog, name) for name in recog.__all__}
    verbs = [recog.compare, recog.evaluate, recog.export, recog.load, recog.scan, recog.train, recog.tune, recog.verify]
    methods = [recog.Predictor.predict, recog.Predictor.predict_each, recog.Predictor.predict_batch]
    named = set()
    for function in [*verbs, *methods]:
        names = {"nn": nn, "World": object}
        named |= set().union(*map(_recog_classes, typing.get_type_hints(function, localns=names).values()))
    for result in (recog.Run, recog.EvaluationRun, recog.ComparisonRun, recog.ScanRun, recog.TrainConfig):
        named |= set().union(*map(_recog_classes, typing.get_type_hints(result).values()))
    assert {recog.Run, recog.OptimConfig, recog.Predictor, recog.BadImage, recog.Report} <= named
    assert named <= public
    errors = {kind for kind in public if isinstance(kind, type) and issubclass(kind, Exception)}
    assert {base for kind in errors for base in kind.__mro__ if issubclass(base, RecogError)} <= public


def test_config_fields():
    from recog.recipes.config import TrainConfig

    def names(cls, prefix=""):
        for field in dataclasses.fields(cls):
            default = field.default_factory if field.default_factory is not dataclasses.MISSING else None
            if dataclasses.is_dataclass(default):
                yield from names(default, f"{prefix}{field.name}.")
            else:
                yield f"{prefix}{field.name}"

    assert sorted(names(TrainConfig)) == [
        "adversarial.beta",
        "adversarial.eps",
        "adversarial.method",
        "adversarial.step_size",
        "adversarial.steps",
        "adversarial.warmup_fraction",
        "augment.blur",
        "augment.brightness",
        "augment.contrast",
        "augment.cutmix",
        "augment.erasing",
        "augment.geometry",
        "augment.max_aspect",
        "augment.max_rotation_degrees",
        "augment.max_shift",
        "augment.max_zoom",
        "augment.min_area",
        "augment.mirror",
        "augment.mixup",
        "augment.noise",
        "augment.policy",
        "augment.random_ops",
        "augment.saturation",
        "augment.translate_px",
        "balance",
        "calibration.alpha",
        "calibration.class_conditional",
        "calibration.conformal",
        "calibration.false_alarm_rate",
        "calibration.method",
        "calibration.positive",
        "calibration.threshold",
        "calibration.unknown",
        "checkpoint.every_s",
        "checkpoint.every_steps",
        "checkpoint.keep",
        "compute.device",
        "compute.num_threads",
        "compute.precision",
        "data.bad_images",
        "data.classes_at_depth",
        "data.encoding",
        "data.exclude",
        "data.fingerprint",
        "data.grey16_max",
        "data.group",
        "data.group_column",
        "data.images",
        "data.label_column",
        "data.label_columns",
        "data.label_pattern",
        "data.label_separator",
        "data.min_images",
        "data.names",
        "data.path_column",
        "data.relabel",
        "data.source",
        "data.split_column",
        "data.split_folders",
        "data.task",
        "export.feature_map",
        "head.compare",
        "head.l2",
        "head.layers",
        "head.max_iterations",
        "head.method",
        "head.mirror",
        "head.ridge_l2",
        "limits.max_bytes",
        "limits.max_pixels",
        "limits.max_side",
        "loader.batch_size",
        "loader.num_workers",
        "log_to",
        "loss.class_weights",
        "loss.focal_gamma",
        "loss.gce_q",
        "loss.label_smoothing",
        "loss.name",
        "model.channels",
        "model.crop_mode",
        "model.drop_path_rate",
        "model.drop_rate",
        "model.image_size",
        "model.mean",
        "model.name",
        "model.parent",
        "model.parent_digest",
        "model.std",
        "model.weights",
        "noisy_labels",
        "optim.accumulation",
        "optim.beta2",
        "optim.bias_lr_factor",
        "optim.ema_decay",
        "optim.epochs",
        "optim.freeze_batch_norm",
        "optim.freeze_epochs",
        "optim.freeze_layers",
        "optim.head_lr_factor",
        "optim.layer_decay",
        "optim.lr",
        "optim.max_grad_norm",
        "optim.momentum",
        "optim.name",
        "optim.nesterov",
        "optim.normalise_filters",
        "optim.on_nonfinite",
        "optim.weight_decay",
        "recipe",
        "reference",
        "report_images",
        "report_split",
        "schedule.gamma",
        "schedule.milestones",
        "schedule.name",
        "schedule.small_fraction",
        "schedule.small_scale",
        "schedule.warmup_fraction",
        "seed",
        "split.mode",
        "split.test_fraction",
        "split.val_fraction",
        "stop.max_steps",
        "stop.measure",
        "stop.min_gain",
        "stop.patience",
    ]
    assert config_to_dict(TrainConfig())["seed"] == 0


def test_manifest_keys():
    manifest = json.loads((GOLDEN / "recog.json").read_text())
    assert sorted(manifest) == [
        "architecture",
        "class_names",
        "data",
        "digest",
        "files",
        "format_version",
        "preprocess",
        "recog_version",
        "seed",
        "task",
    ]
    assert sorted(manifest["data"]) == ["fingerprint", "name", "num_images"]
    assert sorted(manifest["files"]) == [
        "README.md",
        "calibration.json",
        "config.json",
        "model.onnx",
        "model.safetensors",
        "reference.safetensors",
        "report.json",
        "run.toml",
    ]


def test_errors_and_their_exit_codes():
    def below(kind):
        for child in kind.__subclasses__():
            if child.__module__ != RecogError.__module__:
                continue  # a room's own, caught within it
            yield child.__name__, child.exit_code
            yield from below(child)

    assert dict(below(RecogError)) == {
        "ConfigError": 2,
        "DataError": 3,
        "BadImage": 3,
        "ShapeError": 3,
        "BundleError": 4,
        "TrainingError": 5,
        "PeerError": 5,
        "MissingExtraError": 6,
        "CheckpointError": 7,
        "TrainingStopped": 130,
        "DiskError": 74,
    }


# Tested through what calls them: commands in tests/cli and tests/end_to_end, containers in test_sources and test_archives.
JOINERS = {
    "cli/explain.py",
    "data/readers/own_images.py",
    "data/readers/own_labels.py",
    "evaluation/results/read.py",
    "recipes/events.py",
    "recipes/package.py",
    "report/measure.py",
    "serve/config.py",
    "serve/messages.py",
    "serve/schemas.py",
    "verbs/explain_choice.py",
}


def test_every_module_with_public_functions_has_a_test_of_its_name():
    package = ROOT / "src" / "recog"
    without = set()
    for module in package.rglob("[!_]*.py"):
        path = module.relative_to(package)
        public = [
            node
            for node in ast.parse(module.read_text()).body
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_")
        ]
        twin = ROOT / "tests" / path.parent / f"test_{path.name}"
        if public and not twin.exists():
            without.add(path.as_posix())
    assert without == JOINERS
