"""LeNet-5 on MNIST as tutorials train it: batches of 64, SGD 0.01 with momentum 0.5, torchvision's data set, float32.

Arguments: a folder with MNIST/raw as torchvision lays it out, the accuracy to stop at, and the epochs at most. One JSON line per
epoch: seconds since the process began, and the accuracy on the 10,000 test images.
"""

import json
import sys
import time

STARTED = time.perf_counter()

import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from torch import nn, optim  # noqa: E402
from torchvision import datasets, transforms  # noqa: E402


class LeNet5(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5, padding=2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = F.relu(self.fc1(torch.flatten(x, 1)))
        return self.fc3(F.relu(self.fc2(x)))


def main():
    root, wanted, max_epochs = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
    torch.manual_seed(0)
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])
    train = torch.utils.data.DataLoader(datasets.MNIST(root, transform=transform), batch_size=64, shuffle=True)
    test = torch.utils.data.DataLoader(datasets.MNIST(root, train=False, transform=transform), batch_size=1000)
    net = LeNet5()
    optimizer = optim.SGD(net.parameters(), lr=0.01, momentum=0.5)
    for epoch in range(1, max_epochs + 1):
        net.train()
        for images, labels in train:
            optimizer.zero_grad()
            F.cross_entropy(net(images), labels).backward()
            optimizer.step()
        net.eval()
        with torch.no_grad():
            correct = sum((net(images).argmax(1) == labels).sum().item() for images, labels in test)
        accuracy = correct / len(test.dataset)
        print(json.dumps({"epoch": epoch, "seconds": time.perf_counter() - STARTED, "accuracy": accuracy}), flush=True)
        if accuracy >= wanted:
            return


if __name__ == "__main__":
    main()
