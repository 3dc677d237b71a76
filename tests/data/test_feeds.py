import keras
import numpy as np
import pytest

from kapp.data import Views, epochs, feeds


class Recorder(keras.Model):
    """Keeps what `fit` and `evaluate` feed it."""

    def __init__(self):
        super().__init__()
        self.scale = self.add_weight(shape=(), initializer="ones")
        self.built = True
        self.seen = []

    def keep(self, data):
        (batch,) = data
        self.seen.append({name: keras.ops.convert_to_numpy(column) for name, column in batch.items()})
        return {"loss": keras.ops.zeros(())}

    def train_step(self, *state_and_data):
        return self.answer(self.keep(state_and_data[-1]), state_and_data)

    test_step = train_step

    def answer(self, logs, state_and_data):
        return logs if len(state_and_data) == 1 else (logs, state_and_data[0])


def fed(feed, steps, epochs, **settings) -> list[dict]:
    model = Recorder()
    model.compile("sgd", run_eagerly=True)
    model.fit(feed, steps_per_epoch=steps, epochs=epochs, shuffle=False, verbose=0, **settings)
    return model.seen


@pytest.fixture
def images(tmp_path):
    """Images on disk, no two alike."""
    path = tmp_path / "images.npy"
    np.save(path, np.arange(140 * 4 * 3 * 1).reshape(140, 4, 3, 1).astype(np.uint8))
    return np.load(path, mmap_mode="r")


@pytest.mark.parametrize("first_epoch", [0, 2])
@pytest.mark.parametrize("streamed", [False, True])
def test_fit_sees_the_epoch_table(first_epoch, streamed, images):
    samples = np.arange(100, 123, dtype=np.int32)
    brought = {"images": images} if streamed else {}
    feed = feeds.training(samples, 5, seed=3, views=Views(), first_step=4 * first_epoch, **brought)
    batches = fed(feed, 4, epochs=first_epoch + 3, initial_epoch=first_epoch)
    assert len(batches) == 12
    for i, epoch in enumerate(range(first_epoch, first_epoch + 3)):
        order, view = epochs.table(3, epoch, 23, Views())
        shown = batches[4 * i : 4 * i + 4]
        np.testing.assert_array_equal(np.concatenate([b["sample"] for b in shown]), samples[order[:20]])
        np.testing.assert_array_equal(np.concatenate([b["view"] for b in shown]), view[:20])
    assert_brought(batches, images if streamed else None)


@pytest.mark.parametrize("streamed", [False, True])
def test_scoring_sees_every_sample_once_in_order_as_it_is(streamed, images):
    samples = np.arange(10, 33, dtype=np.int32)
    model = Recorder()
    model.compile("sgd", run_eagerly=True)
    model.evaluate(feeds.scoring(samples, 10, Views(), images if streamed else None), verbose=0)
    assert [len(b["sample"]) for b in model.seen] == [10, 10, 3]
    np.testing.assert_array_equal(np.concatenate([b["sample"] for b in model.seen]), samples)
    assert {view for b in model.seen for view in b["view"]} == {Views().identity}
    assert_brought(model.seen, images if streamed else None)


def assert_brought(batches, images):
    for batch in batches:
        assert ("image" in batch) == (images is not None)
        if images is not None:
            assert batch["image"].dtype == np.uint8
            np.testing.assert_array_equal(batch["image"], images[batch["sample"]])
