"""Fine-tuning as PyTorch's transfer learning tutorial does it: all weights, SGD, batch 4, rate x 0.1 every 7 epochs.

One JSON line per epoch: seconds since the process began, and the accuracy on the test folder, which the tutorial also selects by.
"""

import json
import sys
import time

STARTED = time.perf_counter()

import timm  # noqa: E402
import torch  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from torch import nn, optim  # noqa: E402
from torchvision import transforms  # noqa: E402
from torchvision.datasets import ImageFolder  # noqa: E402

data, weights, num_epochs = sys.argv[1], sys.argv[2], int(sys.argv[3])
torch.manual_seed(0)
normalise = transforms.Normalize([0.5, 0.5, 0.5], [0.5, 0.5, 0.5])  # the network's own
in_training = transforms.Compose(
    [transforms.RandomResizedCrop(224), transforms.RandomHorizontalFlip(), transforms.ToTensor(), normalise]
)
in_test = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor(), normalise])
train = torch.utils.data.DataLoader(
    ImageFolder(f"{data}/train", in_training), batch_size=4, shuffle=True, num_workers=2
)
test = torch.utils.data.DataLoader(ImageFolder(f"{data}/test", in_test), batch_size=4, num_workers=2)

model = timm.create_model("tf_efficientnet_lite0")
model.load_state_dict(load_file(weights))
model.classifier = nn.Linear(model.classifier.in_features, len(train.dataset.classes))
criterion = nn.CrossEntropyLoss()
optimizer = optim.SGD(model.parameters(), lr=0.001, momentum=0.9)
scheduler = optim.lr_scheduler.StepLR(optimizer, step_size=7, gamma=0.1)

for epoch in range(num_epochs):
    model.train()
    for images, labels in train:
        optimizer.zero_grad()
        criterion(model(images), labels).backward()
        optimizer.step()
    scheduler.step()
    model.eval()
    with torch.no_grad():
        hits = sum(int((model(images).argmax(1) == labels).sum()) for images, labels in test)
    seconds = round(time.perf_counter() - STARTED, 1)
    print(json.dumps({"epoch": epoch + 1, "seconds": seconds, "accuracy": hits / len(test.dataset)}), flush=True)
