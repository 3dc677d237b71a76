"""Learner: a network and the images that it learns from, as one Keras model."""

import gc
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from kapp.data.augmentation import augment_batch, label_share
from kapp.data.sampling import Augmentation
from kapp.distributed import replicate, shard_batch
from kapp.errors import ConfigError
from kapp.keras_internals import flatten_layers
from kapp.models.copies import averaged_copy
from kapp.models.float32 import float32_copy, is_float32
from kapp.training import memory
from kapp.training.backends import backend
from kapp.training.distillation_losses import cross_entropy


class Batch(NamedTuple):
    """The inputs of a step, complete before any gradient is computed."""

    inputs: Any  # of the network's forward pass: images (n, height, width, channels), 0 to 255
    labels: Any  # int (n,), -1 where there is none; of a mixed image that of its larger part
    sample_weight: Any = None  # float (n,); None: all 1
    teacher_logits: Any = None  # float32 (n, classes); None: no teacher
    partner_labels: Any = None  # int (n,): of the smaller part of a mixed image; None: no image is mixed
    label_share: Any = None  # float (n,), from 0.5 to 1: how much of a mixed image has its label in `labels`


class Learner(keras.Model):
    """Trains a network on labels through `compile` and `fit`, alike on every backend.

    `fit`, `evaluate` and `predict` take batches of indices into the data set (`kapp.data.pipelines`), or
    ordinary batches (images, labels[, sample_weight]). The label of an image without one is -1.

    Args:
        model: images (n, height, width, channels), 0 to 255, to logits (n, classes). It is trained in place:
            save it, not the Learner.
        dataset: a `kapp.data.Dataset`, whose labels and images are copied to the device (the batches of
            a `streamed` one contain their images). None: ordinary batches only.
        augmentation: what the views in index batches mean; `Augmentation()` by default.

    Raises:
        ConfigError: the augmentation changes colors, and the images have none.

    Example:

    >>> import numpy as np
    >>> from kapp import models, training
    >>> network = models.build("8fc-3fc", classes=3, image_shape=(8, 8, 3))
    >>> learner = training.Learner(network)
    >>> learner.compile("adam")
    >>> images, labels = np.zeros((6, 8, 8, 3), "uint8"), np.array([0, 1, 2, 0, 1, 2])
    >>> sorted(learner.fit(images, labels, verbose=0).history)
    ['accuracy', 'loss']
    """

    def __init__(self, model: keras.Model, dataset: Any = None, augmentation: Augmentation | None = None):
        super().__init__(name=f"{model.name}_learner")
        self.network = model
        self.augmentation = augmentation or Augmentation()
        self.averaged: keras.Model | None = None
        self.label_smoothing = self.ema = 0.0
        self.images = self.labels = None
        self.lacks_labels = dataset is not None and dataset.labeled_images < len(dataset.train)
        self._masks_labels = dataset is None or self.lacks_labels
        self.streamed = dataset is not None and dataset.streamed
        if dataset is not None:
            self.augmentation.check_image_shape(dataset.image_shape)
            self.image_shape = dataset.image_shape
            gc.collect()  # an unused Learner is part of a reference cycle, which keeps its images in memory
            # Variables and not constants, so that the images are an argument of the compiled step.
            self.labels = _constant(dataset.labels, "int32", "labels")
            if not self.streamed:
                self.images = _constant(dataset.images, "uint8", "images")
        self.loss_tracker = keras.metrics.Mean(name="loss")
        self.accuracy = keras.metrics.SparseCategoricalAccuracy(name="accuracy")
        self.built = True

    def compile(
        self,
        optimizer: Any = "adam",
        *,
        label_smoothing: float = 0.0,
        ema: float = 0.0,
        run_eagerly: bool = False,
        jit_compile: bool | str = "auto",
    ) -> None:
        """Configure the training; its loss and metrics are the Learner's own.

        Args:
            label_smoothing: the part of a label that is divided among all classes, from 0, below 1.
            ema: momentum of the averaged weights, from 0, below 1. Above 0 a second network, `averaged`, has
                the exponential moving average of all weights of `network` over the steps, the statistics of
                batch normalization included. It is what `evaluate`, `predict` and a call without training
                use. In the first steps the momentum is lower: at most (1 + t) / (10 + t) at step t.
            optimizer, run_eagerly, jit_compile: as for `keras.Model.compile`.

        Raises:
            ConfigError: a layer computes in float16 or the optimizer scales the loss, or a number is out of
                range.
        """
        for name, value in (("label_smoothing", label_smoothing), ("ema", ema)):
            if not 0 <= value < 1:
                raise ConfigError(f"{name} is {value}: it must be from 0, and below 1.")
        self.label_smoothing, self.ema = label_smoothing, ema
        self.averaged = averaged_copy(self.network) if ema else None
        memory.keep_freed_memory()
        optimizer = keras.optimizers.get(optimizer)
        computes_in_float16 = "float16" in {layer.compute_dtype for layer in flatten_layers(self.network)}
        if computes_in_float16 or isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
            raise ConfigError(
                "a Learner doesn't scale its loss, as float16 needs it: use a network in bfloat16 or float32."
            )
        self._train_step, jit_compile = backend.compile_step(self, run_eagerly, jit_compile)
        super().compile(
            optimizer=optimizer, run_eagerly=run_eagerly, jit_compile=jit_compile, auto_scale_loss=False
        )

    @property
    def metrics(self) -> list[keras.Metric]:
        return [self.loss_tracker, self.accuracy]

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Logits (n, classes) of images or of a batch of indices."""
        return replicate(self.forward_pass(self.network_inputs(inputs), training))

    def network_inputs(self, x: Any) -> Any:
        """The inputs of `forward_pass`: the images `x`, or those of the batch of indices `x`, augmented."""
        if not self.is_index_batch(x):
            return x
        return augment_batch(shard_batch(x), self.augmentation, self.images)

    def forward_pass(self, inputs: Any, training: bool) -> Any:
        """Logits (n, classes)."""
        network = self.network if training else self.scored_network
        return network(inputs, training=training)

    @property
    def scored_network(self) -> keras.Model:
        """What is validated, saved and tested: `network`, or `averaged` where there is one."""
        return self.network if self.averaged is None else self.averaged

    def update_average(self) -> None:
        """Updates `averaged`, where there is one, after a step."""
        if self.averaged is None:
            return
        steps = ops.cast(self.optimizer.iterations, "float32")
        part = 1 - ops.minimum(self.ema, (1 + steps) / (10 + steps))
        for average, weight in zip(self.averaged.weights, self.network.weights):
            if keras.backend.is_float_dtype(weight.dtype):
                average.assign(average + ops.cast(part, weight.dtype) * (weight - average))
            else:
                average.assign(weight)

    def is_index_batch(self, x: Any) -> bool:
        return self.labels is not None and isinstance(x, dict)

    def preprocess_batch(self, data: Any) -> Batch:
        """The images and labels of a batch of indices, or of an ordinary batch."""
        x, labels, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        if labels is None:
            if not self.is_index_batch(x):
                raise ConfigError("a batch must be (images, labels[, sample_weight]) or indices.")
            labels = ops.take(self.labels, x["sample"], axis=0)
        elif len(labels.shape) == 2 and labels.shape[-1] == 1:
            labels = ops.squeeze(labels, -1)
        elif len(labels.shape) > 1:
            raise ConfigError("labels must be integers (n,): take the argmax of one-hot ones.")
        batch = Batch(self.network_inputs(x), labels, sample_weight)
        is_mixed = self.is_index_batch(x) and "partner_sample" in x
        return self._with_partners(batch, x) if is_mixed else batch

    def _with_partners(self, batch: Batch, x: Any) -> Batch:
        """`batch` with both labels of each mixed image, that of the larger part first."""
        partner_labels = ops.take(self.labels, x["partner_sample"], axis=0)
        share = label_share(x["params"], *self.image_shape[:2])
        is_larger = share >= 0.5
        return batch._replace(
            labels=ops.where(is_larger, batch.labels, partner_labels),
            partner_labels=ops.where(is_larger, partner_labels, batch.labels),
            label_share=ops.maximum(share, 1 - share),
        )

    def per_sample_loss(self, batch: Batch, logits: Any) -> Any:
        """The loss of each sample, (n,)."""
        return self.label_loss(batch, logits)

    def label_loss(self, batch: Batch, logits: Any) -> Any:
        """The cross-entropy of each sample, (n,), 0 without a label; of a mixed image the mean of its two
        labels', by share."""
        loss = self._cross_entropy(batch.labels, logits)
        if batch.partner_labels is None:
            return loss
        other = self._cross_entropy(batch.partner_labels, logits)
        return batch.label_share * loss + (1 - batch.label_share) * other

    def _cross_entropy(self, labels: Any, logits: Any) -> Any:
        if not self._masks_labels:
            return cross_entropy(labels, logits, self.label_smoothing)
        loss = cross_entropy(ops.maximum(labels, 0), logits, self.label_smoothing)
        return ops.where(labels >= 0, loss, 0.0)

    def batch_loss(self, batch: Batch, training: bool) -> Any:
        """The mean loss of the samples plus the network's own losses (regularizers, `add_loss`), a scalar;
        also updates the metrics."""
        logits = self.forward_pass(batch.inputs, training)
        losses = self.per_sample_loss(batch, logits)
        if batch.sample_weight is not None:
            losses = losses * ops.cast(batch.sample_weight, losses.dtype)
        loss = ops.mean(losses)
        network = self.network if training else self.scored_network  # that of the forward pass
        for own in network.losses:
            loss = loss + ops.cast(own, loss.dtype)
        self.update_metrics(batch, ops.stop_gradient(logits), ops.stop_gradient(loss))
        return loss

    def update_metrics(self, batch: Batch, logits: Any, loss: Any) -> None:
        self.loss_tracker.update_state(loss, sample_weight=ops.shape(logits)[0])
        weight = batch.sample_weight
        if self._masks_labels:
            is_labeled = ops.cast(batch.labels >= 0, "float32")
            weight = is_labeled if weight is None else is_labeled * ops.cast(weight, "float32")
        # In bfloat16 Keras would compare rounded labels: 257 and 256 are equal there.
        self.accuracy.update_state(batch.labels, ops.cast(logits, "float32"), sample_weight=weight)

    def in_float32(self) -> "Learner":
        """A Learner to predict with in float32: of a copy of the scored network, on the same images. This one
        where the network computes in float32 already."""
        if is_float32(self.network):
            return self
        copy = Learner(float32_copy(self.scored_network), augmentation=self.augmentation)
        copy.images, copy.labels, copy.streamed = self.images, self.labels, self.streamed
        copy.compile()
        return copy

    def sync_variables(self) -> None:
        """Write the current values to the variables, for callbacks between two steps of `fit`."""
        backend.sync_variables(self)

    def train_step(self, *state_and_data: Any) -> Any:
        return self._train_step(*state_and_data)

    def test_step(self, *state_and_data: Any) -> Any:
        return backend.test_step(self, *state_and_data)

    def fit_callbacks(
        self,
        *,
        samples: np.ndarray,
        batch_size: int,
        seed: int,
        steps: int,
        eval_samples: np.ndarray | None = None,
    ) -> list[keras.callbacks.Callback]:
        """The callbacks that `fit` needs on batches of indices; a Learner needs none.

        Args:
            samples, batch_size, seed: as for `kapp.data.pipelines.train_batches`.
            steps: `steps_per_epoch` of `fit`.
            eval_samples: the samples of `validation_data`, where there is any.
        """
        return []


def _constant(array: np.ndarray, dtype: str, name: str) -> keras.Variable:
    return keras.Variable(np.asarray(array), dtype=dtype, trainable=False, name=name)
