"""airbench: its whitening, its initial weights, and its outputs compared with a module in plain PyTorch."""

import math

import keras
import numpy as np
import pytest

from kapp import models
from kapp.data.patches import patch_covariance
from kapp.models.initializers import VarianceScaling
from kapp.models.whitening import whitening_kernel
from kapp.training import Learner
from tests.training.helpers import random_dataset, to_numpy

RANDOM = np.random.default_rng(0)
MEAN, STD = [110.0, 120.0, 130.0], [40.0, 50.0, 60.0]


def smooth_images(count: int) -> np.ndarray:
    """Images whose pixels and channels are correlated, uint8 (count, 28, 26, 3)."""
    noise = RANDOM.normal(size=(count, 29, 27, 4))
    values = noise[:, 1:, 1:, 1:] + noise[:, :-1, 1:, 1:] + noise[:, 1:, :-1, :-1]
    return np.clip(120 + 30 * values, 0, 255).astype(np.uint8)


def patches_of(images: np.ndarray) -> np.ndarray:
    """All 2x2 patches of normalized images, (patches, 12)."""
    x = (images - np.array(MEAN)) / np.array(STD)
    return np.array(
        [
            image[row : row + 2, column : column + 2].ravel()
            for image in x
            for row in range(image.shape[0] - 1)
            for column in range(image.shape[1] - 1)
        ]
    )


def test_the_covariance_is_that_of_all_patches_of_the_samples():
    images = smooth_images(10)
    samples = np.arange(0, 10, 2, dtype=np.int32)
    patches = patches_of(images[samples])
    found = patch_covariance(images, samples, MEAN, STD)
    np.testing.assert_allclose(found, patches.T @ patches / len(patches), rtol=1e-10, atol=1e-12)


def test_whitened_patches_are_uncorrelated_with_variance_1():
    images = smooth_images(10)
    samples = np.arange(10, dtype=np.int32)
    covariance = patch_covariance(images, samples, MEAN, STD)
    network = models.build(
        "airbench", width=0.05, image_shape=(28, 26, 3), mean=MEAN, std=STD, patch_covariance=covariance
    )
    layer = network.get_layer("conv1")
    part = keras.Model(network.inputs, layer.output)
    outputs = to_numpy(part(images.astype("float32"))).reshape(-1, 24).astype(float)
    second_moments = outputs.T @ outputs / len(outputs)
    np.testing.assert_allclose(second_moments[:12, :12], np.eye(12), atol=0.02)  # 5e-4 is added to variances
    np.testing.assert_allclose(outputs[:, 12:], -outputs[:, :12], atol=1e-4)
    variances = np.linalg.eigvalsh(covariance)[::-1]
    np.testing.assert_allclose(np.diag(second_moments)[:12], variances / (variances + 5e-4), rtol=1e-3)


def test_a_data_set_gives_the_covariance_of_its_training_images():
    dataset = random_dataset()
    mean, std = dataset.channel_stats
    x = (dataset.train.images - np.array(mean)) / np.array(std)
    corner = x[:, :-1, :-1, 0].ravel()
    diagonal = x[:, 1:, 1:, 2].ravel()
    covariance = dataset.model_arguments["patch_covariance"]
    assert covariance[0, 11] == pytest.approx(np.mean(corner * diagonal), abs=1e-9)
    kernel = to_numpy(
        models.build("airbench", width=0.05, **dataset.model_arguments).get_layer("conv1").kernel
    )
    np.testing.assert_array_equal(kernel, whitening_kernel(covariance, 3))


def test_without_images_a_filter_copies_one_pixel():
    kernel = to_numpy(models.build("airbench", width=0.05).get_layer("conv1").kernel)
    assert sorted(np.abs(kernel).reshape(12, 24).argmax(axis=0)) == sorted([*range(12)] * 2)
    assert np.abs(kernel).sum(axis=(0, 1, 2)) == pytest.approx(1 / math.sqrt(1.0005))


@pytest.mark.parametrize(("inputs", "filters"), [(4, 6), (6, 4), (5, 5)])
def test_convolutions_begin_as_the_identity_of_pytorch(inputs, filters):
    torch = pytest.importorskip("torch")
    kernel = to_numpy(VarianceScaling(seed=3, identity=True)((3, 3, inputs, filters)))
    expected = torch.nn.init.dirac_(torch.empty(filters, inputs, 3, 3)).permute(2, 3, 1, 0).numpy()
    np.testing.assert_array_equal(kernel[..., :inputs], expected[..., :inputs])
    others = kernel[..., inputs:]
    limit = 1 / math.sqrt(9 * inputs)
    assert np.abs(others).max(initial=0) <= limit
    assert others.size == 0 or others.std() == pytest.approx(limit / math.sqrt(3), rel=0.2)


def test_other_weights_are_uniform():
    kernel = to_numpy(VarianceScaling(seed=1)((50, 400))).ravel() * math.sqrt(50)
    assert np.abs(kernel).max() <= 1
    counts, _ = np.histogram(kernel, bins=10, range=(-1, 1))
    assert ((counts - 2000) ** 2 / 2000).sum() < 9 + 5 * math.sqrt(18)  # chi-squared
    assert not np.array_equal(kernel, to_numpy(VarianceScaling(seed=2)((50, 400))).ravel())


def test_parameters_counted_by_hand():
    convolutions = 9 * (24 * 64 + 64 * 64 + 64 * 256 + 3 * 256 * 256)
    batch_norm = 3 * (2 * 64 + 4 * 256)  # shift, moving mean and variance
    network = models.build("airbench")
    assert network.count_params() == 12 * 24 + 24 + convolutions + batch_norm + 256 * 10 == 1_973_944
    trained = sum(int(np.prod(weight.shape)) for weight in network.trainable_weights)
    assert trained == 1_973_944 - 12 * 24 - 2 * (2 * 64 + 4 * 256)


def torch_module(network: keras.Model):
    """The published network in plain PyTorch, with the weights of `network`; normalized images in."""
    from torch import nn

    def tensor(array):
        import torch

        return nn.Parameter(torch.from_numpy(np.array(to_numpy(array))))

    def convolution(name: str, **settings) -> nn.Conv2d:
        layer = network.get_layer(name)
        height, _, inputs, filters = layer.kernel.shape
        module = nn.Conv2d(inputs, filters, height, **settings)
        module.weight = tensor(np.transpose(to_numpy(layer.kernel), (3, 2, 0, 1)))
        if layer.use_bias:
            module.bias = tensor(layer.bias)
        return module

    def norm(name: str) -> nn.BatchNorm2d:
        layer = network.get_layer(f"{name}_bn")
        module = nn.BatchNorm2d(layer.beta.shape[0], eps=1e-12, momentum=0.4)
        module.weight.requires_grad = False
        module.bias = tensor(layer.beta)
        return module

    modules = [convolution("conv1"), nn.GELU()]
    for i in (2, 4, 6):
        modules += [convolution(f"conv{i}", padding="same", bias=False), nn.MaxPool2d(2)]
        modules += [norm(f"conv{i}"), nn.GELU()]
        modules += [convolution(f"conv{i + 1}", padding="same", bias=False), norm(f"conv{i + 1}"), nn.GELU()]
    linear = nn.Linear(*network.get_layer("logits").kernel.shape, bias=False)
    linear.weight = tensor(to_numpy(network.get_layer("logits").kernel).T)
    return nn.Sequential(*modules, nn.MaxPool2d(3), nn.Flatten(), linear)


def test_the_outputs_are_those_of_the_network_in_pytorch():
    torch = pytest.importorskip("torch")
    network = models.build("airbench", 5, width=0.1, mean=MEAN, std=STD, seed=2)
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.beta.assign(RANDOM.normal(size=layer.beta.shape))
    network.get_layer("conv1").bias.assign(RANDOM.normal(size=24))
    images = RANDOM.integers(0, 256, (20, 32, 32, 3)).astype("float32")
    module = torch_module(network)
    x = torch.from_numpy(((images - np.array(MEAN)) / np.array(STD)).astype("float32")).permute(0, 3, 1, 2)
    with torch.no_grad():
        for training in (True, False):  # the first pass moves the statistics that the second one uses
            module.train(training)
            expected = module(x).numpy() / 9
            found = to_numpy(network(images, training=training))
            # PyTorch's moving variance is the unbiased one: 20 x 9 values per channel in the last layer.
            np.testing.assert_allclose(found, expected, atol=1e-4 if training else 0.02)


def test_the_kernel_of_the_first_layer_is_not_trained_and_its_bias_is():
    network = models.build("airbench", 3, width=0.05, image_shape=(26, 26, 3))
    layer = network.get_layer("conv1")
    before = [to_numpy(weight) for weight in (layer.kernel, layer.bias)]
    learner = Learner(network)
    learner.compile("sgd")
    images = RANDOM.integers(0, 256, (12, 26, 26, 3)).astype(np.uint8)
    learner.fit(images, np.arange(12) % 3, batch_size=12, verbose=0)
    assert np.array_equal(before[0], to_numpy(layer.kernel))
    assert not np.array_equal(before[1], to_numpy(layer.bias))


def test_it_learns_in_bfloat16():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        network = models.build("airbench", 2, width=0.1, image_shape=(26, 26, 3))
    finally:
        keras.config.set_dtype_policy("float32")
    images = RANDOM.integers(0, 200, (64, 26, 26, 3)).astype(np.uint8)
    labels = np.arange(64) % 2
    images[labels == 1, :, :12] += 50
    learner = Learner(network)
    learner.compile(keras.optimizers.SGD(0.5, 0.85, nesterov=True))
    history = learner.fit(images, labels, batch_size=32, epochs=8, verbose=0).history
    assert history["accuracy"][-1] > 0.9
    assert network.output.dtype == "float32"
