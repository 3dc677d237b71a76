"""Two-phase transfer, on the backend of this process."""

import keras
import numpy as np
import pytest

from kapp import data, models
from kapp.data import Views, feeds
from kapp.errors import WrongValue
from kapp.models.networks import flops
from kapp.training import Learner
from kapp.training.transfer import HeadLearner, features, pays, set_trainable, with_new_head

SOURCE = "6c-mp-d0.5-8c1x1-10c1x1-gap"  # batch normalisation and dropout in the body
VIEWS = Views(1)


@pytest.fixture(scope="module")
def dataset(tiny_npz):
    return data.load(f"npz:{tiny_npz}", limit_train=60)


def source(notation=SOURCE, **settings) -> keras.Model:
    network = models.build(notation, 10, image_shape=(8, 8, 3), mean=[120] * 3, std=[60] * 3, **settings)
    for layer in network.layers:  # statistics that a frozen layer must use and keep
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.moving_mean.assign(np.linspace(-1, 1, layer.moving_mean.shape[0]))
            layer.moving_variance.assign(np.linspace(0.5, 2, layer.moving_mean.shape[0]))
    return network


def numpy(tensor) -> np.ndarray:
    return keras.ops.convert_to_numpy(tensor)


def state_of(model) -> dict[str, np.ndarray]:
    return {weight.path: numpy(weight).copy() for weight in model.weights}


def fitted(learner, dataset, epochs=3, rate=0.05) -> Learner:
    learner.compile(keras.optimizers.SGD(rate, momentum=0.9))
    feed = feeds.training(dataset.train.samples, 20, seed=0, views=learner.views)
    learner.history_of_losses = learner.fit(
        feed, steps_per_epoch=3, epochs=epochs, verbose=0, shuffle=False
    ).history["loss"]
    return learner


@pytest.mark.parametrize(("tabled", "head"), [(True, "linear"), (False, "mlp")])
def test_phase_1_leaves_every_frozen_byte_and_phase_2_changes_every_weight(dataset, tabled, head):
    network = source()
    parts = with_new_head(network, 3, head)
    before, of_head = state_of(parts.body), state_of(parts.head)
    set_trainable(parts.body, False)
    learner = fitted(HeadLearner(parts, dataset, VIEWS, tabled), dataset)
    after = state_of(parts.body)
    assert all(before[name].tobytes() == after[name].tobytes() for name in before)
    assert all((of_head[name] != value).any() for name, value in state_of(parts.head).items())

    # As the recipe does it: phase 2 starts from the file that phase 1 left.
    set_trainable(learner.network, True)
    frozen = state_of(learner.network)
    fitted(Learner(learner.network, dataset, VIEWS), dataset)
    changed = {name: (frozen[name] != value).any() for name, value in state_of(learner.network).items()}
    assert all(changed.values()), changed


def test_a_saved_phase_1_trains_as_a_whole(dataset, tmp_path):
    parts = with_new_head(source(), 3)
    set_trainable(parts.body, False)
    fitted(HeadLearner(parts, dataset, VIEWS), dataset, epochs=1)
    parts.whole.save(tmp_path / "phase1.keras")
    loaded = keras.models.load_model(tmp_path / "phase1.keras")
    images = dataset.test.images
    np.testing.assert_allclose(numpy(loaded(images)), numpy(parts.whole(images)), atol=1e-5)
    set_trainable(loaded, True)
    before = state_of(loaded)
    fitted(Learner(loaded, dataset, VIEWS), dataset, epochs=1)
    assert all((before[name] != value).any() for name, value in state_of(loaded).items())


def test_a_table_of_features_trains_the_same_head_as_the_body_does(dataset):
    losses, heads = [], []
    for tabled in (True, False):
        parts = with_new_head(source(seed=1), 3, "mlp", seed=2)
        set_trainable(parts.body, False)
        losses += [fitted(HeadLearner(parts, dataset, VIEWS, tabled), dataset).history_of_losses]
        heads += [[numpy(weight) for weight in parts.head.weights]]
    np.testing.assert_allclose(*losses, rtol=1e-4)
    for one, other in zip(*heads):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)


def test_frozen_features_are_the_sources_answers_in_inference_mode(dataset):
    network = source()
    parts = with_new_head(network, 3)
    table, rows = features(parts.body, dataset, VIEWS)
    assert len(table) == 60 * VIEWS.count + 15 + 50
    sample = dataset.train.samples[7]
    flipped_and_moved = VIEWS.crops**2 + 2 * VIEWS.crops + 0  # flipped, dy 2, dx 0
    image = np.pad(dataset.images[sample], ((1, 1), (1, 1), (0, 0)))[2:10, 0:8][:, ::-1]
    expected = numpy(parts.body(image[None], training=False))[0]
    np.testing.assert_allclose(table[rows[sample * VIEWS.count + flipped_and_moved]], expected, atol=1e-5)
    of_test = rows[dataset.test.samples * VIEWS.count + VIEWS.identity]
    np.testing.assert_allclose(
        table[of_test], numpy(parts.body(dataset.test.images, training=False)), atol=1e-5
    )
    assert rows[dataset.test.samples[0] * VIEWS.count] == -1  # only seen as it is


def test_phase_1_scores_what_the_whole_network_scores(dataset):
    parts = with_new_head(source(), 3)
    set_trainable(parts.body, False)
    learner = fitted(HeadLearner(parts, dataset, VIEWS, tabled=True), dataset)
    feed = feeds.scoring(dataset.test.samples, 25, VIEWS)
    np.testing.assert_allclose(
        learner.predict(feed, verbose=0), numpy(parts.whole(dataset.test.images)), rtol=1e-4, atol=1e-5
    )


def test_the_new_head_is_like_the_old_one():
    linear = with_new_head(models.build("all_cnn_c", width=0.1), 7)
    published = models.build("all_cnn_c", 7, width=0.1)
    assert [layer.name for layer in linear.whole.layers] == [layer.name for layer in published.layers]
    assert linear.whole.count_params() == published.count_params()
    assert flops(linear.whole) == flops(published)
    mlp = with_new_head(models.build("all_cnn_c", width=0.1), 7, "mlp")
    assert mlp.whole.count_params() == published.count_params() + 19 * 19 + 19
    dense = with_new_head(models.build("16fc-10fc", image_shape=(8, 8, 3)), 4, "mlp")
    assert [layer.name for layer in dense.head.layers[1:]] == ["head", "head_relu", "logits"]


def test_a_network_can_be_transferred_again_and_again():
    once = with_new_head(source(), 5, "mlp").whole
    twice = with_new_head(once, 4, "mlp").whole
    assert twice.output_shape == (None, 4)
    assert len({layer.name for layer in twice.layers}) == len(twice.layers)


def test_any_keras_classifier_is_a_source():
    """Sequential, its softmax inside the last layer or after it."""
    inside = [keras.layers.Conv2D(4, 3), keras.layers.GlobalAveragePooling2D()]
    for last in (
        [keras.layers.Dense(10, activation="softmax")],
        [keras.layers.Dense(10), keras.layers.Softmax()],
        [keras.layers.Dense(10), keras.layers.Activation("softmax")],
    ):
        parts = with_new_head(keras.Sequential([keras.Input((8, 8, 3)), *inside, *last]), 3)
        answers = numpy(parts.whole(np.zeros((2, 8, 8, 3))))
        assert answers.shape == (2, 3)
        assert parts.body.output_shape == (None, 4)
        kernel, bias = (numpy(weight) for weight in parts.head.weights)
        seen = numpy(parts.body(np.full((2, 8, 8, 3), 9.0)))
        np.testing.assert_allclose(
            numpy(parts.whole(np.full((2, 8, 8, 3), 9.0))), seen @ kernel + bias, rtol=1e-4, atol=1e-5
        )


def test_what_has_no_layer_for_classes_is_refused():
    inputs = keras.Input((8, 8, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(inputs)
    with pytest.raises(WrongValue, match="doesn't end in a Dense or Conv2D layer"):
        with_new_head(keras.Model(inputs, pooled), 3)
    with pytest.raises(WrongValue, match="unknown head 'lienar'. Did you mean 'linear'"):
        with_new_head(source(), 3, "lienar")


def test_a_table_pays_where_views_come_again(dataset):
    parts = with_new_head(source(), 3)
    assert pays(parts, dataset, Views(0), 2)
    assert not pays(parts, dataset, Views(4), 161)
    assert pays(parts, dataset, Views(4), 162)
