"""TeacherEnsemble: one or several trained networks as one teacher."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from kapp.errors import ConfigError
from kapp.keras_internals import is_softmax, nodes, producer
from kapp.models.copies import copy_network
from kapp.models.keras_file import check_classifier, outputs_probabilities

# Smaller probabilities are raised to it before their logarithm is taken, where a softmax can't be removed.
MIN_PROBABILITY = 1e-30
ENSEMBLES = ("logits", "probabilities")


class TeacherEnsemble(keras.Model):
    """Maps images to the teachers' logits (n, classes), in inference mode.

    Args:
        networks: one or several, images to logits (n, classes) or to probabilities. They are copied, and stay
            as they are. A softmax at the end is left out of the copy, see `remove_softmax`. Of other
            probabilities the logarithm is taken.
        ensemble: what is averaged over several, "logits" (Urban et al. 2016) or "probabilities".

    Raises:
        ConfigError: there is no network, one isn't functional, their numbers of classes differ, or `ensemble`
            is unknown.
    """

    def __init__(self, networks: keras.Model | Sequence[keras.Model], ensemble: str = "logits"):
        super().__init__(name="teachers", dtype="float32")  # bfloat16 would round the images
        networks = [networks] if isinstance(networks, keras.Model) else list(networks)
        if not networks:
            raise ConfigError("a Distiller needs at least one teacher.")
        classes = [num_classes(network, "teacher") for network in networks]
        if len(set(classes)) > 1:
            raise ConfigError(f"the teachers have {classes} classes: they must be the same.")
        check_ensemble(ensemble)
        self.num_classes = classes[0]
        copies = [frozen_copy(network) for network in networks]
        self.networks = tuple(remove_softmax(copy) for copy in copies)
        self.probabilistic = tuple(
            network is copy and outputs_probabilities(copy) for network, copy in zip(self.networks, copies)
        )
        self.ensemble = ensemble
        self.built = True

    def call(self, images: Any) -> Any:
        outputs = []
        for network, probabilistic in zip(self.networks, self.probabilistic):
            output = ops.cast(network(images, training=False), "float32")
            # The logarithms of probabilities are logits of the same probabilities.
            outputs.append(ops.log(ops.maximum(output, MIN_PROBABILITY)) if probabilistic else output)
        if len(outputs) == 1:
            return outputs[0]
        if self.ensemble == "logits":
            return ops.mean(ops.stack(outputs), axis=0)
        # The logarithm of the mean probability. No probability underflows on the way.
        log_p = ops.log_softmax(ops.stack(outputs))
        return ops.logsumexp(log_p, axis=0) - ops.log(float(len(outputs)))

    def training_data(self, dataset: Any, augmentation: Any) -> tuple[Any, Any]:
        """Returns `dataset` and `augmentation` as they are: live teachers accept any."""
        return dataset, augmentation

    def logits(self, x: Any, images: Any) -> Any:
        """Logits (n, classes) for the batch `x`, whose augmented images are `images`."""
        return self(images)

    def fit_callbacks(self, **settings: Any) -> list[keras.callbacks.Callback]:
        """No callbacks: live teachers need none in `fit`."""
        return []


def check_ensemble(ensemble: str) -> None:
    """Refuse an unknown way to average teachers.

    Raises:
        ConfigError: `ensemble` is none of `ENSEMBLES`.
    """
    if ensemble not in ENSEMBLES:
        raise ConfigError(f"ensemble is {ensemble!r}: {' or '.join(ENSEMBLES)}.")


def num_classes(network: keras.Model, role: str) -> int:
    """The number of classes that `network` predicts.

    Args:
        role: the word for `network` in messages.

    Raises:
        ConfigError: as `check_classifier`.
    """
    check_classifier(network, f"{role} {network.name}")
    return network.output_shape[-1]


def remove_softmax(network: keras.Model) -> keras.Model:
    """Returns `network` up to the logits before its last softmax, which may be that of a nested model.

    Logits from probabilities would have lost what the softmax rounds to 0. `network` is returned as it is
    where it doesn't end in the softmax of an `Activation`, a `Softmax`, a `Dense` layer or
    `keras.ops.softmax`.

    Args:
        network: functional or Sequential; the result shares its layers.
    """
    logits = _before_softmax(network.outputs[0])
    if logits is None:
        return network
    model = keras.Model(network.inputs, logits, name=network.name)
    model.trainable = network.trainable  # of all its layers
    return model


def _before_softmax(output: keras.KerasTensor) -> keras.KerasTensor | None:
    """The logits of which `output` is the softmax; None where there are none."""
    operation, inputs = producer(output)
    is_subclassed = isinstance(operation, keras.Model) and nodes(operation) is None
    if len(inputs) != 1 or is_subclassed:
        return None
    if isinstance(operation, keras.Model):
        nested = remove_softmax(operation)
        return None if nested is operation else nested(inputs[0])
    if is_softmax(operation):
        return inputs[0]
    if type(operation) is keras.layers.Dense and operation.activation is keras.activations.softmax:
        linear = keras.layers.Dense.from_config(
            {**operation.get_config(), "activation": "linear", "name": f"{operation.name}_logits"}
        )
        logits = linear(inputs[0])
        linear.set_weights(operation.get_weights())
        return logits
    return None


def frozen_copy(teacher: keras.Model) -> keras.Model:
    """A copy that no optimizer changes, so that the caller's own model is neither frozen nor kept in
    memory."""
    copy = copy_network(teacher)
    copy.trainable = False
    return copy
