"""Teachers: trained networks that answer as one."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from kapp.errors import WrongValue
from kapp.models.saved import answers_in_probabilities

SMALLEST = 1e-7  # probability of which a logarithm is taken
ENSEMBLES = ("logits", "probabilities")


class Teachers(keras.Model):
    """Images to the teachers' answer, logits (n, classes), in inference mode.

    Args:
        networks: one or several, images to logits (n, classes) or to probabilities. They are copied: the
            caller's stay as they are.
        ensemble: what is averaged over several, "logits" (Urban et al. 2016) or "probabilities".

    Raises:
        WrongValue: none, one that isn't functional, different numbers of classes, an unknown `ensemble`.
    """

    def __init__(self, networks: keras.Model | Sequence[keras.Model], ensemble: str = "logits"):
        super().__init__(name="teachers", dtype="float32")  # images are not to be rounded on the way
        networks = [networks] if isinstance(networks, keras.Model) else list(networks)
        if not networks:
            raise WrongValue("a Distiller needs at least one teacher.")
        known = [classes(network, "teacher") for network in networks]
        if len(set(known)) > 1:
            raise WrongValue(f"the teachers know {known} classes: they must be the same.")
        check_ensemble(ensemble)
        self.classes = known[0]
        self.networks = tuple(_frozen_copy(network) for network in networks)
        self.probabilistic = tuple(answers_in_probabilities(network) for network in networks)
        self.ensemble = ensemble
        self.built = True

    def call(self, images: Any) -> Any:
        answers = []
        for network, probabilistic in zip(self.networks, self.probabilistic):
            answer = ops.cast(network(images, training=False), "float32")
            # The logarithms of probabilities are logits of the same probabilities.
            answers.append(ops.log(ops.maximum(answer, SMALLEST)) if probabilistic else answer)
        if len(answers) == 1:
            return answers[0]
        if self.ensemble == "logits":
            return ops.mean(ops.stack(answers), axis=0)
        # The mean of the log-probabilities' exponentials, taken in logarithms: no underflow.
        log_p = ops.log_softmax(ops.stack(answers))
        return ops.logsumexp(log_p, axis=0) - ops.log(float(len(answers)))


def check_ensemble(ensemble: str) -> None:
    """Refuse an unknown one.

    Raises:
        WrongValue: so it is.
    """
    if ensemble not in ENSEMBLES:
        raise WrongValue(f"ensemble is {ensemble!r}: {' or '.join(ENSEMBLES)}.")


def classes(network: keras.Model, role: str) -> int:
    """How many classes `network` knows.

    Args:
        role: what messages call it.

    Raises:
        WrongValue: it isn't functional, or doesn't give (n, classes).
    """
    shape = getattr(network, "output_shape", None) if network.built else None
    if not (isinstance(network, keras.Model) and isinstance(shape, tuple) and len(shape) == 2):
        raise WrongValue(
            f"{role} {network.name!r} must be a functional model, or a Sequential one with an Input, "
            "that maps images to (n, classes)."
        )
    return shape[-1]


def _frozen_copy(teacher: keras.Model) -> keras.Model:
    """A copy to teach with, its weights out of the optimiser's reach, so that the caller's own model is
    neither frozen nor held."""
    copy = keras.models.clone_model(teacher)
    copy.set_weights(teacher.get_weights())
    for layer in copy._flatten_layers():
        if hasattr(layer, "finalize_state"):  # an adapted Normalization computes with what it derives here
            layer.finalize_state()
    copy.trainable = False
    return copy
