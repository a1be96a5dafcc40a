"""Every network of the table and, with those behind it, some twenty families of timm: forward, backward, a bundle and back, ONNX.

`pytest -s tests/models/test_sweep.py` prints the ledger. Images are small, as the arithmetic at 224 px is the same.
"""

import shutil
import time

import numpy as np
import pytest
import torch
from scipy.special import softmax
from small_models import CLASSES, build, images_for, num_parameters, save_bundle_files

from recog.deployment.onnx import TorchEngine, export_onnx
from recog.models.network_files import load_classifier
from recog.models.table import MODELS, Own
from recog.runtime.engines.onnxruntime_engine import OnnxEngine

pytestmark = pytest.mark.slow

FAMILIES = [
    "lcnet_050",
    "mixer_s32_224",
    "poolformer_s12",
    "regnety_002",
    "swin_tiny_patch4_window7_224",
    "test_byobnet",
    "test_coatnet",
    "test_convnext",
    "test_efficientnet",
    "test_mambaout",
    "test_maxvit",
    "test_nfnet",
    "test_resnet",
    "test_vit",
    "test_vit_relpos",
    "xcit_nano_12_p16_224",
]
SCALES = tuple(f"stages.{stage}.bn{number}.weight" for stage in range(3) for number in (1, 2))
WITHOUT_GRADIENT: dict[str, tuple[str, ...]] = {"fastnet32": SCALES, "fastnet32_wide": SCALES}
"""Parameters that a network has and does not train: fixed at 1, or not used at all."""


def settings_for(name):
    entry = MODELS.get(name)
    if isinstance(entry, Own):
        return {"image_size": (64, 80)} if entry.weights else {}
    return {"image_size": (70, 70) if name.startswith("dinov2") else (64, 64)}  # its patches have 14 px


def spread_logits(classifier, images):
    """A last layer by which logits differ by about 1, where timm begins with equal ones."""
    with torch.no_grad():
        _, features = classifier(images)
        layer = classifier.classifier
        layer.weight.normal_().div_(features.norm(dim=1).mean().clamp(min=1e-6))
        layer.bias.zero_()


def train_once(classifier, images):
    """The names of parameters that get no gradient in one step; all others get a finite one."""
    classifier.train()
    logits, _ = classifier(images)
    torch.nn.functional.cross_entropy(logits, torch.arange(len(images)) % len(CLASSES)).backward()
    classifier.eval()
    without = []
    for name, parameter in classifier.network.named_parameters():
        if parameter.grad is None:
            without.append(name)
        else:
            assert parameter.grad.isfinite().all(), name
            parameter.grad = None
    return without


@pytest.mark.parametrize("name", [*MODELS, *FAMILIES])
def test_network(name, tmp_path):
    started = time.perf_counter()
    model = build(name, weights="none", **settings_for(name))
    images = images_for(model, num_images=5)
    without = train_once(model.classifier, images)
    assert tuple(without) == WITHOUT_GRADIENT.get(name, ())
    spread_logits(model.classifier, images)
    save_bundle_files(model, tmp_path)
    rebuilt = load_classifier(tmp_path)
    pixels = images.numpy()
    ours, theirs = TorchEngine(model.classifier)(pixels), TorchEngine(rebuilt)(pixels)
    assert np.array_equal(ours.logits, theirs.logits)
    assert ours.logits.std() > 0.05
    preprocess = model.preprocess
    export_onnx(
        rebuilt,
        tmp_path / "model.onnx",
        image_size=preprocess.image_size,
        channels=preprocess.channels,
        class_names=CLASSES,
    )
    exported = OnnxEngine(tmp_path / "model.onnx", num_threads=1)(pixels)
    difference = np.abs(softmax(exported.logits, axis=1) - softmax(ours.logits, axis=1)).max()
    scale = np.abs(ours.features).max()
    feature_difference = np.abs(exported.features - ours.features).max() / scale
    shutil.rmtree(tmp_path)
    height, width = preprocess.image_size
    print(
        f"\n{name:<30} {model.name:<30} {num_parameters(model.classifier.network):>12,} parameters, {width} x {height} px: "
        f"forward, backward, bundle, ONNX agree; probs differ by {difference:.1g}, {time.perf_counter() - started:.1f} s",
        end="",
    )
    assert difference <= 1e-4
    assert feature_difference <= 1e-3
