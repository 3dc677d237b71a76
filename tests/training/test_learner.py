import weakref

import keras
import numpy as np
import pytest

from kapp import data, models
from kapp.data import Views, feeds
from kapp.errors import WrongValue
from kapp.runs import Run
from kapp.training import Learner
from kapp.training.fit import finish, fit

IMAGES = np.random.default_rng(0).integers(0, 256, (30, 8, 8, 3)).astype(np.uint8)
LABELS = (np.arange(30) % 3).astype(np.int32)


def network(**settings) -> keras.Model:
    return models.build("6c-mp-d0.5-8fc-3fc", 3, image_shape=(8, 8, 3), **settings)


def compiled(network, optimizer="sgd", dataset=None, **settings) -> Learner:
    learner = Learner(network, dataset, Views(1))
    learner.compile(optimizer, **settings)
    return learner


def state_of(network) -> list[np.ndarray]:
    return [keras.ops.convert_to_numpy(variable) for variable in network.variables]


def same(one, other) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other))


def plain_loss(network, images, labels, weight=None) -> float:
    logits = keras.ops.convert_to_numpy(network(images, training=False)).astype(float)
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    each = -log_p[np.arange(len(labels)), labels]
    return float(np.mean(each if weight is None else each * weight))


@pytest.fixture(scope="module")
def dataset(tiny_npz):
    return data.load(f"npz:{tiny_npz}")


def test_evaluate_scores_in_inference_mode_and_changes_nothing():
    net = network()
    learner = compiled(net)
    before = state_of(net)
    score = learner.evaluate(IMAGES, LABELS, batch_size=10, verbose=0, return_dict=True)
    assert same(before, state_of(net))
    assert score["loss"] == pytest.approx(plain_loss(net, IMAGES, LABELS), rel=1e-4)
    predicted = keras.ops.convert_to_numpy(net(IMAGES, training=False)).argmax(axis=1)
    assert score["accuracy"] == pytest.approx(np.mean(predicted == LABELS), abs=1e-6)


def test_training_does_change_the_network_that_was_given():
    net = network()
    before = state_of(net)
    compiled(net).fit(IMAGES, LABELS, batch_size=10, verbose=0)
    assert not same(before, state_of(net))


def test_sample_weights_reach_the_loss():
    net = network()
    weight = np.linspace(0, 2, 30).astype("float32")
    score = compiled(net).evaluate(IMAGES, LABELS, sample_weight=weight, batch_size=30, verbose=0)
    assert score[0] == pytest.approx(plain_loss(net, IMAGES, LABELS, weight), rel=1e-4)
    assert score[0] != pytest.approx(plain_loss(net, IMAGES, LABELS), rel=1e-2)


def test_samples_of_weight_0_teach_nothing():
    net = models.build("8fc-3fc", 3, image_shape=(8, 8, 3))
    before = [keras.ops.convert_to_numpy(w) for w in net.trainable_weights]
    compiled(net).fit(IMAGES, LABELS, sample_weight=np.zeros(30), batch_size=30, verbose=0)
    assert same(before, [keras.ops.convert_to_numpy(w) for w in net.trainable_weights])


def test_regularisers_and_added_losses_reach_the_loss_and_the_gradient():
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Rescaling(1 / 255)(keras.layers.Flatten()(inputs))
    x = keras.layers.Dense(4, kernel_regularizer=keras.regularizers.L2(0.5))(x)
    x = keras.layers.ActivityRegularization(l2=0.1)(x)
    net = keras.Model(inputs, keras.layers.Dense(3)(x))
    learner = compiled(net, keras.optimizers.SGD(0.1))
    kernel, bias = (keras.ops.convert_to_numpy(w).astype(float) for w in net.layers[3].weights)
    flat = IMAGES.reshape(30, -1) / 255
    hidden = flat @ kernel + bias
    own = 0.5 * (kernel**2).sum() + 0.1 * (hidden**2).sum() / 30
    score = learner.evaluate(IMAGES, LABELS, batch_size=30, verbose=0)
    assert score[0] == pytest.approx(plain_loss(net, IMAGES, LABELS) + own, rel=1e-4)

    # With all samples silenced only the network's own losses are left to move a weight.
    learner.fit(IMAGES, LABELS, sample_weight=np.zeros(30), batch_size=30, verbose=0)
    after = keras.ops.convert_to_numpy(net.layers[3].kernel).astype(float)
    from_l2, from_activity = 1.0 * kernel, 0.2 / 30 * flat.T @ hidden
    for gradient in (from_l2, from_activity):
        assert np.abs(0.1 * gradient).max() > 1e-3  # either would be missed below
    np.testing.assert_allclose(after, kernel - 0.1 * (from_l2 + from_activity), atol=1e-5)


def test_index_batches_and_the_images_themselves_score_the_same(dataset):
    net = network()
    learner = compiled(net, dataset=dataset)
    feed = feeds.scoring(dataset.test.samples, 20, learner.views)
    by_index = learner.evaluate(feed, verbose=0)
    by_image = learner.evaluate(dataset.test.images, dataset.test.labels, batch_size=20, verbose=0)
    np.testing.assert_allclose(by_index, by_image, rtol=1e-5)
    np.testing.assert_allclose(
        learner.predict(feed, verbose=0), net.predict(dataset.test.images, verbose=0), atol=1e-4
    )


def test_the_resident_images_are_not_changed_by_training(dataset):
    learner = compiled(network(), dataset=dataset)
    feed = feeds.training(dataset.train.samples, 20, seed=0, views=learner.views)
    learner.fit(feed, steps_per_epoch=8, epochs=2, verbose=0)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(learner.images), dataset.images)


def test_it_learns(dataset):
    learner = compiled(network(mean=[120] * 3, std=[60] * 3), keras.optimizers.Adam(0.01), dataset)
    feed = feeds.training(dataset.train.samples, 20, seed=0, views=learner.views)
    learner.fit(feed, steps_per_epoch=8, epochs=8, verbose=0)
    score = learner.evaluate(feeds.scoring(dataset.test.samples, 50, learner.views), verbose=0)
    assert score[1] > 0.9


def test_labels_may_be_a_column():
    net = network()
    flat = compiled(net).evaluate(IMAGES, LABELS, verbose=0)
    column = compiled(net).evaluate(IMAGES, LABELS[:, None], verbose=0)
    np.testing.assert_allclose(flat, column, rtol=1e-6)


def test_one_hot_labels_are_refused_with_the_way_out():
    with pytest.raises(WrongValue, match="take the argmax"):
        compiled(network(), run_eagerly=True).fit(IMAGES, np.eye(3)[LABELS], verbose=0)


def test_a_network_that_xla_cannot_compile_is_trained_all_the_same():
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.RandomRotation(0.1, seed=0)(inputs)
    net = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Flatten()(x)))
    before = state_of(net)
    compiled(net, keras.optimizers.SGD(1e-4)).fit(IMAGES, LABELS, batch_size=30, verbose=0)
    assert not same(before, state_of(net))


def test_a_batch_without_labels_is_refused():
    with pytest.raises(WrongValue, match="must be \\(images, labels"):
        compiled(network(), run_eagerly=True).fit(IMAGES, verbose=0)


def test_loss_scaling_is_refused():
    scaled = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD())
    with pytest.raises(WrongValue, match="bfloat16"):
        compiled(network(), scaled)


def test_the_network_keeps_its_own_dtype_policy():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        net = network()
    finally:
        keras.config.set_dtype_policy("float32")
    compiled(net).fit(IMAGES, LABELS, verbose=0)
    assert net.get_layer("conv1").compute_dtype == "bfloat16"
    assert net.get_layer("conv1").kernel.dtype == "float32"
    assert net.output.dtype == "float32"


def test_the_images_of_a_learner_that_is_done_with_go_before_the_next_ones_come(dataset):
    learner = compiled(network(), dataset=dataset)
    feed = feeds.training(dataset.train.samples, 5, seed=0, views=Views(1))
    learner.fit(feed, steps_per_epoch=2, shuffle=False, verbose=0)
    images = weakref.ref(learner.images)
    del learner
    Learner(network(), dataset)
    assert images() is None


def test_a_network_whose_operations_cannot_be_counted_is_finished_all_the_same(dataset, tmp_path):
    """As the source of a transfer may be."""
    images = keras.Input((8, 8, 3))
    x = keras.layers.Flatten()(keras.layers.DepthwiseConv2D(3)(images / 255.0))
    learner = Learner(keras.Model(images, keras.layers.Dense(3)(x), name="theirs"), dataset, Views(1))
    learner.compile("adam")
    run = Run.start(tmp_path / "run", {"recipe": "train"})
    fit(learner, dataset, run, epochs=1, batch_size=20, seed=0)
    finish(learner, dataset, run, {"model": "theirs", "teachers": []})
    assert run.result["flops"] is None
    assert run.result["test_images"] == 50
