"""The field's usual linear probe: timm features in torch, a DataLoader over ImageFolder, scikit-learn's logistic regression."""

import sys

import numpy as np
import timm
import torch
from safetensors.torch import load_file
from sklearn.linear_model import LogisticRegression
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder

data, weights = sys.argv[1:]
model = timm.create_model("tf_efficientnet_lite0", num_classes=0).eval()
model.load_state_dict({k: v for k, v in load_file(weights).items() if not k.startswith("classifier")})
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)


def features(split: str) -> tuple[np.ndarray, np.ndarray]:
    loader = DataLoader(ImageFolder(f"{data}/{split}", transform), batch_size=32, num_workers=2)
    with torch.inference_mode():
        rows, labels = zip(*((model(images).numpy(), y.numpy()) for images, y in loader), strict=True)
    return np.concatenate(rows), np.concatenate(labels)


train_x, train_y = features("train")
test_x, test_y = features("test")
probe = LogisticRegression(max_iter=1000).fit(train_x, train_y)
print(probe.score(test_x, test_y))
