import itertools
import time

import keras
import numpy as np
import pytest

from kapp import data, models
from kapp.data import Augmentation
from kapp.errors import KappError
from kapp.training import Learner, loop
from tests.helpers import untimed_metrics
from tests.training.helpers import (
    DETAILS,
    equal_arrays,
    hparams,
    new_run,
    predict,
    small_network,
)


@pytest.fixture
def dataset(tiny_npz):
    return data.load(f"npz:{tiny_npz}")  # 160 to train on, 40 for validation, 50 to test


def fitted(dataset, run, network=None, **settings) -> Learner:
    learner = Learner(network or small_network(), dataset, Augmentation(1))
    learner.compile("adam")
    loop.fit(learner, dataset, run, hparams(epochs=2), seed=0, **settings)
    return learner


def test_predictions_are_those_of_the_best_network(dataset, tmp_path):
    run = new_run(tmp_path / "run")
    result = loop.score_and_save(fitted(dataset, run), dataset, run, hparams(epochs=2), DETAILS)
    assert run.result == result
    assert list((run.folder / "checkpoints").iterdir()) == []
    predictions, best = run.predictions(), keras.models.load_model(run.model_file)
    for split, samples, labels, logits, classes in (
        (dataset.test, *predictions[:4]),
        (dataset.validation, *predictions[4:]),
    ):
        np.testing.assert_array_equal(samples, split.samples)
        np.testing.assert_array_equal(labels, split.labels)
        np.testing.assert_allclose(logits, predict(best, split.images), rtol=2e-3, atol=2e-3)
        np.testing.assert_array_equal(classes, predict(best, split.images).argmax(axis=1))
        assert (logits.dtype, classes.dtype) == (np.float16, np.int32)
    assert np.mean(predictions.test_classes == predictions.test_labels) == result.test_accuracy
    val_accuracy = np.mean(predictions.validation_classes == predictions.validation_labels)
    assert val_accuracy == pytest.approx(result.val_accuracy)
    assert result.val_accuracy == max(row["val_accuracy"] for row in run.metrics_rows())
    assert run.confusion().to_numpy().trace() == result.test_accuracy * 50


def test_without_validation_images_the_last_network_is_scored(tiny_npz, tmp_path):
    dataset, run = data.load(f"npz:{tiny_npz}", validation_images=0), new_run(tmp_path / "run")
    result = loop.score_and_save(fitted(dataset, run), dataset, run, hparams(epochs=2), DETAILS)
    assert (result.best_epoch, result.val_accuracy, result.validation_images) == (2, None, 0)
    assert run.predictions().validation_logits.shape == (0, 3)


def test_the_last_network_may_be_scored_where_there_are_validation_images(dataset, tmp_path):
    """In the last epoch the rate is below 0: the network gets worse."""
    run, network = new_run(tmp_path / "run"), small_network()
    learner = Learner(network, dataset, Augmentation(1))
    learner.compile(
        keras.optimizers.SGD(keras.optimizers.schedules.PiecewiseConstantDecay([15], [0.05, -0.5]))
    )
    for stop_epoch in (1, None):
        loop.fit(learner, dataset, run, hparams(epochs=3), seed=0, keep_last=True, stop_epoch=stop_epoch)
    last, accuracies = network.get_weights(), [row["val_accuracy"] for row in run.metrics_rows()]
    assert max(accuracies) > accuracies[-1]
    result = loop.score_and_save(learner, dataset, run, hparams(epochs=3), DETAILS, keep_last=True)
    assert (result.best_epoch, result.validation_images) == (3, 40)
    assert result.val_accuracy == accuracies[-1]
    assert equal_arrays(keras.models.load_model(run.model_file).get_weights(), last)
    predictions = run.predictions()
    val_accuracy = np.mean(predictions.validation_classes == predictions.validation_labels)
    assert val_accuracy == pytest.approx(result.val_accuracy)


@pytest.mark.parametrize("streamed", [False, True])
def test_a_run_in_bfloat16_is_scored_in_float32(streamed, tiny_npz, tmp_path):
    """The scores are those of a network built in float32, with the weights in the run's file."""
    dataset, run = data.load(f"npz:{tiny_npz}", streamed=streamed), new_run(tmp_path / "run")
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        learner = fitted(dataset, run)
        result = loop.score_and_save(learner, dataset, run, hparams(epochs=2), DETAILS)
    finally:
        keras.config.set_dtype_policy(policy)
    assert (result.precision, result.scoring_precision) == ("mixed_bfloat16", "float32")
    trained, network = keras.models.load_model(run.model_file), small_network()
    network.set_weights(trained.get_weights())
    predictions, test = run.predictions(), dataset.test
    logits = predict(network, test.images)
    np.testing.assert_allclose(predictions.test_logits, logits, rtol=1e-3, atol=1e-3)
    assert np.abs(predict(trained, test.images) - logits).max() > 2e-3
    assert result.test_accuracy == np.mean(logits.argmax(axis=1) == test.labels)
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    assert result.test_loss == pytest.approx(-log_p[np.arange(50), test.labels].mean(), rel=1e-4)
    assert learner.network.get_layer("conv1").compute_dtype == "bfloat16"  # the caller's own


def test_images_sorted_by_class_raise_no_warning(tmp_path, capsys):
    """The network is always right, and the first 40 test images are of one class."""
    labels = np.repeat([0, 1], 40)
    images = np.broadcast_to(np.uint8(20 + 200 * labels)[:, None, None, None], (80, 8, 8, 3))
    np.savez(tmp_path / "sorted.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    dataset = data.load(f"npz:{tmp_path / 'sorted.npz'}", validation_images=0)
    network = models.build("2fc", 2, image_shape=(8, 8, 3), mean=[120] * 3, std=[60] * 3)
    run, learner = new_run(tmp_path / "run"), Learner(network, dataset, Augmentation(0))
    learner.compile(keras.optimizers.Adam(0.01))
    loop.fit(learner, dataset, run, hparams(epochs=6), seed=0)
    assert [row["val_accuracy"] for row in run.metrics_rows()[1:]] == [1.0] * 5
    assert "predicted class" not in capsys.readouterr().err


def test_one_validation_image_does_not_stop_a_training(tiny_npz, tmp_path):
    dataset, run = data.load(f"npz:{tiny_npz}", validation_images=1), new_run(tmp_path / "run")
    fitted(dataset, run)
    assert len(run.metrics_rows()) == 2


def test_epochs_between_two_validations_are_round_numbers(dataset, tmp_path):
    run, learner = new_run(tmp_path / "run"), Learner(small_network(), dataset, Augmentation(1))
    learner.compile("sgd")
    loop.fit(learner, dataset, run, hparams(batch_size=16), seed=0, validate_every=16)
    assert [row["epoch"] for row in run.metrics_rows()] == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1]


def test_a_run_that_stops_early_resumes(dataset, tmp_path):
    run = new_run(tmp_path / "run")
    fitted(dataset, run, stop_epoch=1)
    assert [row["epoch"] for row in run.metrics_rows()] == [1]
    fitted(dataset, run)
    assert [row["epoch"] for row in run.metrics_rows()] == [1, 2]


def test_a_clock_that_jumps_changes_nothing(dataset, tmp_path, monkeypatch):
    """By an hour and back, as when it is set, and from one year to another."""
    whole, run = new_run(tmp_path / "whole"), new_run(tmp_path / "run")
    loop.score_and_save(fitted(dataset, whole), dataset, whole, hparams(epochs=2), DETAILS)
    jumps = itertools.cycle([0.0, 3600.0, -3600.0, 4e7, -4e7])
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + next(jumps))
    fitted(dataset, run, stop_epoch=1)
    result = loop.score_and_save(fitted(dataset, run), dataset, run, hparams(epochs=2), DETAILS)
    assert untimed_metrics(run) == untimed_metrics(whole)
    assert result.test_accuracy == whole.result.test_accuracy
    assert 0 < result.seconds < 600
    assert all(row["images_per_second"] > 0 for row in run.metrics_rows())


def test_a_network_whose_operations_cannot_be_counted_is_scored(dataset, tmp_path):
    """The source of a transfer may be such a network."""
    images = keras.Input((8, 8, 3))
    x = keras.layers.Flatten()(keras.layers.DepthwiseConv2D(3)(images / 255.0))
    network, run = keras.Model(images, keras.layers.Dense(3)(x)), new_run(tmp_path / "run")
    loop.score_and_save(fitted(dataset, run, network), dataset, run, hparams(), DETAILS)
    assert run.result.flops is None


def test_a_damaged_model_file_is_named(dataset, tmp_path):
    run = new_run(tmp_path / "run")
    learner = fitted(dataset, run)
    run.model_file.write_bytes(b"garbage")
    with pytest.raises(KappError, match=f"{run.model_file} is damaged"):
        loop.score_and_save(learner, dataset, run, hparams(), DETAILS)
