"""Networks whose explanations can be worked out by hand, as Subjects."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from recog.attribution.subject import Subject
from recog.core.errors import BundleError
from recog.deployment.onnx import TorchEngine
from recog.models.build import build_model
from recog.models.classifier import Classifier
from recog.models.config import ModelConfig
from recog.models.networks.classic import PlainNetwork
from recog.runtime.engine import Outputs


def subject_of_classifier(classifier, image_size, task="multiclass", fill=None):
    classifier.eval()
    return Subject(
        engine=TorchEngine(classifier),
        task=task,
        image_size=image_size,
        fill=fill or tuple(round(255 * m) for m in classifier.channel_mean),
        open_classifier=lambda: classifier,
    )


def pooled_network(weights, *, size=8):
    """One grey channel, kept by a 1 x 1 convolution of weight 1, averaged, then logits = mean * weights."""
    body = nn.Conv2d(1, 1, 1, bias=False)
    nn.init.ones_(body.weight)
    fc = nn.Linear(1, len(weights), bias=False)
    fc.weight.data = torch.tensor(weights, dtype=torch.float32)[:, None]
    network = PlainNetwork(body=body, neck=nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), fc=fc)
    return subject_of_classifier(Classifier(network, mean=(0.0,), std=(1.0,)), (size, size))


def linear_network(weights):
    """Grey pixels [H, W] flattened, then one linear layer: logit k = sum of weights[k] * levels / 255."""
    weights = torch.tensor(weights, dtype=torch.float32)
    fc = nn.Linear(weights[0].numel(), len(weights), bias=False)
    fc.weight.data = weights.flatten(1)
    network = PlainNetwork(body=nn.Identity(), neck=nn.Flatten(), fc=fc)
    return subject_of_classifier(Classifier(network, mean=(0.0,), std=(1.0,)), tuple(weights.shape[1:]))


def timm_network(name, *, size=64, num_classes=3):
    """A small timm network with random weights, also in its head."""
    torch.manual_seed(0)
    model = build_model(ModelConfig(name=name, weights="none", image_size=(size, size)), num_classes=num_classes)
    nn.init.normal_(model.classifier.classifier.weight, std=0.1)
    return subject_of_classifier(model.classifier, model.preprocess.image_size)


class CornerEngine:
    """Two labels of their own: the mean level of the top left quarter of the image, and that of the whole, times 10 less 5."""

    def __call__(self, images):
        levels = images.astype(np.float32).mean(axis=3) / 255
        height, width = levels.shape[1:]
        means = [levels[:, : height // 2, : width // 2].mean(axis=(1, 2)), levels.mean(axis=(1, 2))]
        logits = np.stack(means, axis=1).astype(np.float32) * 10 - 5
        return Outputs(logits=logits, features=logits)


def corner_subject(size=32):
    """A Subject without layers."""

    def none():
        raise BundleError("the bundle was made from a custom module.")

    return Subject(engine=CornerEngine(), task="multilabel", image_size=(size, size), fill=(0,), open_classifier=none)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
