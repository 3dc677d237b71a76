"""Transfer: what a trained network sees, frozen, and a new head on it."""

from collections.abc import Iterator
from itertools import chain, count
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import layers, ops

from kapp.data import Dataset, Views
from kapp.data.views import seen
from kapp.errors import WrongValue, unknown
from kapp.models.layers import he_normal, seeds_of
from kapp.training.learner import Learner
from kapp.training.parallel import shared

HEADS = ("linear", "mlp")
LARGEST_TABLE = 2**30  # bytes
BULK = 500  # images at once


class Transferred(NamedTuple):
    """A network in two parts, and as one; they share their layers."""

    body: keras.Model  # images (n, height, width, channels), 0 to 255, to features
    head: keras.Model  # features to logits (n, classes)
    whole: keras.Model


def with_new_head(network: keras.Model, classes: int, head: str = "linear", seed: int = 0) -> Transferred:
    """`network` with a new layer for `classes` in the place of its last Dense or Conv2D layer; a softmax
    after it is left out, all else that follows it (an average, say) stays.

    Args:
        network: a functional or Sequential model of images; its layers are used, not copied.
        head: linear: that layer alone (paper A, section 2.3: a 1x1 convolution); mlp: a hidden layer of the
            same kind before it, as wide as the features, with ReLU (section 4.3: "add more power layer").
        seed: of the new weights.

    Raises:
        WrongValue: no such layer is found at the network's end, or an unknown head.
    """
    if head not in HEADS:
        raise unknown("head", head, HEADS)
    old, features, following = _last_weighted(network)
    seeds = seeds_of(seed)
    taken = {layer.name for layer in network.layers if layer is not old}
    new = [_like(old, classes, seeds, _free("logits", taken))]
    if head == "mlp":
        hidden = _like(old, features.shape[-1], seeds, _free("head", taken), hidden=True)
        new = [hidden, layers.ReLU(name=_free("head_relu", taken)), *new]
    new += [layer.__class__.from_config(layer.get_config()) for layer in following]
    body = keras.Model(network.inputs[0], features, name="features")
    seen = keras.Input(features.shape[1:], dtype=features.dtype, name="seen")
    return Transferred(
        body,
        keras.Model(seen, _through(new, seen), name="head"),
        keras.Model(network.inputs[0], _through(new, features), name=network.name),
    )


def set_trainable(network: keras.Model, trainable: bool) -> None:
    """Freeze every layer of `network`, or let all of them learn; to be followed by `compile`."""
    # Layer by layer: on TensorFlow, a model's own `trainable = True` reaches none where it said so before.
    for layer in network._flatten_layers():
        layer.trainable = trainable


class HeadLearner(Learner):
    """Trains the head of `parts` on frozen features: the body's answers in inference mode, its batch
    normalisation and dropout included.

    Args:
        parts: whose body must not be trainable.
        dataset, views: as for `Learner`.
        tabled: compute the features of every view of every image at once, before the first step, instead of
            those of a batch in each step. Equal, and faster where views are seen more than once.
    """

    def __init__(
        self, parts: Transferred, dataset: Any = None, views: Views | None = None, tabled: bool = False
    ):
        super().__init__(parts.whole, dataset, views)
        self.parts = parts
        self.table = self.rows = None
        if tabled:
            table, rows = features(parts.body, dataset, self.views)
            self.table = keras.Variable(table, trainable=False, name="features")
            self.rows = keras.Variable(rows, dtype="int32", trainable=False, name="rows")

    def given(self, x: Any) -> Any:
        if self.table is None or not self.is_indices(x):
            return self.parts.body(super().given(x), training=False)
        batch = shared(x)
        row = ops.take(self.rows, batch["sample"] * self.views.count + batch["view"], axis=0)
        return ops.take(self.table, row, axis=0)

    def answer(self, given: Any, training: bool) -> Any:
        return self.parts.head(given, training=training)


def pays(parts: Transferred, dataset: Dataset, views: Views, epochs: int) -> bool:
    """Whether a table of features is less work than the body's answers in `epochs`, and not too large."""
    size = int(np.prod(parts.body.output_shape[1:])) * 4
    return views.count <= epochs and size * _seen(dataset, views) <= LARGEST_TABLE


def features(body: keras.Model, dataset: Dataset, views: Views) -> tuple[np.ndarray, np.ndarray]:
    """What `body` makes of `dataset`: every view of the training images, and the others as they are.

    Returns:
        table: float32 (rows, ...): features.
        rows: int32 (images * views,): image i in view v is row rows[i * views + v]; -1 where it isn't there.
    """
    rows = np.full((len(dataset.images), views.count), -1, np.int32)
    table = np.empty((_seen(dataset, views), *body.output_shape[1:]), np.float32)
    start = 0
    for sample, view in _bulks(dataset, views):
        part = np.arange(start, start + len(sample))
        rows[sample, view] = part
        images = seen(ops.convert_to_tensor(dataset.images[sample]), view, views)
        table[part] = ops.convert_to_numpy(ops.cast(body(images, training=False), "float32"))
        start += len(sample)
    return table, rows.ravel()


def _seen(dataset: Dataset, views: Views) -> int:
    return len(dataset.train) * views.count + len(dataset.validation) + len(dataset.test)


def _bulks(dataset: Dataset, views: Views) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Samples and their views, some hundreds at a time."""
    still = np.concatenate([dataset.validation.samples, dataset.test.samples])
    pairs = [(still, views.identity), *((dataset.train.samples, view) for view in range(views.count))]
    for samples, view in pairs:
        for start in range(0, len(samples), BULK):
            part = samples[start : start + BULK]
            yield part, np.full(len(part), view, np.int32)


def _last_weighted(network: keras.Model) -> tuple[keras.layers.Layer, Any, list[keras.layers.Layer]]:
    """The layer that makes the classes, the tensor that it is given, and the layers after it."""
    following: list[keras.layers.Layer] = []
    tensor = network.outputs[0]
    while True:  # back along this network's own nodes: a layer may be part of other models, too
        layer, node, _ = tensor._keras_history
        given = layer._inbound_nodes[node].input_tensors
        if isinstance(layer, layers.Dense | layers.Conv2D):
            return layer, given[0], following
        if layer.weights or len(given) != 1:
            break
        softmax = isinstance(layer, layers.Softmax) or (
            isinstance(layer, layers.Activation) and layer.activation is keras.activations.softmax
        )
        following = following if softmax else [layer, *following]
        tensor = given[0]
    raise WrongValue(
        f"network {network.name!r} doesn't end in a Dense or Conv2D layer for its classes, which a transfer "
        "replaces: give a functional or Sequential model that does."
    )


def _like(
    layer: keras.layers.Layer, units: int, seeds: Iterator[int], name: str, hidden: bool = False
) -> keras.layers.Layer:
    """A new layer of the same kind, without activation: Dense, or a convolution of the same windows, where it
    isn't a hidden one of 1x1."""
    settings = {"kernel_initializer": he_normal(seeds), "name": name, "dtype": layer.dtype_policy}
    if isinstance(layer, layers.Dense):
        return layers.Dense(units, **settings)
    if hidden:
        return layers.Conv2D(units, 1, **settings)
    return layers.Conv2D(units, layer.kernel_size, layer.strides, layer.padding, **settings)


def _free(name: str, taken: set[str]) -> str:
    """`name`, or one like it that no layer has yet."""
    return next(free for free in chain([name], (f"{name}_{i}" for i in count(2))) if free not in taken)


def _through(new: list[keras.layers.Layer], x: Any) -> Any:
    for layer in new:
        x = layer(x)
    return x
