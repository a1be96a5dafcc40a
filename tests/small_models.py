"""Networks with random weights, images for them and the two files of a bundle: what tests of several modules build on."""

import numpy as np
import torch
from torch import nn

from recog.models.build import build_model
from recog.models.config import ModelConfig
from recog.models.network_files import save_network_config, save_weights
from recog.runtime.engine import Outputs

CLASSES = ["daisy", "Löwenzahn", "蒲公英"]


def build(name, num_classes=3, **settings):
    torch.manual_seed(0)
    return build_model(ModelConfig(name=name, **settings), num_classes=num_classes)


def save_bundle_files(model, folder, task="multiclass"):
    """What `load_classifier` and timm read: config.json and model.safetensors."""
    save_network_config(model, folder / "config.json", class_names=CLASSES, task=task)
    save_weights(model, folder / "model.safetensors")


def images_for(model, num_images=2):
    height, width = model.preprocess.image_size
    shape = (num_images, height, width, model.preprocess.channels)
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))


def logits_of(classifier, images):
    with torch.no_grad():
        return classifier(images)[0]


def num_parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


class PixelEngine:
    """An engine whose features are the pixels."""

    def __call__(self, images):
        features = images.reshape(len(images), -1).astype(np.float32) / 255
        return Outputs(logits=np.zeros((len(images), 2), np.float32), features=features)


class PixelHead(nn.Module):
    """A network of its head alone: two classes from the pixels of a grey 2 x 2 image."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, 2)

    def get_classifier(self):
        return self.head
