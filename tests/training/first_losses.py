"""The losses of the first training steps, in plain PyTorch and float64: independent of Keras and of kapp.

`python -m tests.training.first_losses` writes first_losses.json.
"""

import json
from itertools import count, pairwise
from pathlib import Path

import numpy as np
import torch
from scipy.stats import truncnorm
from torch.nn import functional

FILE = Path(__file__).with_name("first_losses.json")
STEPS, BATCH_SIZE, MOMENTUM = 5, 16, 0.9
MEAN, STD = (125.3, 123.0, 113.9), (51.6, 50.8, 51.3)  # of CIFAR-10
PADDING = 4  # of the crops


def raw_bits(*seed: int) -> np.random.Philox:
    return np.random.Philox(np.random.SeedSequence(seed))


class Network:
    """Its layers add their weights when they are called first, in the order of kapp's networks."""

    def __init__(self, layers, seed: int, training: bool = True):
        self.layers, self.training = layers, training
        self.bits, self.weights = raw_bits(seed), []
        self(torch.zeros(2, 32, 32, 3))

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        self.position = count()
        x = (images.double() - torch.tensor(MEAN)) / torch.tensor(STD)
        return self.layers(self, x.permute(0, 3, 1, 2))

    def weight(self, new) -> torch.Tensor:
        """The next weight; `new()` at the first call."""
        position = next(self.position)
        if position == len(self.weights):
            self.weights.append(torch.tensor(new()).double().requires_grad_())
        return self.weights[position]

    def kernel(self, *shape: int) -> torch.Tensor:
        """He et al. 2015, equation 10, truncated at two standard deviations; float32 as in kapp."""

        def new() -> np.ndarray:
            size = int(np.prod(shape))
            halves = raw_bits(int(self.bits.random_raw() >> 33)).random_raw(size // 2 + 1)
            uniform = (np.stack([halves & (2**32 - 1), halves >> 32], axis=1).ravel()[:size] + 0.5) / 2**32
            values = truncnorm.ppf(uniform, -2, 2)
            std = np.sqrt(2 / np.prod(shape[:-1]))
            return (values * std / truncnorm.std(-2, 2)).reshape(shape).astype(np.float32)

        return self.weight(new)

    def batch_norm(self, x: torch.Tensor) -> torch.Tensor:
        channels = x.shape[1]
        gamma, beta = self.weight(lambda: np.ones(channels)), self.weight(lambda: np.zeros(channels))
        mean, variance = torch.zeros(channels).double(), torch.ones(channels).double()
        return functional.batch_norm(x, mean, variance, gamma, beta, self.training, 0.0, 1e-5)

    def conv(self, x: torch.Tensor, filters: int, size: int = 3, stride: int = 1) -> torch.Tensor:
        kernel = self.kernel(size, size, x.shape[1], filters).permute(3, 2, 0, 1)
        pixels = size - stride if size > 1 else 0  # the maps have even sides; the odd pixel comes last
        x = functional.pad(x, (pixels // 2, pixels - pixels // 2) * 2)
        return functional.conv2d(x, kernel, stride=stride)

    def dense(self, x: torch.Tensor, units: int) -> torch.Tensor:
        if x.ndim == 4:
            x = x.permute(0, 2, 3, 1).flatten(1)
        return x @ self.kernel(x.shape[1], units)

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        return self.dense(x, 10) + self.weight(lambda: np.zeros(10))


def deep_resnet(network: Network, x: torch.Tensor) -> torch.Tensor:
    """18 blocks (He et al. 2016, figure 2 and option B)."""
    blocks = [4] * 4 + [8] * 6 + [15] * 8
    for before, filters in pairwise([None, *blocks]):
        stride = 2 if before not in (None, filters) else 1
        skip = x
        if before != filters:
            skip = network.batch_norm(network.conv(x, filters, 1, stride))
        x = network.batch_norm(network.conv(x, filters, 3, stride)).relu()
        x = (network.batch_norm(network.conv(x, filters)) + skip).relu()
    return network.logits(x.mean((2, 3)))


def conv_2(network: Network, x: torch.Tensor) -> torch.Tensor:
    for _ in range(2):
        x = network.batch_norm(network.conv(x, 4)).relu()
    x = network.dense(functional.max_pool2d(x, 2), 36)
    return network.logits(network.batch_norm(x).relu())


def linear_4(network: Network, x: torch.Tensor) -> torch.Tensor:
    for units in (72, 144, 108):
        x = network.batch_norm(network.dense(x, units)).relu()
    return network.logits(x)


def data() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(11)
    images = random.integers(0, 256, (80, 32, 32, 3)).astype(np.uint8)
    return images[:64], random.integers(0, 10, 80)[:64]


def batches(seed: int):
    """The images and labels of each step: a random order of each epoch, crops and mirror images."""
    images, labels = data()
    for epoch in count():
        bits = raw_bits(seed, epoch).random_raw(2 * len(images))
        order = np.argsort(bits[: len(images)], kind="stable")
        views = bits[len(images) :] % (2 * (2 * PADDING + 1) ** 2)
        for start in range(0, len(images), BATCH_SIZE):
            part = slice(start, start + BATCH_SIZE)
            x = [view_of(images[i], int(view)) for i, view in zip(order[part], views[part])]
            yield torch.tensor(np.stack(x)), torch.tensor(labels[order[part]])


def view_of(image: np.ndarray, view: int) -> np.ndarray:
    flipped, y, x = np.unravel_index(view, (2, 2 * PADDING + 1, 2 * PADDING + 1))
    crop = np.pad(image, [(PADDING, PADDING)] * 2 + [(0, 0)])[y : y + 32, x : x + 32]
    return crop[:, ::-1] if flipped else crop


def first_losses(student, teacher=None, learning_rate: float = 0.01) -> dict:
    network = Network(student, seed=1)
    optimizer = torch.optim.SGD(network.weights, learning_rate, MOMENTUM)
    losses = []
    for (images, labels), _ in zip(batches(seed=5), range(STEPS)):
        logits = network(images)
        if teacher is None:
            loss = functional.cross_entropy(logits, labels)
        else:  # the mean squared difference of the probabilities (Ratusznik et al.)
            target = Network(teacher, seed=2, training=False)(images).detach().softmax(1)
            loss = (logits.softmax(1) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return {"learning_rate": learning_rate, "losses": losses}


if __name__ == "__main__":
    results = {
        "deep_resnet": first_losses(deep_resnet, learning_rate=0.001),
        "conv_2": first_losses(conv_2),
        "linear_4": first_losses(linear_4),
        "conv_2 from deep_resnet": first_losses(conv_2, deep_resnet),
    }
    FILE.write_text(json.dumps(results, indent=2) + "\n")
