"""LinearProbe: a new head on the frozen features of a trained network."""

from collections.abc import Iterator
from itertools import chain, count
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import layers, ops

from kapp.data import Augmentation, Dataset
from kapp.data.augmentation import augment
from kapp.distributed import shard_batch
from kapp.errors import ConfigError, unknown
from kapp.keras_internals import flatten_layers, is_softmax, producer
from kapp.models.blocks import seed_stream
from kapp.models.initializers import HeNormal
from kapp.training.learner import Learner

HEADS = ("linear", "mlp")
MAX_CACHE_BYTES = 2**30
BATCH_SIZE = 500  # images whose features are computed at once


class SplitNetwork(NamedTuple):
    """A network and its two parts, which share its layers."""

    backbone: keras.Model  # images (n, height, width, channels), 0 to 255, to features
    head: keras.Model  # features to logits (n, classes)
    network: keras.Model  # images to logits


def replace_head(network: keras.Model, classes: int, head: str = "linear", seed: int = 0) -> SplitNetwork:
    """`network` with a new layer for `classes` classes in the place of its last Dense or Conv2D layer. The
    layers after it, such as an average, stay; a softmax is removed.

    Args:
        network: a functional or Sequential model of images. Its layers are used, not copied.
        head: linear: that layer alone (Hu 2018, section 2.3: a 1x1 convolution); mlp: a hidden layer of the
            same type before it, as wide as the features, with ReLU (section 4.3: "add more power layer").
        seed: of the new weights.

    Raises:
        ConfigError: the network doesn't end in such a layer, or `head` is unknown.
    """
    if head not in HEADS:
        raise unknown("head", head, HEADS)
    old, features, following = _output_layer(network)
    seeds = seed_stream(seed)
    taken = {layer.name for layer in network.layers if layer is not old}
    new = [_layer_like(old, classes, seeds, _unused("logits", taken))]
    if head == "mlp":
        hidden = _layer_like(old, features.shape[-1], seeds, _unused("head", taken), hidden=True)
        new = [hidden, layers.ReLU(name=_unused("head_relu", taken)), *new]
    new += [layer.__class__.from_config(layer.get_config()) for layer in following]
    inputs = keras.Input(features.shape[1:], dtype=features.dtype, name="features")
    return SplitNetwork(
        keras.Model(network.inputs[0], features, name="backbone"),
        keras.Model(inputs, _apply(new, inputs), name="head"),
        keras.Model(network.inputs[0], _apply(new, features), name=network.name),
    )


def set_trainable(network: keras.Model, trainable: bool) -> None:
    """Freeze every layer of `network`, or make every layer trainable; call `compile` after it."""
    # Layer by layer: on TensorFlow a model that is trainable already doesn't pass `trainable = True` on.
    for layer in flatten_layers(network):
        layer.trainable = trainable


def set_random_seeds(network: keras.Model, seed: int) -> None:
    """Set the states of the layers of `network` that draw random numbers, such as dropout, to those of new
    layers with seeds from `seed`. In a saved network they are where its training ended."""
    seeds = seed_stream(seed)
    for layer in flatten_layers(network):
        generator = getattr(layer, "seed_generator", None)
        if isinstance(generator, keras.random.SeedGenerator):
            generator.state.assign(keras.random.SeedGenerator(next(seeds)).state)


class LinearProbe(Learner):
    """Trains the head of a network on frozen features: the backbone's outputs in inference mode, also of its
    batch normalization and dropout.

    Args:
        split: from `replace_head`; freeze its backbone with `set_trainable` first.
        dataset, augmentation: as for `Learner`.
        cache_features: compute the features of every view of every image once, before the first step, and not
            those of each batch in its step. The results are equal. It is faster where views come more than
            once.

    Raises:
        ConfigError: `cache_features` where views don't come again, or without `dataset`.
    """

    def __init__(
        self,
        split: SplitNetwork,
        dataset: Any = None,
        augmentation: Augmentation | None = None,
        cache_features: bool = False,
    ):
        super().__init__(split.network, dataset, augmentation)
        self.backbone, self.head = split.backbone, split.head
        self.features = self.rows = None
        if cache_features:
            if dataset is None:
                raise ConfigError("features are cached for the images of a `dataset`: it must be given.")
            if not self.augmentation.repeats:
                raise ConfigError("features are cached for crops and flips only: set cache_features=False.")
            table, rows = compute_features(split.backbone, dataset, self.augmentation)
            self.features = keras.Variable(table, trainable=False, name="features")
            self.rows = keras.Variable(rows, dtype="int32", trainable=False, name="rows")

    def compile(self, optimizer: Any = "adam", *, ema: float = 0.0, **settings: Any) -> None:
        """As `Learner.compile`, without averaged weights.

        Raises:
            ConfigError: as `Learner.compile` does, or `ema` isn't 0.
        """
        if ema:
            raise ConfigError(f"ema is {ema}: the weights of a linear probe aren't averaged.")
        super().compile(optimizer, **settings)

    def network_inputs(self, x: Any) -> Any:
        """Features: those of the images `x`, or of the batch of indices `x`."""
        if self.features is None or not self.is_index_batch(x):
            return self.backbone(super().network_inputs(x), training=False)
        batch = shard_batch(x)
        row = ops.take(self.rows, batch["sample"] * self.augmentation.count + batch["view"], axis=0)
        return ops.take(self.features, row, axis=0)

    def forward_pass(self, inputs: Any, training: bool) -> Any:
        return self.head(inputs, training=training)


def should_cache(split: SplitNetwork, dataset: Dataset, augmentation: Augmentation, epochs: int) -> bool:
    """Whether a table of all features is less work than the backbone's outputs in `epochs` epochs, and takes
    at most `MAX_CACHE_BYTES`. Not where views don't come again."""
    if not augmentation.repeats:
        return False
    size = int(np.prod(split.backbone.output_shape[1:])) * 4
    return augmentation.count <= epochs and size * _row_count(dataset, augmentation) <= MAX_CACHE_BYTES


def compute_features(
    backbone: keras.Model, dataset: Dataset, augmentation: Augmentation
) -> tuple[np.ndarray, np.ndarray]:
    """The features of every view of the training images, and of the other images as they are.

    Returns:
        table: float32 (rows, ...), the features.
        rows: int32 (images * views,): row rows[i * views + v] is view v of image i; -1 where it isn't in the
            table.
    """
    rows = np.full((len(dataset.images), augmentation.count), -1, np.int32)
    table = np.empty((_row_count(dataset, augmentation), *backbone.output_shape[1:]), np.float32)
    start = 0
    for sample, view in _batches(dataset, augmentation):
        part = np.arange(start, start + len(sample))
        rows[sample, view] = part
        images = augment(ops.convert_to_tensor(dataset.images[sample]), view, augmentation)
        table[part] = ops.convert_to_numpy(ops.cast(backbone(images, training=False), "float32"))
        start += len(sample)
    return table, rows.ravel()


def _row_count(dataset: Dataset, augmentation: Augmentation) -> int:
    return len(dataset.train) * augmentation.count + len(dataset.validation) + len(dataset.test)


def _batches(dataset: Dataset, augmentation: Augmentation) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """All samples with their views, up to `BATCH_SIZE` at once."""
    unchanged = np.concatenate([dataset.validation.samples, dataset.test.samples])
    pairs = [(unchanged, augmentation.identity)]
    pairs += [(dataset.train.samples, view) for view in range(augmentation.count)]
    for samples, view in pairs:
        for start in range(0, len(samples), BATCH_SIZE):
            part = samples[start : start + BATCH_SIZE]
            yield part, np.full(len(part), view, np.int32)


def _output_layer(network: keras.Model) -> tuple[keras.layers.Layer, Any, list[keras.layers.Layer]]:
    """The last Dense or Conv2D layer, its input, and the layers after it."""
    following: list[keras.layers.Layer] = []
    tensor = network.outputs[0]
    while True:  # back along the nodes of this network: a layer may be part of other models, too
        layer, inputs = producer(tensor)
        if isinstance(layer, layers.Dense | layers.Conv2D):
            return layer, inputs[0], following
        is_copied = isinstance(layer, layers.Layer) and not layer.weights  # not an operation of keras.ops
        if not (is_copied or is_softmax(layer)) or len(inputs) != 1:
            break
        following = following if is_softmax(layer) else [layer, *following]
        tensor = inputs[0]
    raise ConfigError(
        f"network {network.name!r} doesn't end in a Dense or Conv2D layer for its classes, which a transfer "
        "replaces: use a functional or Sequential model that does."
    )


def _layer_like(
    layer: keras.layers.Layer, units: int, seeds: Iterator[int], name: str, hidden: bool = False
) -> keras.layers.Layer:
    """A new layer of the same type without activation: Dense; or a convolution with the same windows, a
    hidden one with 1x1 windows."""
    settings = {
        "kernel_initializer": HeNormal(seed=next(seeds)),
        "name": name,
        "dtype": layer.dtype_policy,
        "use_bias": layer.use_bias or hidden,
    }
    if isinstance(layer, layers.Dense):
        return layers.Dense(units, **settings)
    if hidden:
        return layers.Conv2D(units, 1, **settings)
    settings |= {"dilation_rate": layer.dilation_rate, "groups": layer.groups}
    return layers.Conv2D(units, layer.kernel_size, layer.strides, layer.padding, **settings)


def _unused(name: str, taken: set[str]) -> str:
    """`name`, with a number where a layer has that name already."""
    return next(free for free in chain([name], (f"{name}_{i}" for i in count(2))) if free not in taken)


def _apply(new: list[keras.layers.Layer], x: Any) -> Any:
    for layer in new:
        x = layer(x)
    return x
