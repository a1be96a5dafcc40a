"""Networks with random weights, images for them and the two files of a bundle: what tests of several modules build on."""

import numpy as np
import torch

from recog.models.build import ModelConfig, build_model
from recog.models.network_files import save_network_config, save_weights

CLASSES = ["daisy", "Löwenzahn", "蒲公英"]


def build(name, num_classes=3, **settings):
    torch.manual_seed(0)
    return build_model(ModelConfig(name=name, **settings), num_classes=num_classes)


def save_bundle_files(model, folder):
    """What `load_classifier` and timm read: config.json and model.safetensors."""
    save_network_config(model, folder / "config.json", class_names=CLASSES)
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
