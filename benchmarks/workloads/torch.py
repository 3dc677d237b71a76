"""A training loop as a PyTorch user writes it by hand for speed on a CPU."""

from typing import Literal

import torch
from torch import nn
from torch.nn import functional
from tyro.conf import Positional

from benchmarks.workloads import BATCH_SIZE, main, random_images, serve

MEAN, STD = [125.3, 123.0, 113.9], [51.6, 50.8, 51.3]  # CIFAR-10's


def fit(
    network: Positional[Literal["teacher_1", "linear_3", "all_cnn_c"]],
    compiled: bool = False,
    float32: bool = False,
    batch_size: int = BATCH_SIZE,
    steps: int = 20,
) -> None:
    """A hand-written training loop: bfloat16 autocast (float32: without), channels last, fused Adam at 0.001
    (all_cnn_c: fused SGD at 0.05 with momentum 0.9 and weight decay 0.001), images in memory as padded uint8,
    a crop and a flip per image by indexing, no synchronization in an epoch; eager, or compiled: forward pass,
    loss and gradients by torch.compile with its defaults."""
    torch.manual_seed(0)
    images, host_labels = random_images(max(10_000, steps * batch_size))
    padded = functional.pad(torch.from_numpy(images), (0, 0, 4, 4, 4, 4))  # (n, rows, columns, channels)
    labels = torch.from_numpy(host_labels).long()
    model = NETWORKS[network]().to(memory_format=torch.channels_last)
    optimizer = (
        torch.optim.SGD(model.parameters(), 0.05, 0.9, weight_decay=0.001, fused=True)
        if network == "all_cnn_c"
        else torch.optim.Adam(model.parameters(), 0.001, fused=True)
    )
    mean, std = (torch.tensor(value).view(1, 3, 1, 1) for value in (MEAN, STD))
    rows = torch.arange(32)

    def augmented(sample: torch.Tensor) -> torch.Tensor:
        top, left = torch.randint(9, (2, len(sample), 1))
        flip = torch.randint(2, (len(sample), 1)).bool()
        columns = left + torch.where(flip, 31 - rows, rows)
        views = padded[sample[:, None, None], (top + rows)[:, :, None], columns[:, None, :]]
        views = (views.permute(0, 3, 1, 2).float() - mean) / std  # channels last in memory
        return views.contiguous() if network == "linear_3" else views

    def loss_of(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=not float32):
            logits = model(x)
        return functional.cross_entropy(logits.float(), y)

    if compiled:
        loss_of = torch.compile(loss_of)

    def repeat(steps: int) -> None:
        model.train()
        order = torch.randperm(len(images))
        for step in range(steps):
            sample = order[step * batch_size : (step + 1) * batch_size]
            loss = loss_of(augmented(sample), labels[sample])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        loss.item()

    serve(lambda: repeat(steps), steps * batch_size, before=lambda: repeat(1))


def teacher_1() -> nn.Module:
    layers, channels = [], 3
    for filters, convolutions, dropout in ((76, 2, 0.2), (126, 2, 0.3), (148, 4, 0.37)):
        for _ in range(convolutions):
            layers += [nn.Conv2d(channels, filters, 3, padding=1, bias=False), nn.BatchNorm2d(filters)]
            layers += [nn.ReLU(inplace=True)]
            channels = filters
        layers += [nn.MaxPool2d(2), nn.Dropout(dropout)]
    layers += [nn.Flatten(), *linear(148 * 4 * 4, 1200), *linear(1200, 1200)]
    return nn.Sequential(*layers, nn.Dropout(0.42), nn.Linear(1200, 10))


def linear_3() -> nn.Module:
    return nn.Sequential(nn.Flatten(), *linear(3072, 2048), *linear(2048, 2048), nn.Linear(2048, 10))


def linear(inputs: int, units: int) -> list[nn.Module]:
    return [nn.Linear(inputs, units, bias=False), nn.BatchNorm1d(units), nn.ReLU(inplace=True)]


def all_cnn_c() -> nn.Module:
    layers, channels = [nn.Dropout(0.2)], 3
    for filters in (96, 192):
        for stride in (1, 1, 2):
            layers += [nn.Conv2d(channels, filters, 3, stride, padding=1), nn.ReLU(inplace=True)]
            channels = filters
        layers.append(nn.Dropout(0.5))
    layers += [nn.Conv2d(192, 192, 3), nn.ReLU(inplace=True), nn.Conv2d(192, 192, 1), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.Conv2d(192, 10, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())


NETWORKS = {"teacher_1": teacher_1, "linear_3": linear_3, "all_cnn_c": all_cnn_c}

if __name__ == "__main__":
    main(fit)
