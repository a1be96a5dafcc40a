"""The field's usual input pipeline: torchvision's ImageFolder behind a DataLoader with two workers, augmenting with PIL.

FOLDER IMAGE_SIZE BATCH_SIZE EPOCHS: prints one JSON line per epoch, {"images": N, "seconds": S}. `worker_init` and pipes are
started once (persistent_workers), so that no epoch after the first pays for processes.
"""

import json
import sys
import time

import torch
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def build_loader(folder: str, image_size: int, batch_size: int) -> DataLoader:
    policy = transforms.Compose(
        [
            transforms.RandomResizedCrop(image_size, scale=(0.35, 1)),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    return DataLoader(
        ImageFolder(folder, policy),
        batch_size=batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=2,
        persistent_workers=True,
    )


def main() -> None:
    folder, image_size, batch_size, epochs = sys.argv[1], *map(int, sys.argv[2:])
    torch.manual_seed(0)
    loader = build_loader(folder, image_size, batch_size)
    for _ in range(epochs):
        started, num_images = time.perf_counter(), 0
        for images, _labels in loader:
            num_images += len(images)
        print(json.dumps({"images": num_images, "seconds": time.perf_counter() - started}), flush=True)


if __name__ == "__main__":
    main()
