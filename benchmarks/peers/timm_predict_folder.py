"""The field's usual script for a folder: a timm network with torch, batches of 32 by a DataLoader with two workers."""

import sys
from pathlib import Path

import timm
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

bundle, folder = sys.argv[1:]
model = timm.create_model(f"local-dir:{bundle}", pretrained=True).eval()
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)
paths = sorted(path for path in Path(folder).rglob("*") if path.suffix == ".jpg")


class Photos(Dataset):
    def __len__(self) -> int:
        return len(paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        return transform(Image.open(paths[index]).convert("RGB"))


with torch.inference_mode():
    done = 0
    for batch in DataLoader(Photos(), batch_size=32, num_workers=2):
        for row in model(batch).softmax(dim=1):
            print(paths[done], int(row.argmax()), float(row.max()))
            done += 1
