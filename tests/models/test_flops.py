import keras
from keras import layers

from kapp import models
from kapp.models.flops import count_flops


def test_a_multiplication_and_an_addition_count_as_two():
    # 32x32x3 -> 4 filters of 3x3x3, pooled to 16x16x4 -> 10
    assert count_flops(models.build("4c-mp-10fc")) == 2 * (32 * 32 * 4 * 27 + 16 * 16 * 4 * 10)


def test_a_dense_layer_is_applied_at_each_place_of_a_map():
    maps = keras.Sequential([keras.Input((8, 7, 3)), layers.Dense(4)])
    assert count_flops(maps) == 2 * 8 * 7 * 3 * 4
    assert count_flops(keras.Sequential([keras.Input((None, 7, 3)), layers.Dense(4)])) is None


def test_flops_of_nested_models_and_operations():
    images = keras.Input((8, 8, 3))
    augment = keras.Sequential([keras.Input((8, 8, 3)), layers.RandomFlip()])
    inner = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(4, 3), layers.Flatten(), layers.Dense(3)])
    outer = keras.Model(images, inner(augment(images / 255.0) - 0.5))
    assert count_flops(inner) == count_flops(outer) == 2 * (3 * 3 * 3 * 4 * 6 * 6 + 6 * 6 * 4 * 3)


def test_a_model_with_other_matrix_products_is_not_counted():
    inputs = keras.Input((8, 8, 3))
    inner = keras.Model(inputs, layers.Dense(3)(layers.Flatten()(layers.DepthwiseConv2D(3)(inputs))))
    assert count_flops(inner) is None
    assert count_flops(keras.Model(inputs, layers.Softmax()(inner(inputs)))) is None
    assert count_flops(keras.Sequential([layers.Dense(1)])) is None


def test_flops_of_images_of_any_size_are_unknown():
    assert count_flops(keras.Sequential([keras.Input((None, None, 3)), layers.Conv2D(4, 3)])) is None
