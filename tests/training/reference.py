"""A training in plain NumPy, float64, with gradients by central differences: slow, and independent of Keras
and kapp."""

import numpy as np


def forward(weights: dict[str, np.ndarray], images: np.ndarray, mean, std) -> np.ndarray:
    """Logits of 4c-mp-6fc-3fc in training mode: batch statistics, epsilon 1e-5."""
    x = (images.astype(np.float64) - mean) / std
    n, height, width, _ = x.shape
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    convolved = np.zeros((n, height, width, weights["conv1/kernel"].shape[-1]))
    for i in range(height):
        for j in range(width):
            window = padded[:, i : i + 3, j : j + 3, :]
            convolved[:, i, j] = np.einsum("nabc,abcf->nf", window, weights["conv1/kernel"])
    x = relu(normalize(convolved, weights, "conv1_bn", (0, 1, 2)))
    pooled = np.zeros((n, height // 2, width // 2, x.shape[-1]))
    for i in range(height // 2):
        for j in range(width // 2):
            pooled[:, i, j] = x[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].max(axis=(1, 2))
    hidden = pooled.reshape(n, -1) @ weights["dense1/kernel"]
    hidden = relu(normalize(hidden, weights, "dense1_bn", (0,)))
    return hidden @ weights["logits/kernel"] + weights["logits/bias"]


def normalize(x, weights, name, axes):
    centered = x - x.mean(axis=axes)
    scaled = centered / np.sqrt((centered**2).mean(axis=axes) + 1e-5)
    return scaled * weights[f"{name}/gamma"] + weights[f"{name}/beta"]


def relu(x):
    return np.where(x > 0, x, 0)


def softmax(logits):
    e = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def cross_entropy(logits, labels):
    return -np.mean([np.log(p[label]) for p, label in zip(softmax(logits), labels)])


def prob_mse(logits, teacher_logits):
    return np.mean((softmax(teacher_logits) - softmax(logits)) ** 2)


def descend(weights: dict[str, np.ndarray], loss, rate: float, step: float = 1e-5) -> float:
    """One step of gradient descent on `weights`, in place; return the loss before it."""
    value = loss(weights)
    gradients = {name: np.zeros_like(array) for name, array in weights.items()}
    for name, array in weights.items():
        for index in np.ndindex(array.shape):
            original = array[index]
            array[index] = original + step
            above = loss(weights)
            array[index] = original - step
            gradients[name][index] = (above - loss(weights)) / (2 * step)
            array[index] = original
    for name, array in weights.items():
        array -= rate * gradients[name]
    return value
