"""Networks that readers bring: each of another make, none with FerCNN's layer names."""

import torch.nn.functional as F
from torch import nn


class Flattening(nn.Module):
    """The layers of the 2019 report, flattened by ``view``."""

    def __init__(self, classes):
        super().__init__()
        widths, kernels = (1, 32, 64, 128, 128), (5, 3, 3, 3)
        layers = []
        for i, k in enumerate(kernels):
            layers += [
                nn.Conv2d(widths[i], widths[i + 1], k, padding=k // 2),
                nn.LeakyReLU(0.05),
                nn.BatchNorm2d(widths[i + 1]),
                nn.MaxPool2d(2),
            ]
        self.cnn = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.Linear(1152, 64), nn.ReLU(), nn.Linear(64, classes))

    def forward(self, x):
        x = self.cnn(x)
        return self.head(x.view(x.size(0), -1))


class Skips(nn.Module):
    """Residual blocks with functional ReLU, and a mean over places."""

    def __init__(self, classes):
        super().__init__()
        self.first = nn.Conv2d(1, 16, 3, 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.a, self.b = nn.Conv2d(16, 16, 3, 1, 1), nn.Conv2d(16, 32, 3, 2, 1)
        self.c, self.beside = nn.Conv2d(32, 32, 3, 1, 1), nn.Conv2d(16, 32, 1, 2)
        self.out = nn.Linear(32, classes)

    def forward(self, x):
        x = F.relu(self.norm(self.first(x)))
        x = F.relu(x + self.a(x))
        x = F.relu(self.beside(x) + self.c(F.relu(self.b(x))))
        return self.out(x.mean((2, 3)))


class Separable(nn.Module):
    """Depthwise-separable convolutions with SiLU, an average pool and ``nn.Flatten``."""

    def __init__(self, classes):
        super().__init__()
        self.stack = nn.Sequential(
            nn.Conv2d(1, 16, 3, 2, 1), nn.SiLU(),
            nn.Conv2d(16, 16, 3, 1, 1, groups=16), nn.Conv2d(16, 32, 1), nn.SiLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 32, 3, 1, 1, groups=32), nn.Conv2d(32, 40, 1), nn.SiLU(), nn.AvgPool2d(2),
            nn.Flatten(), nn.Linear(40 * 36, classes),
        )  # fmt: skip

    def forward(self, x):
        return self.stack(x)


class Dropping(nn.Module):
    """Dropout, and convolutions with ``padding="same"``."""

    def __init__(self, classes):
        super().__init__()
        self.one = nn.Conv2d(1, 12, 5, padding="same")
        self.two = nn.Conv2d(12, 24, 4, padding="same")
        self.relu, self.pool = nn.ReLU(), nn.MaxPool2d(3)
        self.drop, self.flat = nn.Dropout(0.3), nn.Flatten()
        self.out = nn.Linear(24 * 5 * 5, classes)

    def forward(self, x):
        x = self.pool(self.relu(self.one(x)))
        x = self.pool(self.relu(self.two(x)))
        return self.out(self.drop(self.flat(x)))
