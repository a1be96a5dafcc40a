"""Classify images with the exported network beside this file: python predict.py photo.jpg ...

It needs NumPy, Pillow and what runs the network, but not recog. `contract.json` tells how to prepare an image and what the
numbers mean.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

Array = NDArray[np.float64]
Network = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


class Model:
    """The network in `folder`; `num_threads` None leaves their number to what runs it."""

    def __init__(self, folder: Path = Path(__file__).parent, *, num_threads: int | None = None) -> None:
        self.contract: dict[str, Any] = json.loads((folder / "contract.json").read_text(encoding="utf-8"))
        self.logits: Network = NETWORKS[self.contract["runtime"]](folder, self.contract, num_threads)

    def predict(self, file: str | Path | IO[bytes]) -> dict[str, Any]:
        """{"labels": what is predicted, "probs": {class name: probability}} of one image file."""
        probs = self.probs(self.logits(self.read(file)[None]))[0]
        names, thresholds = self.contract["class_names"], np.array(self.contract["thresholds"])
        chosen = PREDS[self.contract["task"]](probs, thresholds if len(thresholds) else np.zeros(len(probs)))
        return {"labels": [names[k] for k in chosen], "probs": dict(zip(names, probs.tolist(), strict=True))}

    def probs(self, logits: NDArray[np.float32]) -> Array:
        """Calibrated probabilities [B, K] from logits [B, K]."""
        calibration, scaled = self.contract["calibration"], logits.astype(np.float64)
        if calibration["method"] == "temperature":
            scaled = scaled / calibration["temperature"]
        elif calibration["method"] == "vector":
            scaled = scaled * np.array(calibration["factors"]) + np.array(calibration["offsets"])
        return PROBS[self.contract["task"]](scaled)

    def read(self, file: str | Path | IO[bytes]) -> NDArray[np.uint8]:
        """An image file as the network takes it, uint8 [H, W, C]: 8 bits per channel, sRGB or grey."""
        rules = self.contract["preprocess"]
        height, width = rules["image_size"]
        scaled = math.floor(height / rules["crop_pct"]), math.floor(width / rules["crop_pct"])
        opened = Image.open(file)
        if opened.format in ("JPEG", "MPO"):
            opened.draft(None, (2 * max(scaled), 2 * max(scaled)))  # large photos are reduced while they are decoded
        image = ImageOps.exif_transpose(_without_transparency(opened)).convert("L" if rules["channels"] == 1 else "RGB")
        image = image.resize(_scaled_size(image, scaled, rules["crop_mode"]), _FILTERS[rules["interpolation"]])
        fill = rules["fill"] if rules["fill"] and rules["crop_mode"] == "border" else [0] * rules["channels"]
        crop = Image.new(image.mode, (width, height), fill[0] if rules["channels"] == 1 else tuple(fill))
        crop.paste(image, (_offset(image.width, width), _offset(image.height, height)))
        return np.array(crop).reshape(height, width, rules["channels"])


def _softmax(logits: Array) -> Array:
    exp = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(exp / exp.sum(axis=1, keepdims=True))


PROBS: dict[str, Callable[[Array], Array]] = {
    "multiclass": _softmax,
    "multilabel": lambda logits: np.asarray(1 / (1 + np.exp(-logits))),
}
PREDS: dict[str, Callable[[Array, Array], Any]] = {  # probabilities and thresholds [K] -> numbers of classes
    "multiclass": lambda probs, thresholds: [np.argmax(probs - thresholds)],  # that exceeds its own threshold the most
    "multilabel": lambda probs, thresholds: np.flatnonzero(probs >= thresholds),
}
_FILTERS = {method.name.lower(): method for method in Image.Resampling}


def _without_transparency(image: Image.Image) -> Image.Image:
    """On white, where there is transparency."""
    if not image.has_transparency_data:
        return image
    colours = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), colours).convert("RGB")


def _scaled_size(image: Image.Image, scaled: tuple[int, int], crop_mode: str) -> tuple[int, int]:
    """(width, height) to scale the whole image to."""
    if crop_mode == "squash":
        return scaled[1], scaled[0]
    if crop_mode == "center" and scaled[0] == scaled[1]:
        long = int(scaled[0] * max(image.size) / min(image.size))
        return (scaled[0], long) if image.width <= image.height else (long, scaled[0])
    ratio = (max if crop_mode == "border" else min)(image.height / scaled[0], image.width / scaled[1])
    return max(1, round(image.width / ratio)), max(1, round(image.height / ratio))


def _offset(size: int, crop: int) -> int:
    """Where the scaled image begins in the crop; negative where it is larger."""
    return (crop - size) // 2 if size < crop else -round((size - crop) / 2)


def _open_onnxruntime(folder: Path, contract: dict[str, Any], num_threads: int | None) -> Network:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads or 0
    path = str(folder / contract["file"])
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda images: np.asarray(session.run(["logits"], {"images": images})[0])


def _open_openvino(folder: Path, contract: dict[str, Any], num_threads: int | None) -> Network:
    import openvino

    # left alone, OpenVINO computes in bfloat16 where the CPU has it
    hint = "bf16" if contract["precision"] == "bfloat16" else "f32"
    settings = {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": num_threads or 0}
    compiled = openvino.Core().compile_model(str(folder / contract["file"]), "CPU", settings)
    return lambda images: np.array(compiled({"images": images})["logits"])


def _open_torch(folder: Path, contract: dict[str, Any], num_threads: int | None) -> Network:
    import torch

    if num_threads:
        torch.set_num_threads(num_threads)
    network = torch.export.load(folder / contract["file"]).module()

    def run(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode():
            return np.asarray(network(torch.from_numpy(images))[0].numpy())

    return run


def _open_tensorrt(folder: Path, contract: dict[str, Any], num_threads: int | None) -> Network:
    import tensorrt
    import torch

    plan = (folder / contract["file"]).read_bytes()
    engine = tensorrt.Runtime(tensorrt.Logger(tensorrt.Logger.WARNING)).deserialize_cuda_engine(plan)
    context = engine.create_execution_context()
    sizes = {"logits": len(contract["class_names"]), "features": contract["num_features"]}

    def run(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        given = torch.from_numpy(images).cuda()
        outputs = {name: torch.empty((len(images), size), device="cuda") for name, size in sizes.items()}
        context.set_input_shape("images", tuple(given.shape))
        for name, tensor in {"images": given, **outputs}.items():
            context.set_tensor_address(name, tensor.data_ptr())
        stream = torch.cuda.current_stream()
        context.execute_async_v3(stream.cuda_stream)
        stream.synchronize()
        return np.asarray(outputs["logits"].cpu().numpy())

    return run


NETWORKS: dict[str, Callable[[Path, dict[str, Any], int | None], Network]] = {
    "onnxruntime": _open_onnxruntime,
    "openvino": _open_openvino,
    "torch": _open_torch,
    "tensorrt": _open_tensorrt,
}


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        sys.exit("usage: python predict.py IMAGE...")
    model, num_failed = Model(), 0
    for name in sys.argv[1:]:
        try:
            print(name, json.dumps(model.predict(name), ensure_ascii=False))
        except (
            OSError,
            ValueError,
            SyntaxError,
            Image.DecompressionBombError,
        ) as error:  # what Pillow raises for a bad file
            print(f"{name}: {error}", file=sys.stderr)
            num_failed += 1
    sys.exit(num_failed > 0)
