"""The Learner: a network, the images it learns from, and its training step."""

import gc
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from kapp.data.epochs import Views
from kapp.data.views import seen, show
from kapp.errors import WrongValue
from kapp.training import memory, steps
from kapp.training.objectives import cross_entropy
from kapp.training.parallel import shared, whole


class Batch(NamedTuple):
    """What a step needs to know, ready before any gradient is taken."""

    given: Any  # what the network is given: images (n, height, width, channels), 0 to 255
    labels: Any  # int (n,)
    sample_weight: Any = None  # float (n,), or None: all 1
    teacher_logits: Any = None  # float (n, classes), or None: no teacher


class Learner(keras.Model):
    """Trains `network` on labels, through `compile` and `fit`, the same on every backend.

    `fit`, `evaluate` and `predict` take batches of indices into the resident images
    ({"sample": (n,), "view": (n,)}, see `kapp.data.feeds`), with the images in them ("image") where the data
    set is streamed, or ordinary batches (images, labels[, sample_weight]) of the caller's own.

    Args:
        network: images (n, height, width, channels), 0 to 255, to logits (n, classes). It is trained
            in place and stays the caller's: save it, not the Learner.
        dataset: whose `labels` and, unless it is `streamed`, `images` (uint8) become resident where the
            compute is; None for ordinary batches only.
        views: what the view numbers in index batches mean.
    """

    def __init__(self, network: keras.Model, dataset: Any = None, views: Views | None = None):
        super().__init__(name=f"{network.name}_learner")
        self.network = network
        self.views = views or Views()
        self.images = self.labels = None
        self.streamed = dataset is not None and dataset.streamed
        if dataset is not None:
            gc.collect()  # a Learner that is done with is part of a cycle, and holds its images until then
            # Variables and not constants, so that the images are a compiled step's argument.
            self.labels = _resident(dataset.labels, "int32", "labels")
            if not self.streamed:
                self.images = _resident(dataset.images, "uint8", "images")
        self.loss_tracker = keras.metrics.Mean(name="loss")
        self.accuracy = keras.metrics.SparseCategoricalAccuracy(name="accuracy")
        self.built = True

    def compile(
        self, optimizer: Any = "adam", *, run_eagerly: bool = False, jit_compile: bool | str = "auto"
    ) -> None:
        """Args:
            optimizer, run_eagerly, jit_compile: as for `keras.Model.compile`. The loss and the metrics are
                the Learner's own.

        Raises:
            WrongValue: a loss-scaling optimiser (bfloat16 needs none, and float16 isn't supported).
        """
        memory.keep_freed()
        optimizer = keras.optimizers.get(optimizer)
        if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
            raise WrongValue("a Learner doesn't scale its loss: use bfloat16, which needs no scaling.")
        jit_compile = steps.compilation(self, run_eagerly, jit_compile)
        super().compile(
            optimizer=optimizer, run_eagerly=run_eagerly, jit_compile=jit_compile, auto_scale_loss=False
        )

    @property
    def metrics(self) -> list[keras.Metric]:
        return [self.loss_tracker, self.accuracy]

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Logits (n, classes) of images, or of a batch of indices."""
        return whole(self.answer(self.given(inputs), training))

    def given(self, x: Any) -> Any:
        """What the network is given of images, or of a batch of indices, which become images here."""
        if not self.is_indices(x):
            return x
        batch = shared(x)
        if self.streamed:
            return seen(batch["image"], batch["view"], self.views)
        return show(self.images, batch["sample"], batch["view"], self.views)

    def answer(self, given: Any, training: bool) -> Any:
        """Logits (n, classes)."""
        return self.network(given, training=training)

    def is_indices(self, x: Any) -> bool:
        return self.labels is not None and isinstance(x, dict)

    def prepare(self, data: Any) -> Batch:
        """Indices become images here, once; an ordinary batch stays as it is."""
        x, labels, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        if labels is None:
            if not self.is_indices(x):
                raise WrongValue("a batch must be (images, labels[, sample_weight]) or hold indices.")
            labels = ops.take(self.labels, x["sample"], axis=0)
        elif len(labels.shape) == 2 and labels.shape[-1] == 1:
            labels = ops.squeeze(labels, -1)
        elif len(labels.shape) > 1:
            raise WrongValue("labels must be integers (n,): take the argmax of one-hot ones.")
        return Batch(self.given(x), labels, sample_weight)

    def sample_losses(self, batch: Batch, logits: Any) -> Any:
        """What each sample costs, (n,)."""
        return cross_entropy(batch.labels, logits)

    def batch_loss(self, batch: Batch, training: bool) -> Any:
        """The loss of `batch`, a scalar: the samples' mean and the network's own (regularisers, `add_loss`).
        Records the metrics on the way."""
        logits = self.answer(batch.given, training)
        losses = self.sample_losses(batch, logits)
        if batch.sample_weight is not None:
            losses = losses * ops.cast(batch.sample_weight, losses.dtype)
        loss = ops.mean(losses)
        for own in self.network.losses:
            loss = loss + ops.cast(own, loss.dtype)
        self.record(batch, ops.stop_gradient(logits), ops.stop_gradient(loss))
        return loss

    def record(self, batch: Batch, logits: Any, loss: Any) -> None:
        """Update the metrics."""
        self.loss_tracker.update_state(loss, sample_weight=ops.shape(logits)[0])
        self.accuracy.update_state(batch.labels, logits, sample_weight=batch.sample_weight)

    def train_step(self, *state_and_data: Any) -> Any:
        return steps.train(self, *state_and_data)

    def test_step(self, *state_and_data: Any) -> Any:
        return steps.test(self, *state_and_data)


def _resident(array: np.ndarray, dtype: str, name: str) -> keras.Variable:
    return keras.Variable(np.asarray(array), dtype=dtype, trainable=False, name=name)
