"""A training loop as a PyTorch user writes it by hand for speed on a CPU: bfloat16 autocast (--float32:
without), channels last, fused Adam at 0.001 (all_cnn_c: fused SGD at 0.05 with momentum 0.9 and weight decay
0.001), images resident as padded uint8, a crop and flip a sample by indexing, nothing read back in an epoch;
eager, or --compiled: forward, loss and their gradients by torch.compile with its defaults.

    python -m benchmarks.ways.torch_loop teacher_1 --compiled
"""

import argparse
from collections.abc import Iterator

import torch
from torch import nn
from torch.nn import functional

from benchmarks import images
from benchmarks.turns import serve

MEAN, STD = [125.3, 123.0, 113.9], [51.6, 50.8, 51.3]  # CIFAR-10's


def convolved(
    shape: list[int],
    filters: int,
    *,
    stride: int = 1,
    kernel: int = 3,
    padding: int | None = None,
    norm: bool,
) -> Iterator[nn.Module]:
    padding = kernel // 2 if padding is None else padding
    yield nn.Conv2d(shape[0], filters, kernel, stride, padding, bias=not norm)
    if norm:
        yield nn.BatchNorm2d(filters)
    yield nn.ReLU(inplace=True)
    shape[0] = filters


def connected(units: int, before: int) -> list[nn.Module]:
    return [nn.Linear(before, units, bias=False), nn.BatchNorm1d(units), nn.ReLU(inplace=True)]


def teacher_1() -> nn.Module:
    layers: list[nn.Module] = []
    shape = [3]
    for filters, convolutions, dropout in ((76, 2, 0.2), (126, 2, 0.3), (148, 4, 0.37)):
        for _ in range(convolutions):
            layers += convolved(shape, filters, norm=True)
        layers += [nn.MaxPool2d(2), nn.Dropout(dropout)]
    layers += [nn.Flatten(), *connected(1200, 148 * 4 * 4), *connected(1200, 1200)]
    return nn.Sequential(*layers, nn.Dropout(0.42), nn.Linear(1200, 10))


def linear_3() -> nn.Module:
    return nn.Sequential(nn.Flatten(), *connected(2048, 3072), *connected(2048, 2048), nn.Linear(2048, 10))


def all_cnn_c() -> nn.Module:
    layers: list[nn.Module] = [nn.Dropout(0.2)]
    shape = [3]
    for filters in (96, 192):
        for stride in (1, 1, 2):
            layers += convolved(shape, filters, stride=stride, norm=False)
        layers.append(nn.Dropout(0.5))
    layers += convolved(shape, 192, padding=0, norm=False)
    layers += convolved(shape, 192, kernel=1, norm=False)
    return nn.Sequential(*layers, nn.Conv2d(192, 10, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())


NETWORKS = {"teacher_1": teacher_1, "linear_3": linear_3, "all_cnn_c": all_cnn_c}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("network", choices=NETWORKS)
    parser.add_argument(
        "--compiled", action="store_true", help="forward and loss by torch.compile (inductor)"
    )
    parser.add_argument("--float32", action="store_true", help="no autocast")
    parser.add_argument("--batch", type=int, default=images.BATCH)
    parser.add_argument("--steps", type=int, default=20, help="in a turn")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    pictures, host_labels = images.arrays(max(images.COUNT, arguments.steps * arguments.batch))
    padded = functional.pad(torch.from_numpy(pictures), (0, 0, 4, 4, 4, 4))  # (n, rows, columns, channels)
    labels = torch.from_numpy(host_labels).long()
    network = NETWORKS[arguments.network]().to(memory_format=torch.channels_last)
    optimizer = (
        torch.optim.SGD(network.parameters(), 0.05, 0.9, weight_decay=0.001, fused=True)
        if arguments.network == "all_cnn_c"
        else torch.optim.Adam(network.parameters(), 0.001, fused=True)
    )
    mean, std = (torch.tensor(value).view(1, 3, 1, 1) for value in (MEAN, STD))
    rows = torch.arange(32)

    def batch(sample: torch.Tensor) -> torch.Tensor:
        """One of the 162 views of each."""
        top, left = torch.randint(9, (2, len(sample), 1))
        flip = torch.randint(2, (len(sample), 1)).bool()
        columns = left + torch.where(flip, 31 - rows, rows)
        shown = padded[sample[:, None, None], (top + rows)[:, :, None], columns[:, None, :]]
        shown = (shown.permute(0, 3, 1, 2).float() - mean) / std  # channels last in memory, as they were
        return shown.contiguous() if arguments.network == "linear_3" else shown

    def loss_of(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=not arguments.float32):
            logits = network(x)
        return functional.cross_entropy(logits.float(), y)

    if arguments.compiled:
        loss_of = torch.compile(loss_of)

    def turn(steps: int) -> None:
        network.train()
        order = torch.randperm(len(pictures))
        for step in range(steps):
            sample = order[step * arguments.batch : (step + 1) * arguments.batch]
            loss = loss_of(batch(sample), labels[sample])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        loss.item()

    serve(lambda: turn(arguments.steps), arguments.steps * arguments.batch, wake=lambda: turn(1))


if __name__ == "__main__":
    main()
