"""The field's usual script: one photo through a timm network with torch. Prints the class index and its probability."""

import sys

import timm
import torch
from PIL import Image

bundle, photo = sys.argv[1:]
model = timm.create_model(f"local-dir:{bundle}", pretrained=True).eval()
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)
with torch.inference_mode():
    probs = model(transform(Image.open(photo).convert("RGB"))[None]).softmax(dim=1)[0]
print(int(probs.argmax()), float(probs.max()))
