"""What an exported network takes and gives, as contract.json beside it, and the programs that use it without recog."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jinja2

from recog.bundle.manifest import Manifest
from recog.bundle.reference import FEATURES
from recog.core.files import pretty_json
from recog.core.preprocess import Preprocess
from recog.core.task import Task
from recog.core.text import visible
from recog.evaluation.trust.calibration import Calibration
from recog.runtime.engine import FEATURE_MAP

CONTRACT = "contract.json"
README = "README.md"
PREDICT = "predict.py"
_PROGRAMS: Mapping[str, tuple[str, ...]] = MappingProxyType(  # by the runtime of an export
    {
        "onnxruntime": (PREDICT, "predict.mjs", "pixels.mjs", "predict.cpp"),
        "openvino": (PREDICT,),
        "torch": (PREDICT,),
        "tensorrt": (PREDICT,),
    }
)


@dataclass(frozen=True, kw_only=True)
class _TaskTerms:
    final: str  # what makes probabilities of logits, in words
    facts: Callable[[Calibration], dict[str, Any]]  # that the probabilities of this task need


_BY_TASK: Mapping[Task, _TaskTerms] = MappingProxyType(
    {
        "multiclass": _TaskTerms(final="the softmax", facts=lambda _: {}),
        "multilabel": _TaskTerms(
            final="a sigmoid of each", facts=lambda calibration: {"thresholds": list(calibration.threshold_values)}
        ),
    }
)


def onnx_facts(preprocess: Preprocess, calibration: Calibration) -> dict[str, Any]:
    """What the probabilities of the ONNX file need beside its class names, for those who use it without the bundle."""
    table = {key: value for key, value in calibration.scaling.to_dict().items() if key != "fit"}
    table |= _BY_TASK[calibration.task].facts(calibration)
    return {"preprocess": preprocess.to_dict(), "calibration": table}


def write_contract(  # noqa: PLR0913  facts of one file
    folder: Path,
    manifest: Manifest,
    calibration: Calibration,
    *,
    name: str,
    runtime: str,
    file: str,
    precision: str,
    num_features: int,
    map_size: tuple[int, int] | None = None,
) -> None:
    """Write contract.json and the programs for `file`, which `runtime` runs, into `folder`.

    `map_size` is that of the feature map, where the file gives one.
    """
    preprocess = manifest.preprocess
    maps = {} if map_size is None else {FEATURE_MAP: ["float32", "B", num_features, *map_size]}
    table = {
        "format_version": 1,
        "name": name,
        "file": file,
        "runtime": runtime,
        "precision": precision,
        "input": {"images": ["uint8", "B", *preprocess.image_size, preprocess.channels]},
        "outputs": {
            "logits": ["float32", "B", len(manifest.class_names)],
            "features": ["float32", "B", num_features],
            **maps,
        },
        "task": manifest.task,
        "class_names": list(manifest.class_names),
        **onnx_facts(preprocess, calibration),
        "thresholds": list(calibration.threshold_values),
        "sets": _sets(calibration),
        "unknown": _unknown(calibration, folder),
        "num_features": num_features,
        "bundle": {"digest": manifest.to_dict()["digest"], "recog_version": manifest.recog_version},
    }
    (folder / CONTRACT).write_bytes(pretty_json(table))
    for program in _PROGRAMS[runtime]:
        (folder / program).write_bytes((files("recog.deployment") / "programs" / program).read_bytes())


def _sets(calibration: Calibration) -> dict[str, Any] | None:
    """How prediction sets are made of the probabilities; None where the bundle makes none."""
    if calibration.sets is None:
        return None
    names = ("method", "alpha", "quantile", "class_quantiles", "penalty", "free_classes")
    return {name: value for name, value in calibration.sets.to_dict().items() if name in names}


def _unknown(calibration: Calibration, folder: Path) -> dict[str, Any] | None:
    """The rule for 'unknown'; None without one, or where the features of training images that it needs are not in `folder`."""
    rule = calibration.unknown
    if rule is None or rule.threshold is None:
        return None
    has_file = (folder / FEATURES).is_file()
    if rule.needs_features and not has_file:
        return None
    found = {name: getattr(rule, name) for name in ("method", "threshold", "num_neighbours", "weight")}
    return found | {"file": FEATURES if has_file else None}


def open_program(folder: Path, *, num_threads: int | None = None) -> Any:
    """The Model of `predict.py` in `folder`, as a user without recog opens it."""
    spec = importlib.util.spec_from_file_location("recog_exported_predict", folder / PREDICT)
    if spec is None or spec.loader is None:
        raise ImportError(f"{folder / PREDICT} cannot be loaded.")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Model(folder, num_threads=num_threads)


def render_readme(contract: Mapping[str, Any], *, title: str, notes: tuple[str, ...], figures: str) -> str:
    """The README.md of an export; `contract` is what contract.json holds, `figures` what the gate measured."""
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    source = (files("recog.deployment") / "programs" / "README.md.j2").read_text(encoding="utf-8")
    rules = contract["preprocess"]
    height, width = rules["image_size"]
    return environment.from_string(source).render(
        contract=contract,
        title=visible(title),
        notes=notes,
        figures=figures,
        programs=_PROGRAMS[contract["runtime"]],
        height=height,
        width=width,
        channels=rules["channels"],
        steps=_steps(rules),
        probabilities=_probabilities(contract),
    )


def _steps(rules: Mapping[str, Any]) -> str:
    """Preprocessing in words."""
    height, width = rules["image_size"]
    scaled = f"{int(width / rules['crop_pct'])} x {int(height / rules['crop_pct'])}"
    how = {
        "center": f"scale until the image covers {scaled} (width x height)",
        "squash": f"scale each side by itself to {scaled} (width x height)",
        "border": f"scale until the image fits into {scaled} (width x height)",
    }[rules["crop_mode"]]
    rest = f"keep the middle {width} x {height}"
    if rules["crop_mode"] == "border":
        rest += f", surrounded with {rules['fill'] or 'black'}"
    return f"{how} with {rules['interpolation']} and antialiasing as Pillow's `resize`, {rest}"


def _probabilities(contract: Mapping[str, Any]) -> str:
    """In words, from logits to probabilities."""
    final = _BY_TASK[contract["task"]].final
    calibration = contract["calibration"]
    if calibration["method"] == "temperature":
        return f"{final} of logits / {calibration['temperature']:.6g}"
    if calibration["method"] == "vector":
        return f"{final} of logits * factors + offsets (`calibration` in {CONTRACT})"
    return f"{final} of the logits"
