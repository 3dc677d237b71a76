import weakref

import keras
import numpy as np
import pytest
from keras import ops

from kapp import data, models
from kapp.data import Augmentation, pipelines
from kapp.errors import ConfigError
from kapp.training import Learner
from tests.training.helpers import IMAGES, LABELS, equal_arrays, predict, small_network, state_of, to_numpy


def compiled(network, optimizer="sgd", dataset=None, **settings) -> Learner:
    learner = Learner(network, dataset, Augmentation(1))
    learner.compile(optimizer, **settings)
    return learner


def cross_entropy(network, weight=1.0) -> float:
    logits = predict(network)
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return float(np.mean(-log_p[np.arange(len(LABELS)), LABELS] * weight))


@pytest.fixture(scope="module")
def dataset(tiny_npz):
    return data.load(f"npz:{tiny_npz}")


def test_evaluate_scores_in_inference_mode_and_changes_nothing():
    network = small_network()
    learner = compiled(network)
    before = state_of(network)
    score = learner.evaluate(IMAGES, LABELS, batch_size=10, verbose=0, return_dict=True)
    assert equal_arrays(before, state_of(network))
    assert score["loss"] == pytest.approx(cross_entropy(network), rel=1e-4)
    assert score["accuracy"] == pytest.approx(np.mean(predict(network).argmax(axis=1) == LABELS), abs=1e-6)


def test_fit_trains_the_callers_network_in_place():
    network = small_network()
    before = state_of(network)
    compiled(network).fit(IMAGES, LABELS, batch_size=10, verbose=0)
    assert not equal_arrays(before, state_of(network))


def test_sample_weights_scale_the_loss():
    network = small_network()
    weight = np.linspace(0, 2, 30).astype("float32")
    score = compiled(network).evaluate(IMAGES, LABELS, sample_weight=weight, batch_size=30, verbose=0)
    assert score[0] == pytest.approx(cross_entropy(network, weight), rel=1e-4)
    assert score[0] != pytest.approx(cross_entropy(network), rel=1e-2)


def test_label_smoothing_divides_a_part_of_each_label_among_all_classes():
    network = small_network()
    logits = predict(network)
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    targets = 0.7 * np.eye(3)[LABELS] + 0.3 / 3
    score = compiled(network, label_smoothing=0.3).evaluate(IMAGES, LABELS, batch_size=30, verbose=0)
    assert score[0] == pytest.approx(-(targets * log_p).sum(axis=1).mean(), rel=1e-4)
    assert score[0] != pytest.approx(cross_entropy(network), rel=1e-3)


class Weights(keras.callbacks.Callback):
    """The network's weights after each step."""

    def on_train_begin(self, logs=None):
        self.steps = []

    def on_train_batch_end(self, batch, logs=None):
        if keras.backend.backend() == "jax":
            self.model.jax_state_sync()
        self.steps.append([to_numpy(weight).copy() for weight in self.model.network.weights])


def test_averaged_weights_are_the_moving_average_of_all_weights():
    """The statistics of batch normalization included. Their momentum is at most (1 + t) / (10 + t)."""
    network = small_network()
    learner, weights = compiled(network, keras.optimizers.SGD(0.1), ema=0.3), Weights()
    expected = [to_numpy(weight).astype(float) for weight in network.weights]
    learner.fit(IMAGES, LABELS, batch_size=5, epochs=2, verbose=0, callbacks=[weights])
    assert len(weights.steps) == 12
    for step, values in enumerate(weights.steps, start=1):
        momentum = min(0.3, (1 + step) / (10 + step))
        expected = [momentum * a + (1 - momentum) * value for a, value in zip(expected, values)]
    names = [weight.name for weight in network.weights]
    assert "moving_variance" in names
    for name, average, value, wanted in zip(
        names, learner.averaged.weights, weights.steps[-1], expected, strict=True
    ):
        np.testing.assert_allclose(to_numpy(average), wanted, rtol=1e-4, atol=1e-5, err_msg=name)
        assert np.abs(to_numpy(average) - value).max() > 1e-5, name


def test_averaged_weights_are_scored_and_do_not_change_the_training():
    one, other = small_network(seed=1), small_network(seed=1)
    plain, averaged = (
        compiled(one, keras.optimizers.SGD(0.1)),
        compiled(other, keras.optimizers.SGD(0.1), ema=0.9),
    )
    for learner in (plain, averaged):
        learner.fit(IMAGES, LABELS, batch_size=10, epochs=2, verbose=0, shuffle=False)
    np.testing.assert_allclose(predict(other), predict(one), atol=1e-5)
    logits = averaged.predict(IMAGES, verbose=0)
    np.testing.assert_allclose(logits, predict(averaged.averaged), atol=1e-5)
    assert np.abs(logits - predict(other)).max() > 1e-3
    score = averaged.evaluate(IMAGES, LABELS, batch_size=30, verbose=0)
    assert score[0] == pytest.approx(cross_entropy(averaged.averaged), rel=1e-4)
    assert [v.path for v in averaged.trainable_variables] == [v.path for v in plain.trainable_variables]


@pytest.mark.parametrize("settings", [{"ema": 1.0}, {"ema": -0.1}, {"label_smoothing": 1.0}])
def test_a_number_out_of_range_is_refused(settings):
    with pytest.raises(ConfigError, match="it must be from 0, and below 1"):
        compiled(small_network(), **settings)


def test_samples_of_weight_0_change_no_weight():
    network = models.build("8fc-3fc", 3, image_shape=(8, 8, 3))
    before = [to_numpy(weight) for weight in network.trainable_weights]
    compiled(network).fit(IMAGES, LABELS, sample_weight=np.zeros(30), batch_size=30, verbose=0)
    assert equal_arrays(before, [to_numpy(weight) for weight in network.trainable_weights])


def test_regularizers_and_added_losses_reach_the_loss_and_the_gradient():
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Rescaling(1 / 255)(keras.layers.Flatten()(inputs))
    x = keras.layers.Dense(4, kernel_regularizer=keras.regularizers.L2(0.5))(x)
    x = keras.layers.ActivityRegularization(l2=0.1)(x)
    network = keras.Model(inputs, keras.layers.Dense(3)(x))
    learner = compiled(network, keras.optimizers.SGD(0.1))
    kernel, bias = (to_numpy(weight).astype(float) for weight in network.layers[3].weights)
    flat = IMAGES.reshape(30, -1) / 255
    hidden = flat @ kernel + bias
    own = 0.5 * (kernel**2).sum() + 0.1 * (hidden**2).sum() / 30
    score = learner.evaluate(IMAGES, LABELS, batch_size=30, verbose=0)
    assert score[0] == pytest.approx(cross_entropy(network) + own, rel=1e-4)

    # With weight 0 on all samples, only the network's own losses move its weights.
    learner.fit(IMAGES, LABELS, sample_weight=np.zeros(30), batch_size=30, verbose=0)
    after = to_numpy(network.layers[3].kernel).astype(float)
    from_l2, from_activity = 1.0 * kernel, 0.2 / 30 * flat.T @ hidden
    for gradient in (from_l2, from_activity):
        assert np.abs(0.1 * gradient).max() > 1e-3  # the comparison below sees each of them
    np.testing.assert_allclose(after, kernel - 0.1 * (from_l2 + from_activity), atol=1e-5)


def test_index_batches_and_images_have_the_same_scores(dataset):
    network = small_network()
    learner = compiled(network, dataset=dataset)
    batches = pipelines.eval_batches(dataset.test.samples, 20, learner.augmentation)
    by_index = learner.evaluate(batches, verbose=0)
    by_image = learner.evaluate(dataset.test.images, dataset.test.labels, batch_size=20, verbose=0)
    np.testing.assert_allclose(by_index, by_image, rtol=1e-5)
    np.testing.assert_allclose(
        learner.predict(batches, verbose=0), network.predict(dataset.test.images, verbose=0), atol=1e-4
    )


def test_training_leaves_the_images_on_the_device_as_they_are(dataset):
    learner = compiled(small_network(), dataset=dataset)
    batches = pipelines.train_batches(dataset.train.samples, 20, seed=0, augmentation=learner.augmentation)
    learner.fit(batches, steps_per_epoch=8, epochs=2, verbose=0)
    np.testing.assert_array_equal(to_numpy(learner.images), dataset.images)


def test_it_learns(dataset):
    learner = compiled(small_network(mean=[120] * 3, std=[60] * 3), keras.optimizers.Adam(0.01), dataset)
    batches = pipelines.train_batches(dataset.train.samples, 20, seed=0, augmentation=learner.augmentation)
    learner.fit(batches, steps_per_epoch=8, epochs=8, verbose=0)
    test = pipelines.eval_batches(dataset.test.samples, 50, learner.augmentation)
    assert learner.evaluate(test, verbose=0)[1] > 0.9


def test_labels_may_be_a_column():
    network = small_network()
    flat = compiled(network).evaluate(IMAGES, LABELS, verbose=0)
    column = compiled(network).evaluate(IMAGES, LABELS[:, None], verbose=0)
    np.testing.assert_allclose(flat, column, rtol=1e-6)


def test_one_hot_labels_are_refused():
    with pytest.raises(ConfigError, match="take the argmax"):
        compiled(small_network(), run_eagerly=True).fit(IMAGES, np.eye(3)[LABELS], verbose=0)


def test_a_network_that_xla_cannot_compile_is_trained():
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.RandomRotation(0.1, seed=0)(inputs)
    network = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Flatten()(x)))
    before = state_of(network)
    compiled(network, keras.optimizers.SGD(1e-4)).fit(IMAGES, LABELS, batch_size=30, verbose=0)
    assert not equal_arrays(before, state_of(network))


def test_a_batch_without_labels_is_refused():
    with pytest.raises(ConfigError, match="must be \\(images, labels"):
        compiled(small_network(), run_eagerly=True).fit(IMAGES, verbose=0)


def test_loss_scaling_is_refused():
    scaled = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD())
    with pytest.raises(ConfigError, match="bfloat16"):
        compiled(small_network(), scaled)


def test_a_network_in_float16_is_refused():
    """Its small gradients would be 0, and it would learn nothing."""
    keras.config.set_dtype_policy("mixed_float16")
    try:
        network = models.build("8fc-3fc", classes=3, image_shape=(4, 4, 3))
    finally:
        keras.config.set_dtype_policy("float32")
    with pytest.raises(ConfigError, match="bfloat16"):
        Learner(network).compile()


def test_an_averaged_network_with_losses_of_its_own_is_validated():
    inputs = keras.Input((4, 4, 3))
    outputs = keras.layers.Dense(3, activity_regularizer="l2")(keras.layers.Flatten()(inputs))
    learner = compiled(keras.Model(inputs, outputs), ema=0.9)
    images = np.random.default_rng(0).random((6, 4, 4, 3), "float32")
    labels = np.array([0, 1, 2, 0, 1, 2])
    history = learner.fit(images, labels, validation_data=(images, labels), verbose=0).history
    logits = ops.convert_to_numpy(learner.averaged(images))
    log_sum = np.log(np.exp(logits).sum(axis=-1))
    expected = np.mean(log_sum - logits[np.arange(6), labels]) + 0.01 * np.sum(logits**2) / 6
    np.testing.assert_allclose(history["val_loss"][0], expected, rtol=1e-4)


def test_an_image_without_a_label_has_no_label_loss_and_no_accuracy():
    network = models.build("8fc-3fc", classes=3, image_shape=(4, 4, 3))
    images = np.random.default_rng(0).integers(0, 256, (6, 4, 4, 3), "uint8")
    labels = ops.convert_to_numpy(network(images)).argmax(axis=-1)
    learner = compiled(network)
    all_labels = learner.evaluate(images[:3], labels[:3], verbose=0, return_dict=True)
    hidden = np.where(np.arange(6) < 3, labels, -1)
    some = learner.evaluate(images, hidden, verbose=0, return_dict=True)
    np.testing.assert_allclose(some["loss"], all_labels["loss"] / 2, rtol=1e-5)
    assert some["accuracy"] == 1


def test_the_accuracy_of_many_classes_in_bfloat16_is_exact():
    """In bfloat16 257 is 256."""
    bias = np.zeros(300, "float32")
    bias[256] = 9
    inputs = keras.Input((4, 4, 3))
    dense = keras.layers.Dense(300, dtype="bfloat16", bias_initializer=keras.initializers.Constant(bias))
    learner = compiled(keras.Model(inputs, dense(keras.layers.Flatten()(inputs))))
    scores = learner.evaluate(
        np.zeros((2, 4, 4, 3), "uint8"), np.array([256, 257]), verbose=0, return_dict=True
    )
    assert scores["accuracy"] == 0.5


def test_the_network_keeps_its_own_dtype_policy():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        network = small_network()
    finally:
        keras.config.set_dtype_policy("float32")
    compiled(network).fit(IMAGES, LABELS, verbose=0)
    assert network.get_layer("conv1").compute_dtype == "bfloat16"
    assert network.get_layer("conv1").kernel.dtype == "float32"
    assert network.output.dtype == "float32"


def test_a_new_learner_first_frees_the_images_of_an_unused_one(dataset):
    learner = compiled(small_network(), dataset=dataset)
    batches = pipelines.train_batches(dataset.train.samples, 5, seed=0, augmentation=Augmentation(1))
    learner.fit(batches, steps_per_epoch=2, shuffle=False, verbose=0)
    images = weakref.ref(learner.images)
    del learner
    Learner(small_network(), dataset)
    assert images() is None
