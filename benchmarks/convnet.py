"""Training steps of convolutional networks beside torch.nn.  `python benchmarks/convnet.py`"""

from __future__ import annotations

from collections.abc import Callable

import torch
from compare import Task, compare, descent, native_descent
from torch import nn as torch_nn

import t7compat
from t7compat import nn

BATCH, CLASSES, SIZE = 16, 10, 32
WIDTHS = [(32,), (64, 64), (128, 128)]  # of the convolutions before each pooling
WIDTH, BLOCKS = 32, 3  # of the residual network


def vgg() -> tuple[nn.Module, torch_nn.Module]:
    """Stages of 3x3 convolutions and max-pooling, with t7compat and with torch.nn."""
    here, layers, planes = nn.Sequential(), list[torch_nn.Module](), 3
    for widths in WIDTHS:
        for width in widths:
            here.add(nn.SpatialConvolution(planes, width, 3, 3, 1, 1, 1, 1)).add(nn.ReLU())
            layers += [torch_nn.Conv2d(planes, width, 3, padding=1), torch_nn.ReLU()]
            planes = width
        here.add(nn.SpatialMaxPooling(2, 2))
        layers.append(torch_nn.MaxPool2d(2))
    features = planes * (SIZE >> len(WIDTHS)) ** 2
    here.add(nn.View(features)).add(nn.Linear(features, CLASSES))
    return here, torch_nn.Sequential(*layers, torch_nn.Flatten(), torch_nn.Linear(features, CLASSES))


class Residual(torch_nn.Sequential):
    """max(x + layers(x), 0)"""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return torch.relu(super().forward(input) + input)


def resnet() -> tuple[nn.Module, torch_nn.Module]:
    """Residual blocks with batch normalisation, with t7compat and with torch.nn."""
    here = nn.Sequential().add(nn.SpatialConvolution(3, WIDTH, 3, 3, 1, 1, 1, 1))
    layers: list[torch_nn.Module] = [torch_nn.Conv2d(3, WIDTH, 3, padding=1)]
    for _ in range(BLOCKS):
        path = nn.Sequential()
        path.add(nn.SpatialConvolution(WIDTH, WIDTH, 3, 3, 1, 1, 1, 1)).add(
            nn.SpatialBatchNormalization(WIDTH)
        )
        path.add(nn.ReLU())
        path.add(nn.SpatialConvolution(WIDTH, WIDTH, 3, 3, 1, 1, 1, 1)).add(
            nn.SpatialBatchNormalization(WIDTH)
        )
        here.add(nn.ConcatTable().add(path).add(nn.Identity())).add(nn.CAddTable()).add(nn.ReLU())
        convolutions = [torch_nn.Conv2d(WIDTH, WIDTH, 3, padding=1) for _ in range(2)]
        norms = [torch_nn.BatchNorm2d(WIDTH) for _ in range(2)]
        layers.append(Residual(convolutions[0], norms[0], torch_nn.ReLU(), convolutions[1], norms[1]))
    here.add(nn.View(WIDTH * SIZE * SIZE)).add(nn.Linear(WIDTH * SIZE * SIZE, CLASSES))
    return here, torch_nn.Sequential(
        *layers, torch_nn.Flatten(), torch_nn.Linear(WIDTH * SIZE * SIZE, CLASSES)
    )


def ours(network: nn.Module) -> Callable[[], object]:
    """A training step with t7compat."""
    criterion = nn.CrossEntropyCriterion()
    x, y = torch.randn(BATCH, 3, SIZE, SIZE), torch.randint(CLASSES, (BATCH,)) + 1

    return descent(network, criterion, x, y)


def native(network: torch_nn.Module) -> Callable[[], object]:
    """The same with torch.nn."""
    criterion = torch_nn.CrossEntropyLoss()
    x, y = torch.randn(BATCH, 3, SIZE, SIZE), torch.randint(CLASSES, (BATCH,))

    return native_descent(network, lambda: criterion(network(x), y))


if __name__ == "__main__":
    t7compat.setdefaulttensortype("torch.FloatTensor")
    for threads in (1, 2):
        torch.set_num_threads(threads)
        tasks = []
        for name, make in (("VGG", vgg), ("ResNet", resnet)):
            here, there = make()
            title = f"{name}, batch {BATCH}, {threads} thread{'s'[: threads - 1]}"
            tasks.append(Task(title, ours(here), "torch.nn and SGD", native(there)))
        compare(*tasks)
