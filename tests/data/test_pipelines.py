import keras
import numpy as np
import pytest

from kapp.data import Augmentation, pipelines, sampling
from kapp.errors import ConfigError


class BatchRecorder(keras.Model):
    """Stores the batches of `fit` and `evaluate`."""

    def __init__(self):
        super().__init__()
        self.scale = self.add_weight(shape=(), initializer="ones")
        self.built = True
        self.batches = []
        self.compile("sgd", run_eagerly=True)

    def train_step(self, *state_and_data):  # on JAX (state, data), else (data,)
        (batch,) = state_and_data[-1]
        self.batches.append({name: keras.ops.convert_to_numpy(column) for name, column in batch.items()})
        logs = {"loss": keras.ops.zeros(())}
        return logs if len(state_and_data) == 1 else (logs, state_and_data[0])

    test_step = train_step


@pytest.fixture(params=["indices", "streamed"])
def images(request, tmp_path):
    """Different images on disk, or None."""
    path = tmp_path / "images.npy"
    np.save(path, np.arange(140 * 4 * 3 * 1).reshape(140, 4, 3, 1).astype(np.uint8))
    return np.load(path, mmap_mode="r") if request.param == "streamed" else None


def column(batches, name) -> np.ndarray:
    return np.concatenate([batch[name] for batch in batches])


def assert_images(batches, images):
    for batch in batches:
        assert ("image" in batch) == (images is not None)
        if images is not None:
            assert batch["image"].dtype == np.uint8
            np.testing.assert_array_equal(batch["image"], images[batch["sample"]])


@pytest.mark.parametrize("first_epoch", [0, 2])
def test_fit_reads_the_epoch_plan(first_epoch, images):
    samples, model = np.arange(100, 123, dtype=np.int32), BatchRecorder()
    batches = pipelines.train_batches(
        samples, 5, seed=3, augmentation=Augmentation(), first_step=4 * first_epoch, images=images
    )
    epochs = {"epochs": first_epoch + 3, "initial_epoch": first_epoch}
    model.fit(batches, steps_per_epoch=4, shuffle=False, verbose=0, **epochs)
    assert len(model.batches) == 12
    for i, epoch in enumerate(range(first_epoch, first_epoch + 3)):
        order, view = sampling.epoch_plan(3, epoch, 23, Augmentation())
        batches = model.batches[4 * i : 4 * i + 4]
        np.testing.assert_array_equal(column(batches, "sample"), samples[order[:20]])
        np.testing.assert_array_equal(column(batches, "view"), view[:20])
    assert_images(model.batches, images)


def test_a_batch_of_more_than_all_samples_is_refused():
    samples = np.arange(5, dtype=np.int32)
    with pytest.raises(ConfigError, match="at most 5"):
        pipelines.train_batches(samples, 6, seed=0, augmentation=Augmentation())


def test_a_run_resumes_within_an_epoch():
    settings = {"seed": 3, "augmentation": Augmentation()}
    samples, whole, resumed = np.arange(23, dtype=np.int32), BatchRecorder(), BatchRecorder()
    whole.fit(pipelines.train_batches(samples, 5, **settings), steps_per_epoch=8, verbose=0, shuffle=False)
    rest = pipelines.train_batches(samples, 5, first_step=3, **settings)
    resumed.fit(rest, steps_per_epoch=5, verbose=0, shuffle=False)
    for name in ("sample", "view"):
        np.testing.assert_array_equal(column(resumed.batches, name), column(whole.batches[3:], name))


def test_evaluate_reads_every_sample_once_in_order_and_not_augmented(images):
    samples, model = np.arange(10, 33, dtype=np.int32), BatchRecorder()
    model.evaluate(pipelines.eval_batches(samples, 10, Augmentation(), images), verbose=0)
    assert [len(batch["sample"]) for batch in model.batches] == [10, 10, 3]
    np.testing.assert_array_equal(column(model.batches, "sample"), samples)
    assert set(column(model.batches, "view")) == {Augmentation().identity}
    assert_images(model.batches, images)
