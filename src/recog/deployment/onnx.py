"""A classifier as one self-contained ONNX file: uint8 images in, logits and features out, with `feature_map` on request."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from recog.core.errors import TrainingError
from recog.core.hardware import trim_memory
from recog.core.preprocess import Preprocess
from recog.deployment.feature_map import MappedClassifier, class_weights_name
from recog.models.classifier import Classifier
from recog.models.inner_layers import InnerLayers
from recog.runtime.engine import (
    CLASS_NAMES_KEY,
    CLASS_WEIGHTS_KEY,
    FEATURE_MAP,
    FileEngine,
    Outputs,
    images_at_once,
    open_engine,
)
from recog.training.fit import collect_logits, eval_mode

MAX_ONNX_BYTES = 1_500_000_000  # protobuf ends at 2 GiB; above this the file would need external data
# What ONNX Runtime reads from version 1.17 on. With opset 18, for 1.15, GELU becomes six operators that ONNX Runtime does not
# fuse, and a ConvNeXt takes 1.4 times as long.
OPSET, IR_VERSION = 20, 9


def export_onnx(
    classifier: Classifier,
    path: Path,
    *,
    image_size: tuple[int, int],
    channels: int,
    class_names: Sequence[str],
) -> None:
    """Write `classifier` to `path` with a dynamic batch and its class names in the metadata.

    Of a MappedClassifier the file has the output feature_map too, and the name of the weights that it is for.

    Raises TrainingError where the network is too large for one file.
    """
    num_bytes = sum(p.numel() * p.element_size() for p in classifier.parameters())
    if num_bytes > MAX_ONNX_BYTES:
        raise TrainingError(
            f"the network's weights take {num_bytes / 1e9:.1f} GB; a self-contained ONNX file holds at most "
            f"{MAX_ONNX_BYTES / 1e9:.1f} GB. Choose a smaller network."
        )
    # a batch of 2, as the exporter takes a batch of 1 for a constant
    example = torch.zeros(2, *image_size, channels, dtype=torch.uint8, device=classifier.device)
    is_mapped = isinstance(classifier, MappedClassifier)
    with eval_mode(classifier), torch.no_grad(), _quiet():
        program = torch.onnx.export(
            classifier,
            (example,),
            input_names=["images"],
            output_names=["logits", "features", *([FEATURE_MAP] if is_mapped else [])],
            dynamic_shapes={"images": {0: torch.export.Dim("B")}},
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    if program is None:
        raise TrainingError("torch.onnx.export gave no program.")
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()  # the exporter writes down source lines, and with them this machine's paths
    program.model.metadata_props[CLASS_NAMES_KEY] = json.dumps(list(class_names), ensure_ascii=False)
    if is_mapped:
        program.model.metadata_props[CLASS_WEIGHTS_KEY] = class_weights_name(classifier)
    path.write_bytes(_readable_by_most(program.model_proto).SerializeToString(deterministic=True))
    trim_memory()


@dataclass(kw_only=True, eq=False)
class Exported:
    """An ONNX file in memory, and the engine that runs it, until it is closed."""

    data: bytes
    engine: FileEngine

    def close(self) -> None:
        """Give the engine's memory back: of photos, 100 MB."""
        del self.engine


def open_exported(
    classifier: Classifier, preprocess: Preprocess, class_names: Sequence[str], *, num_threads: int | None
) -> Exported:
    """`classifier` as `export_onnx` writes it, in memory: the same numbers as torch's, several times faster on a CPU."""
    with tempfile.TemporaryDirectory(prefix="recog-") as folder:
        path = Path(folder) / "network.onnx"
        size, channels = preprocess.image_size, preprocess.channels
        export_onnx(classifier, path, image_size=size, channels=channels, class_names=class_names)
        return Exported(data=path.read_bytes(), engine=open_engine(path, num_threads=num_threads))


def with_present_head(data: bytes, classifier: Classifier) -> bytes | None:
    """The ONNX file `data` of `classifier`, with the last layer that it has now, and the standardisation of its features.

    As a new export of a network that is otherwise unchanged, but at once. None where the file does not have these tensors under
    their own names.
    """
    model = onnx.ModelProto.FromString(data)
    initialisers = {tensor.name: tensor for tensor in model.graph.initializer}
    last = next(name for name, module in classifier.named_modules() if module is classifier.classifier)
    names = [f"{last}.weight", f"{last}.bias"]
    if isinstance(classifier.network, InnerLayers):
        names += ["network.shift", "network.scale"]
    tensors = classifier.state_dict()
    for name in names:
        found, values = initialisers.get(name), tensors[name].detach().numpy()
        if found is None or tuple(found.dims) != values.shape or found.data_type != onnx.TensorProto.FLOAT:
            return None
        found.CopyFrom(onnx.numpy_helper.from_array(values, name))
    changed: bytes = model.SerializeToString(deterministic=True)
    return changed


def add_metadata(path: Path, facts: Mapping[str, Any]) -> None:
    """Add `facts`, as JSON, to the metadata of the ONNX file at `path`.

    Protocol buffers join the repeated fields of a message that is written in two parts, so the second part is appended.
    """
    addition = onnx.ModelProto()
    for key, value in facts.items():
        addition.metadata_props.add(key=key, value=json.dumps(value, ensure_ascii=False))
    with path.open("ab") as file:
        file.write(addition.SerializeToString(deterministic=True))


def _readable_by_most(model: onnx.ModelProto) -> onnx.ModelProto:
    """`model` with the IR version of its opset, and without what only newer versions have or what stands in it twice."""
    model.ir_version = IR_VERSION
    graph = model.graph
    for part in (graph, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        part.ClearField("metadata_props")  # of IR version 10
    # an initialiser has its shape already; ONNX Runtime's quantiser up to 1.22 transposes weights and fails on a second one
    initialisers = {tensor.name for tensor in graph.initializer}
    kept = [value for value in graph.value_info if value.name not in initialisers]
    del graph.value_info[:]
    graph.value_info.extend(kept)
    return model


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter reports its progress in prints, warnings and logs, none of which a user can act on."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


class TorchEngine:
    """Runs a Classifier in fp32 and evaluation mode."""

    def __init__(self, classifier: Classifier) -> None:
        self._classifier = classifier

    def __call__(self, images: NDArray[np.uint8]) -> Outputs:
        batch_size = images_at_once((images.shape[1], images.shape[2])) // 2  # torch keeps twice as many maps
        with torch.inference_mode():
            evaluation = collect_logits(self._classifier, images, precision="float32", batch_size=batch_size)
        return Outputs(logits=evaluation.logits, features=evaluation.features)
