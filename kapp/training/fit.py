"""What every training recipe calls: fit with the callbacks of a run, then score and write the result."""

import time
from collections.abc import Mapping
from statistics import median
from typing import Any

import keras
import numpy as np

from kapp.callbacks import Divergence, ExactResume, MetricsFile, Progress, Speed
from kapp.data import Dataset, Split, feeds
from kapp.errors import Failure
from kapp.models.networks import flops
from kapp.reporting import scores
from kapp.runs import Run
from kapp.training import device
from kapp.training.learner import Learner

SCORING_BATCH = 500


def fit(learner: Learner, dataset: Dataset, run: Run, *, epochs: int, batch_size: int, seed: int) -> None:
    """Train the compiled `learner` on `dataset.train` up to epoch `epochs`, from where `run` stands.

    Leaves `metrics.csv` and `model.keras`, the network at its best validation accuracy.

    Raises:
        Failure: the loss isn't finite any more, or a file of the run is damaged.
    """
    steps = len(dataset.train) // batch_size
    resume = ExactResume(run)
    done = resume.restore(learner)
    if done == epochs:
        return
    learner.fit(
        feeds.training(dataset.train.samples, batch_size, seed=seed, views=learner.views, first_epoch=done),
        steps_per_epoch=steps,
        initial_epoch=done,
        epochs=epochs,
        validation_data=feeds.scoring(dataset.validation.samples, SCORING_BATCH, learner.views),
        shuffle=False,
        verbose=0,
        callbacks=[
            Divergence(run),
            Speed(steps * batch_size),
            MetricsFile(run),
            Progress(epochs, steps, learner.network.name),
            resume,  # last: what it says is done must be on disk
        ],
    )


def finish(learner: Learner, dataset: Dataset, run: Run, facts: Mapping[str, Any]) -> None:
    """Score the run's best network, on the test images for the only time, and write `result.json`.

    Args:
        facts: what the recipe knows of the experiment (recipe, model, seed, ...); measurements are
            added to it.
    """
    started = time.perf_counter()
    rows = run.epochs()
    best = max(rows, key=lambda row: row["val_accuracy"])  # the first, where several are equal
    restore(learner.network, run)
    logits = predict(learner, dataset.test)
    labels = dataset.test.labels
    counts = scores.confusion(labels, logits.argmax(axis=-1), len(dataset.classes))
    run.write_confusion(counts, dataset.classes)
    later = rows[1:] or rows  # the first epoch compiles
    run.write_result(
        {
            **facts,
            "device": device.name(),
            "commit": device.commit(),
            "parameters": learner.network.count_params(),
            "flops": flops(learner.network),
            "train_images": len(dataset.train),
            "validation_images": len(dataset.validation),
            "test_images": len(dataset.test),
            "best_epoch": best["epoch"],
            "val_accuracy": best["val_accuracy"],
            **scores.score(logits, labels),
            "train_images_per_second": median(row["images_per_second"] for row in later),
            "seconds": sum(row["seconds"] for row in rows) + time.perf_counter() - started,
            "status": "finished",
        }
    )
    run.checkpoint_file.unlink(missing_ok=True)


def predict(learner: Learner, split: Split) -> np.ndarray:
    """Logits (n, classes) of the resident images of `split`, in their order."""
    feed = feeds.scoring(split.samples, SCORING_BATCH, learner.views)
    return np.asarray(learner.predict(feed, verbose=0))


def restore(network: keras.Model, run: Run) -> None:
    """Give `network` the weights of the run's `model.keras`.

    Raises:
        Failure: the file is damaged.
    """
    try:
        network.load_weights(run.model_file)
    except Exception as error:  # Keras raises what its zip, JSON and HDF5 raise
        raise Failure(f"{run.model_file} is damaged ({error}). Start anew with --overwrite.") from error
