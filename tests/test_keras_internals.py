"""Each use of a private Keras interface: a failure names the function of kapp.keras_internals to repair."""

import doctest

import keras
import numpy as np
import pytest
from keras import layers

from kapp import keras_internals
from kapp.layers.batch_normalization import BatchNormalization
from kapp.layers.convolution import Conv2D
from kapp.layers.dropout import Dropout
from kapp.layers.max_pooling import MaxPooling2D
from kapp.layers.relu import ReLU
from kapp.models.initializers import HeNormal

OURS = [BatchNormalization, Conv2D, Dropout, HeNormal, MaxPooling2D, ReLU]


def broken(name: str) -> str:
    return f"Keras {keras.__version__} changed an interface that keras_internals.{name} uses"


@pytest.fixture
def nested():
    """A model with a Sequential model inside, whose Dense layer is also part of another model."""
    inputs = keras.Input((8, 8, 3))
    dense = layers.Dense(3, name="dense")
    inner = keras.Sequential([keras.Input((8, 8, 3)), layers.Flatten(name="flatten"), dense], name="inner")
    other = keras.Input((192,))
    keras.Model(other, dense(other))
    return keras.Model(inputs, layers.Softmax(name="softmax")(inner(inputs)), name="outer")


@pytest.mark.parametrize("derived", OURS, ids=lambda derived: derived.__name__)
def test_saved_as_keras_makes_a_file_name_the_class_of_keras(derived):
    base = getattr(keras.initializers if derived is HeNormal else layers, derived.__name__)
    assert issubclass(derived, base)
    arguments = {Conv2D: [2, 3], Dropout: [0.5]}.get(derived, [])
    saved = keras.saving.serialize_keras_object(derived(*arguments))
    assert type(keras.saving.deserialize_keras_object(saved)) is base, broken("saved_as_keras")


@pytest.mark.parametrize("derived", OURS, ids=lambda derived: derived.__name__)
def test_the_examples_of_these_classes_run(derived):
    """doctest skips them: by `__module__` they are Keras's."""
    names = {"keras": keras, "ops": keras.ops, **{each.__name__: each for each in OURS}}
    (examples,) = doctest.DocTestFinder(recurse=False).find(derived, globs=names)
    assert examples.examples
    assert doctest.DocTestRunner().run(examples).failed == 0


def test_flatten_layers_lists_nested_layers(nested):
    names = {layer.name for layer in keras_internals.flatten_layers(nested)}
    assert names >= {"outer", "inner", "flatten", "dense", "softmax"}, broken("flatten_layers")


def test_nodes_are_the_calls_of_one_model(nested):
    inner = nested.get_layer("inner")
    for model, expected in ((nested, ["inner", "softmax"]), (inner, ["flatten", "dense"])):
        calls = keras_internals.nodes(model)
        assert calls is not None, broken("nodes")
        found = {call.operation.name: call.outputs[0].shape for call in calls}
        assert {*expected} <= found.keys(), broken("nodes")
        assert found[expected[-1]] == (None, 3), broken("nodes")
        assert len(calls) == 3, broken("nodes")  # the InputLayer too, and no call of the other model


@pytest.mark.parametrize("model", [keras.Model(), keras.Sequential([layers.Dense(1)])])
def test_other_models_have_no_nodes(model):
    assert keras_internals.nodes(model) is None, broken("nodes")


def test_producer_is_the_layer_of_a_tensor_and_its_inputs(nested):
    layer, (inputs,) = keras_internals.producer(nested.outputs[0])
    assert layer.name == "softmax", broken("producer")
    assert keras_internals.producer(inputs)[0].name == "inner", broken("producer")


@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_optimizer_class_is_the_class_that_keras_creates(name):
    derived = type(name, (keras_internals.optimizer_class(name),), {})
    created = type(getattr(keras.optimizers, name)(0.1))
    assert issubclass(derived, created), broken("optimizer_class")


def test_adam_moments_are_those_of_each_variable():
    first, second = (keras.Variable(np.zeros(shape), name=name) for shape, name in ((2, "a"), (3, "b")))
    optimizer = keras.optimizers.Adam(beta_1=0.5, beta_2=0.75)
    optimizer.build([first, second])
    assert keras_internals.optimized_variables(optimizer) == [first, second], broken("optimized_variables")
    optimizer.apply([keras.ops.ones((2,)), keras.ops.full((3,), 2.0)])
    moments = keras_internals.adam_moments(optimizer, [second, first])
    for moment, expected in zip((*moments[0], *moments[1]), ([1.0] * 3, [0.5] * 2, [1.0] * 3, [0.25] * 2)):
        found = keras.ops.convert_to_numpy(moment)
        np.testing.assert_allclose(found, expected, rtol=1e-5, err_msg=broken("adam_moments"))


def test_sgd_momentum_is_that_of_each_variable():
    first, second = (keras.Variable(np.zeros(shape), name=name) for shape, name in ((2, "a"), (3, "b")))
    optimizer = keras.optimizers.SGD(0.5, momentum=0.9)
    optimizer.build([first, second])
    optimizer.apply([keras.ops.ones((2,)), keras.ops.full((3,), 2.0)])
    for variable, expected in ((first, [-0.5] * 2), (second, [-1.0] * 3)):
        found = keras.ops.convert_to_numpy(keras_internals.sgd_momentum(optimizer, variable))
        np.testing.assert_allclose(found, expected, err_msg=broken("sgd_momentum"))


def test_is_softmax_finds_layers_and_operations():
    x = keras.Input((3,))
    for softmax, expected in (
        (keras.ops.softmax, True),
        (layers.Softmax(), True),
        (layers.Activation("softmax"), True),
        (layers.Softmax(axis=0), False),
        (layers.Activation("relu"), False),
        (keras.ops.relu, False),
    ):
        operation, _ = keras_internals.producer(softmax(x))
        assert keras_internals.is_softmax(operation) is expected, broken("is_softmax")


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="kapp.training.optimizers overrides it there")
def test_keras_updates_through_the_method_that_adam_overrides():
    class Adam(keras_internals.optimizer_class("Adam")):
        def _parallel_update_step(self, grads, variables, learning_rate):
            assert (len(grads), variables) == (1, [weight])
            weight.assign([float(learning_rate)])

    weight = keras.Variable([0.0])
    optimizer = Adam(0.5)
    optimizer.apply([keras.ops.ones((1,))], [weight])
    assert weight.numpy() == [0.5], (
        "Keras no longer calls the method that kapp.training.optimizers.Adam overrides"
    )
