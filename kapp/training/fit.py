"""What every training recipe calls: fit with the callbacks of a run, then score and write the result."""

import math
import time
from collections.abc import Mapping
from statistics import median
from typing import Any

import keras
import numpy as np

from kapp import processes
from kapp.callbacks import DeadLoss, Divergence, EpochAnswers, ExactResume, MetricsFile, Progress, Speed
from kapp.data import Dataset, Split, feeds
from kapp.errors import Failure
from kapp.models.networks import flops
from kapp.reporting import scores
from kapp.runs import Run
from kapp.training import device
from kapp.training.distiller import Distiller
from kapp.training.learner import Learner

SCORING_BATCH = 500
LOOKED_AT = 32  # images by which a dead network is known


def fit(
    learner: Learner,
    dataset: Dataset,
    run: Run,
    *,
    epochs: int,
    batch_size: int,
    seed: int,
    validate_every: int | None = None,
) -> None:
    """Train the compiled `learner` on `dataset.train` up to epoch `epochs`, from where `run` stands.

    Leaves `metrics.csv` and `model.keras`, the network at its best validation accuracy; at the last epoch
    where the data set holds out no image to select by: its test images are watched then, and choose nothing.

    Args:
        validate_every: training images between validations, each of which has a row in `metrics.csv` (None:
            as many as an epoch has). The last comes when at least `epochs` are done.

    Raises:
        Failure: the loss isn't finite any more, the network died, or a file of the run is damaged.
    """
    in_epoch = len(dataset.train) // batch_size
    steps = validate_every // batch_size if validate_every else in_epoch
    rounds = math.ceil(epochs * in_epoch / steps)  # what Keras calls epochs
    looked_at = dataset.validation if len(dataset.validation) else dataset.test
    images = dataset.images if learner.streamed else None
    resume = ExactResume(run, selects=len(dataset.validation) > 0)
    done = resume.restore(learner)
    if done == rounds:
        return
    teaching = []
    if isinstance(learner, Distiller) and learner.answers is not None:
        learner.look_up(**feeds.indices(looked_at.samples, learner.views))
        shown = dataset.train.samples, batch_size
        teaching = [EpochAnswers(*shown, seed=seed, views=learner.views, steps=steps)]
    keeps = [
        MetricsFile(run, epochs_a_row=steps / in_epoch),
        Progress(rounds, steps, learner.network.name, epochs_a_row=steps / in_epoch),
        resume,  # last: what it says is done must be on disk
    ]
    learner.fit(
        feeds.training(
            dataset.train.samples,
            batch_size,
            seed=seed,
            views=learner.views,
            first_step=done * steps,
            images=images,
        ),
        steps_per_epoch=steps,
        initial_epoch=done,
        epochs=rounds,
        validation_data=feeds.scoring(looked_at.samples, SCORING_BATCH, learner.views, images),
        shuffle=False,
        verbose=0,
        callbacks=[
            *teaching,
            Divergence(run),
            DeadLoss(run, feeds.indices(looked_at.samples[:LOOKED_AT], learner.views, images)),
            Speed(steps * batch_size),
            *(keeps if processes.is_first() else []),
        ],
    )
    processes.wait()  # for the last epoch's files


def finish(learner: Learner, dataset: Dataset, run: Run, facts: Mapping[str, Any]) -> None:
    """Score the run's best network, on the test images for the only time, and write `result.json`.

    Args:
        facts: what the recipe knows of the experiment (recipe, model, seed, ...); measurements are
            added to it.
    """
    started = time.perf_counter()
    rows = run.epochs()
    selected = len(dataset.validation) > 0
    # The first, where several are equal.
    best = max(rows, key=lambda row: row["val_accuracy"]) if selected else rows[-1]
    restore(learner.network, run)
    logits = predict(learner, dataset.test)
    if not processes.is_first():
        return processes.wait()
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
            "val_accuracy": best["val_accuracy"] if selected else None,
            **scores.score(logits, labels),
            "train_images_per_second": median(row["images_per_second"] for row in later),
            "seconds": sum(row["seconds"] for row in rows) + time.perf_counter() - started,
            "status": "finished",
        }
    )
    run.checkpoint_file.unlink(missing_ok=True)
    processes.wait()


def predict(learner: Learner, split: Split) -> np.ndarray:
    """Logits (n, classes) of the images of `split`, in their order."""
    images = split.all_images if learner.streamed else None
    feed = feeds.scoring(split.samples, SCORING_BATCH, learner.views, images)
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
