"""All uses of Keras's private interfaces, one function each, with the reason for it.

`tests/test_keras_internals.py` fails with the function's name if a version of Keras changes one of them.
"""

from collections.abc import Sequence
from typing import Any, TypeVar

import keras

Class = TypeVar("Class", bound=type[keras.Layer] | type[keras.Initializer])


def saved_as_keras(derived: Class) -> Class:
    """Decorates a subclass of a Keras layer or initializer of the same name: saved files name Keras's own,
    and load without kapp.

    Reason: Keras writes a class's `__module__` into the file, and has no other way to choose it.

    Example:

    >>> @saved_as_keras
    ... class Dense(keras.layers.Dense):
    ...     pass
    >>> keras.saving.serialize_keras_object(Dense(3))["module"]
    'keras.layers'
    """
    derived.__module__ = "keras.layers" if issubclass(derived, keras.Layer) else "keras.initializers"
    return derived


def flatten_layers(model: keras.Model) -> list[keras.Layer]:
    """Returns `model` and all its layers, those of nested models included.

    Reason: `Model.layers` lists the outermost layers only.
    """
    return model._flatten_layers()


def nodes(model: keras.Model) -> list[Any] | None:
    """Returns the layer calls (`operation`, `outputs`) of a functional or Sequential model, else None.

    Reason: a layer lists its calls in all models, and a Sequential model hides its graph.
    """
    graph = getattr(model, "_functional", model)
    depths = getattr(graph, "_nodes_by_depth", None)
    return None if depths is None else [node for depth in depths.values() for node in depth]


def producer(tensor: keras.KerasTensor) -> tuple[keras.Operation, list[keras.KerasTensor]]:
    """Returns the layer or operation that computes a symbolic tensor, and the inputs of that call.

    Reason: `Layer.input` is undefined if a layer is called more than once, for example in two models.
    """
    operation, index, _ = tensor._keras_history
    return operation, operation._inbound_nodes[index].input_tensors


def is_softmax(operation: keras.Operation) -> bool:
    """Returns whether an operation of a graph is a softmax over the last axis, as a layer or as
    `keras.ops.softmax`.

    Reason: the class of `keras.ops.softmax` in a graph is not public.
    """
    if isinstance(operation, keras.layers.Activation):
        return operation.activation is keras.activations.softmax
    if isinstance(operation, keras.Layer):
        return isinstance(operation, keras.layers.Softmax) and operation.axis == -1
    return type(operation).__name__ == "Softmax" and operation.axis == -1


def optimizer_class(name: str) -> type[keras.Optimizer]:
    """Returns the class of optimizer `name` that this backend uses, to derive from.

    Reason: on PyTorch, `keras.optimizers.Adam(...)` returns another class than `keras.optimizers.Adam`.
    """
    return type(getattr(keras.optimizers, name)(0.0))


def optimized_variables(optimizer: keras.Optimizer) -> list[keras.Variable]:
    """Returns the variables that a built optimizer updates.

    Reason: `Optimizer.variables` lists the optimizer's own state only.
    """
    return optimizer._trainable_variables


def adam_moments(
    optimizer: keras.optimizers.Adam, variables: Sequence[keras.Variable]
) -> tuple[list[keras.Variable], list[keras.Variable]]:
    """Returns Adam's first and second moments of `variables`, in their order.

    Reason: `Optimizer.variables` doesn't say which moment belongs to which variable.
    """
    index = [optimizer._get_variable_index(variable) for variable in variables]
    return [optimizer._momentums[i] for i in index], [optimizer._velocities[i] for i in index]


def sgd_momentum(optimizer: keras.optimizers.SGD, variable: keras.Variable) -> keras.Variable:
    """Returns the momentum of `variable` in a built SGD.

    Reason: `Optimizer.variables` doesn't say which momentum belongs to which variable.
    """
    return optimizer.momentums[optimizer._get_variable_index(variable)]
