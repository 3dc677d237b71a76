"""A training that is stopped within an epoch resumes from its last batch, with the bits of one that isn't."""

import keras
import pytest

from kapp import data
from kapp.papers.hparams import HParams
from kapp.run_folder import Run
from kapp.training import loop, optimizers
from tests.helpers import untimed_metrics, weight_bytes
from tests.training.helpers import (
    DETAILS,
    from_cached_logits,
    from_live_teachers,
    linear_probe,
    new_run,
    on_labels,
)

# Adam keeps its moments; the learning rate changes in each step.
HPARAMS = HParams(epochs=3, batch_size=20, optimizer="adam", learning_rate=0.01, schedule="cosine")


class Steps(keras.callbacks.Callback):
    """Counts the steps of a training, and stops it in the last of `count`."""

    def __init__(self, count: int):
        super().__init__()
        self.count, self.done = count, 0

    def on_train_batch_end(self, batch, logs=None):
        self.done += 1
        if self.done == self.count:
            raise KeyboardInterrupt


def train(
    make, dataset, folder, run: Run, stop_after: int = 0, save_minutes=0.0, validate_every=None, ema=0.0
) -> int:
    """Train, or resume, on a new learner; returns the number of steps."""
    learner, steps = make(dataset, folder), Steps(stop_after)
    averaging = {"ema": ema} if ema else {}
    learner.compile(optimizers.build(HPARAMS, len(dataset.train) // 20), **averaging)
    own = learner.fit_callbacks
    learner.fit_callbacks = lambda **settings: [*own(**settings), steps]
    settings = {"seed": 3, "save_minutes": save_minutes, "validate_every": validate_every}
    if stop_after:
        with pytest.raises(KeyboardInterrupt):
            loop.fit(learner, dataset, run, HPARAMS, **settings)
    else:
        loop.fit(learner, dataset, run, HPARAMS, **settings)
        loop.score_and_save(learner, dataset, run, HPARAMS, DETAILS)
    return steps.done


def begun_steps(run: Run) -> list[int]:
    checkpoints = [run.read_checkpoint(path) for path in run.checkpoint_files]
    return [each.begun.steps if each.begun else 0 for each in checkpoints]


@pytest.mark.parametrize(
    ("make", "streamed", "ema"),
    [
        (on_labels, False, 0.0),
        (on_labels, True, 0.0),
        (on_labels, False, 0.9),  # averaged weights
        (from_live_teachers, False, 0.0),
        (from_cached_logits, False, 0.0),
        (from_cached_logits, True, 0.9),
        (linear_probe, False, 0.0),
    ],
)
def test_it_ends_with_the_same_bits(make, streamed, ema, tiny_npz, tmp_path):
    dataset = data.load(f"npz:{tiny_npz}", streamed=streamed)
    whole, stopped = (new_run(tmp_path / name) for name in ("whole", "stopped"))
    steps = train(make, dataset, tmp_path / "logits", whole, save_minutes=60, ema=ema)
    per_epoch = len(dataset.train) // 20
    assert (steps, per_epoch) == (3 * per_epoch, 8)

    train(make, dataset, tmp_path / "logits", stopped, stop_after=per_epoch + 4, ema=ema)
    assert begun_steps(stopped) == [3, 2]  # the step in which it stopped is lost
    assert len(stopped.metrics_rows()) == 1
    assert train(make, dataset, tmp_path / "logits", stopped, ema=ema) == steps - per_epoch - 3

    assert untimed_metrics(stopped) == untimed_metrics(whole)
    assert weight_bytes(stopped) == weight_bytes(whole)
    assert stopped.result.test_loss == whole.result.test_loss


def test_it_may_stop_twice_in_an_epoch(tiny_npz, tmp_path):
    dataset = data.load(f"npz:{tiny_npz}")
    whole, stopped = (new_run(tmp_path / name) for name in ("whole", "stopped"))
    for run, stop_after in ((whole, 0), (stopped, 4), (stopped, 3), (stopped, 0)):
        train(on_labels, dataset, tmp_path, run, stop_after)
        if stop_after == 3:
            assert begun_steps(run) == [5, 4]
    assert untimed_metrics(stopped) == untimed_metrics(whole)
    assert weight_bytes(stopped) == weight_bytes(whole)


def test_rows_of_other_lengths_than_an_epoch_resume_too(tiny_npz, tmp_path):
    dataset, make = data.load(f"npz:{tiny_npz}"), from_cached_logits
    whole, stopped = (new_run(tmp_path / name) for name in ("whole", "stopped"))
    for run, stop_after in ((whole, 0), (stopped, 10), (stopped, 0)):  # rows of 12 steps, epochs of 8
        train(make, dataset, tmp_path / "logits", run, stop_after, validate_every=240)
    assert [row[0] for row in untimed_metrics(whole)] == ["1.5", "3"]
    assert untimed_metrics(stopped) == untimed_metrics(whole)
    assert weight_bytes(stopped) == weight_bytes(whole)


def test_the_time_before_is_counted(tiny_npz, tmp_path):
    dataset, run = data.load(f"npz:{tiny_npz}"), new_run(tmp_path / "run")
    train(on_labels, dataset, tmp_path, run, stop_after=4)
    latest = run.read_checkpoint(run.checkpoint_files[0])
    assert latest.begun.seconds > 0
    run.write_checkpoint(latest._replace(begun=latest.begun._replace(seconds=1000.0)))
    train(on_labels, dataset, tmp_path, run)
    first, second, _ = run.metrics_rows()
    assert first["seconds"] > 1000 > second["seconds"]
    assert first["images_per_second"] < 160 / 1000


def test_short_epochs_save_at_their_end_alone(tiny_npz, tmp_path):
    dataset, run = data.load(f"npz:{tiny_npz}"), new_run(tmp_path / "run")
    train(on_labels, dataset, tmp_path, run, stop_after=12, save_minutes=5.0)
    assert run.read_checkpoint(run.checkpoint_files[0]).begun is None
    assert not run.checkpoint_files[1].exists()
