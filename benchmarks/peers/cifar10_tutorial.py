"""The CIFAR-10 tutorial of pytorch.org: 6-16 CNN, batches of 4, SGD 0.001 with momentum 0.9, two loader workers, float32.

Arguments: a folder with train/CLASS and test/CLASS, and the epochs (the tutorial's own are 2). Prints the test accuracy.
"""

import sys

import torch
import torch.nn.functional as F
from torch import nn, optim
from torchvision import datasets, transforms


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 5)
        self.pool = nn.MaxPool2d(2, 2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 10)

    def forward(self, x):
        x = self.pool(F.relu(self.conv1(x)))
        x = self.pool(F.relu(self.conv2(x)))
        x = torch.flatten(x, 1)
        x = F.relu(self.fc1(x))
        x = F.relu(self.fc2(x))
        return self.fc3(x)


def main():
    folder, epochs = sys.argv[1], int(sys.argv[2])
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))])
    train = datasets.ImageFolder(f"{folder}/train", transform)
    test = datasets.ImageFolder(f"{folder}/test", transform)
    trainloader = torch.utils.data.DataLoader(train, batch_size=4, shuffle=True, num_workers=2)
    testloader = torch.utils.data.DataLoader(test, batch_size=4, shuffle=False, num_workers=2)
    net = Net()
    criterion = nn.CrossEntropyLoss()
    optimizer = optim.SGD(net.parameters(), lr=0.001, momentum=0.9)
    for _ in range(epochs):
        for inputs, labels in trainloader:
            optimizer.zero_grad()
            loss = criterion(net(inputs), labels)
            loss.backward()
            optimizer.step()
    correct = 0
    with torch.no_grad():
        for images, labels in testloader:
            correct += (net(images).argmax(1) == labels).sum().item()
    print(correct / len(test))


if __name__ == "__main__":
    main()
