"""The two phases of a transfer, on the backend of this process."""

import keras
import numpy as np
import pytest
from keras import ops

from kapp import data, models
from kapp.data import Augmentation, pipelines
from kapp.errors import ConfigError
from kapp.models.flops import count_flops
from kapp.training import Learner
from kapp.training.linear_probe import (
    LinearProbe,
    compute_features,
    replace_head,
    set_random_seeds,
    set_trainable,
    should_cache,
)
from tests.training.helpers import predict, to_numpy

SOURCE = "6c-mp-d0.5-8c1x1-10c1x1-gap"  # batch normalization and dropout in the backbone
AUGMENTATION = Augmentation(1)


@pytest.fixture(scope="module")
def dataset(tiny_npz):
    return data.load(f"npz:{tiny_npz}", train_images=60)


def source(notation=SOURCE, **settings) -> keras.Model:
    network = models.build(notation, 10, image_shape=(8, 8, 3), mean=[120] * 3, std=[60] * 3, **settings)
    for layer in network.layers:  # statistics that a frozen layer must use and keep
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.moving_mean.assign(np.linspace(-1, 1, layer.moving_mean.shape[0]))
            layer.moving_variance.assign(np.linspace(0.5, 2, layer.moving_mean.shape[0]))
    return network


def state_of(model) -> dict[str, np.ndarray]:
    return {weight.path: to_numpy(weight).copy() for weight in model.weights}


def fitted(learner, dataset, epochs=3) -> list[float]:
    """The losses of the epochs."""
    learner.compile(keras.optimizers.SGD(0.05, momentum=0.9))
    batches = pipelines.train_batches(dataset.train.samples, 20, seed=0, augmentation=learner.augmentation)
    history = learner.fit(batches, steps_per_epoch=3, epochs=epochs, verbose=0, shuffle=False)
    return history.history["loss"]


@pytest.mark.parametrize(("cache_features", "head"), [(True, "linear"), (False, "mlp")])
def test_the_probe_changes_the_head_alone_and_fine_tuning_every_weight(dataset, cache_features, head):
    split = replace_head(source(), 3, head)
    backbone, old_head = state_of(split.backbone), state_of(split.head)
    set_trainable(split.backbone, False)
    fitted(LinearProbe(split, dataset, AUGMENTATION, cache_features), dataset)
    after = state_of(split.backbone)
    assert all(backbone[name].tobytes() == after[name].tobytes() for name in backbone)
    assert all((old_head[name] != value).any() for name, value in state_of(split.head).items())

    set_trainable(split.network, True)
    before = state_of(split.network)
    fitted(Learner(split.network, dataset, AUGMENTATION), dataset)
    changed = {name: (before[name] != value).any() for name, value in state_of(split.network).items()}
    assert all(changed.values()), changed


def test_a_saved_probe_is_fine_tuned(dataset, tmp_path):
    split = replace_head(source(), 3)
    set_trainable(split.backbone, False)
    fitted(LinearProbe(split, dataset, AUGMENTATION), dataset, epochs=1)
    split.network.save(tmp_path / "probe.keras")
    loaded = keras.models.load_model(tmp_path / "probe.keras")
    images = dataset.test.images
    np.testing.assert_allclose(predict(loaded, images), predict(split.network, images), atol=1e-5)
    set_trainable(loaded, True)
    before = state_of(loaded)
    fitted(Learner(loaded, dataset, AUGMENTATION), dataset, epochs=1)
    assert all((before[name] != value).any() for name, value in state_of(loaded).items())


def test_cached_features_train_the_same_head(dataset):
    losses, heads = [], []
    for cache_features in (True, False):
        split = replace_head(source(seed=1), 3, "mlp", seed=2)
        set_trainable(split.backbone, False)
        losses += [fitted(LinearProbe(split, dataset, AUGMENTATION, cache_features), dataset)]
        heads += [[to_numpy(weight) for weight in split.head.weights]]
    np.testing.assert_allclose(*losses, rtol=1e-4)
    for one, other in zip(*heads):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)


def test_features_are_the_backbones_outputs_in_inference_mode(dataset):
    split = replace_head(source(), 3)
    table, rows = compute_features(split.backbone, dataset, AUGMENTATION)
    assert len(table) == 60 * AUGMENTATION.count + 15 + 50
    sample = dataset.train.samples[7]
    view = AUGMENTATION.crops**2 + 2 * AUGMENTATION.crops + 0  # flipped, dy 2, dx 0
    image = np.pad(dataset.images[sample], ((1, 1), (1, 1), (0, 0)))[2:10, 0:8][:, ::-1]
    expected = predict(split.backbone, image[None])[0]
    np.testing.assert_allclose(table[rows[sample * AUGMENTATION.count + view]], expected, atol=1e-5)
    test_rows = rows[dataset.test.samples * AUGMENTATION.count + AUGMENTATION.identity]
    expected = predict(split.backbone, dataset.test.images)
    np.testing.assert_allclose(table[test_rows], expected, atol=1e-5)
    assert rows[dataset.test.samples[0] * AUGMENTATION.count] == -1  # not augmented


def test_the_probe_predicts_as_the_whole_network(dataset):
    split = replace_head(source(), 3)
    set_trainable(split.backbone, False)
    learner = LinearProbe(split, dataset, AUGMENTATION, cache_features=True)
    fitted(learner, dataset)
    batches = pipelines.eval_batches(dataset.test.samples, 25, AUGMENTATION)
    expected = predict(split.network, dataset.test.images)
    np.testing.assert_allclose(learner.predict(batches, verbose=0), expected, rtol=1e-4, atol=1e-5)


def test_the_new_head_is_like_the_old_one():
    linear = replace_head(models.build("all_cnn_c", width=0.1), 7).network
    published = models.build("all_cnn_c", 7, width=0.1)
    assert [layer.name for layer in linear.layers] == [layer.name for layer in published.layers]
    assert linear.count_params() == published.count_params()
    assert count_flops(linear) == count_flops(published)
    mlp = replace_head(models.build("all_cnn_c", width=0.1), 7, "mlp")
    assert mlp.network.count_params() == published.count_params() + 19 * 19 + 19
    dense = replace_head(models.build("16fc-10fc", image_shape=(8, 8, 3)), 4, "mlp")
    assert [layer.name for layer in dense.head.layers[1:]] == ["head", "head_relu", "logits"]


def test_a_head_without_a_bias_is_replaced_by_one_without():
    linear = replace_head(models.build("airbench", width=0.25), 10).network
    assert linear.count_params() == models.build("airbench", width=0.25).count_params()


def test_a_head_can_be_replaced_again():
    once = replace_head(source(), 5, "mlp").network
    twice = replace_head(once, 4, "mlp").network
    assert twice.output_shape == (None, 4)
    assert len({layer.name for layer in twice.layers}) == len(twice.layers)


def test_any_keras_classifier_is_a_source():
    """Sequential, with its softmax in the last layer or after it."""
    inside = [keras.layers.Conv2D(4, 3), keras.layers.GlobalAveragePooling2D()]
    for last in (
        [keras.layers.Dense(10, activation="softmax")],
        [keras.layers.Dense(10), keras.layers.Softmax()],
        [keras.layers.Dense(10), keras.layers.Activation("softmax")],
    ):
        split = replace_head(keras.Sequential([keras.Input((8, 8, 3)), *inside, *last]), 3)
        assert split.backbone.output_shape == (None, 4)
        kernel, bias = (to_numpy(weight) for weight in split.head.weights)
        images = np.full((2, 8, 8, 3), 9.0, "float32")
        expected = predict(split.backbone, images) @ kernel + bias
        np.testing.assert_allclose(predict(split.network, images), expected, rtol=1e-4, atol=1e-5)


def test_a_softmax_of_keras_ops_is_removed():
    inputs = keras.Input((8, 8, 3))
    logits = keras.layers.Dense(10)(keras.layers.Flatten()(inputs))
    split = replace_head(keras.Model(inputs, keras.ops.softmax(logits)), 3)
    kernel, bias = (to_numpy(weight) for weight in split.head.weights)
    images = np.full((2, 8, 8, 3), 9.0, "float32")
    expected = images.reshape(2, -1) @ kernel + bias
    np.testing.assert_allclose(predict(split.network, images), expected, rtol=1e-4, atol=1e-4)


def test_a_network_without_a_layer_for_classes_is_refused():
    inputs = keras.Input((8, 8, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(inputs)
    for outputs in (pooled, keras.layers.Dense(10)(pooled) * 2.0, keras.ops.softmax(pooled)):
        with pytest.raises(ConfigError, match="doesn't end in a Dense or Conv2D layer"):
            replace_head(keras.Model(inputs, outputs), 3)
    with pytest.raises(ConfigError, match="unknown head 'lienar'. Did you mean 'linear'"):
        replace_head(source(), 3, "lienar")


def test_features_are_cached_where_views_repeat(dataset):
    split = replace_head(source(), 3)
    assert should_cache(split, dataset, Augmentation(0), 2)
    assert not should_cache(split, dataset, Augmentation(4), 161)
    assert should_cache(split, dataset, Augmentation(4), 162)


def test_a_seed_starts_the_random_numbers_of_a_saved_network_anew(tmp_path):
    network = models.build("4c-d0.5-mp-8fc-d0.5-3fc", classes=3, image_shape=(8, 8, 3))
    network.save(tmp_path / "source.keras")

    def outputs(seed):
        loaded = keras.models.load_model(tmp_path / "source.keras")
        set_random_seeds(loaded, seed)
        return ops.convert_to_numpy(loaded(np.full((2, 8, 8, 3), 99, "uint8"), training=True))

    np.testing.assert_array_equal(outputs(1), outputs(1))
    assert (outputs(1) != outputs(2)).any()


def test_features_cannot_be_cached_without_images():
    with pytest.raises(ConfigError, match="`dataset`"):
        LinearProbe(replace_head(source(), 3), cache_features=True)


def test_averaged_weights_are_refused(dataset):
    learner = LinearProbe(replace_head(source(), 3), dataset, AUGMENTATION)
    with pytest.raises(ConfigError, match=r"ema is 0.9: the weights of a linear probe aren't averaged"):
        learner.compile("sgd", ema=0.9)
