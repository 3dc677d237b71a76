"""`train`, the call of every training recipe: `fit` with the callbacks of a run, then `score_and_save`."""

import math
import time
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

import keras
import numpy as np

from kapp import distributed, interrupt
from kapp.callbacks import (
    Heartbeat,
    LongTraining,
    MetricsCSV,
    Progress,
    ResumeCheckpoint,
    ResumedRow,
    StopOnConstantOutput,
    StopOnInterrupt,
    StopOnNonFiniteLoss,
    Throughput,
)
from kapp.callbacks.resume_checkpoint import SAVE_MINUTES
from kapp.data import Dataset, Split, pipelines
from kapp.errors import KappError
from kapp.metrics import classification
from kapp.models.flops import count_flops
from kapp.papers.hparams import HParams
from kapp.records import RunResult, to_json
from kapp.run_folder import Predictions, Run
from kapp.training import device, mixed_precision
from kapp.training.learner import Learner

EVAL_BATCH_SIZE = 500
CHECK_IMAGES = 32  # for StopOnConstantOutput


@dataclass(frozen=True, kw_only=True)
class RunDetails:
    """What a recipe adds to the measurements in `result.json`; the fields are those of `RunResult`."""

    recipe: str
    model: str
    seed: int
    teachers: tuple[str, ...] = ()
    teacher_logits: Literal["cached", "live"] | None = None
    source: str | None = None
    phase: Literal["linear_probe", "fine_tuning"] | None = None
    validation_overlap: tuple[int | None, ...] = ()


def train(
    learner: Learner,
    dataset: Dataset,
    run: Run,
    hparams: HParams,
    details: RunDetails,
    *,
    validate_every: int | None = None,
    keep_last: bool = False,
    stop_epoch: int | None = None,
) -> None:
    """`fit`, then `score_and_save` unless `stop_epoch` is set. The epoch plans are of `details.seed`."""
    fit(
        learner,
        dataset,
        run,
        hparams,
        seed=details.seed,
        validate_every=validate_every,
        keep_last=keep_last,
        stop_epoch=stop_epoch,
    )
    if stop_epoch is None:
        score_and_save(learner, dataset, run, hparams, details, keep_last)


def fit(
    learner: Learner,
    dataset: Dataset,
    run: Run,
    hparams: HParams,
    *,
    seed: int,
    validate_every: int | None = None,
    keep_last: bool = False,
    stop_epoch: int | None = None,
    save_minutes: float = SAVE_MINUTES,
) -> None:
    """Train the compiled `learner` on `dataset.train`; resume where `run` was interrupted.

    Writes `environment.json`, `metrics.csv` and `model.keras`, the network with the best validation
    accuracy. Without validation images it is the network of the last epoch; the metrics are then those of
    the test images, and select nothing.

    Args:
        hparams: its `epochs` and `batch_size` are used here.
        seed: of the epoch plans.
        validate_every: training images between two validations, each a row of `metrics.csv` (None: those of
            an epoch). The last validation is the first one at or after the end of the last epoch.
        keep_last: keep the network of the last epoch also where there are validation images.
        stop_epoch: the last epoch, where it isn't that of `hparams`.
        save_minutes: of training, between two checkpoints within the time of a row.

    Raises:
        KappError: the loss isn't finite, the network predicts the same for every image, or a file of the run
            is damaged.
    """
    batch_size = hparams.batch_size
    steps_per_epoch = len(dataset.train) // batch_size
    steps = validate_every // batch_size if validate_every else steps_per_epoch
    epochs_per_row = steps / steps_per_epoch
    # Keras calls the time between two validations an epoch.
    validations = math.ceil((stop_epoch or hparams.epochs) * steps_per_epoch / steps)
    has_validation = len(dataset.validation) > 0
    validation_split = dataset.validation if has_validation else dataset.test
    images = dataset.images if learner.streamed else None
    augmentation = learner.augmentation

    distributed.run_on_primary(lambda: run.write_environment(device.environment(dataset.checksum)))
    throughput = Throughput(steps * batch_size)
    resume = ResumeCheckpoint(run, throughput, steps, has_validation and not keep_last, save_minutes)
    done = resume.restore(learner)
    if done >= validations:
        return
    # Images of a folder are sorted by class.
    count = min(CHECK_IMAGES, len(validation_split))
    checked = validation_split.samples[np.linspace(0, len(validation_split) - 1, count).astype(int)]
    check = pipelines.index_batch(checked, augmentation, images)
    callbacks = [
        StopOnInterrupt(),
        Heartbeat(),
        *learner.fit_callbacks(
            samples=dataset.train.samples,
            batch_size=batch_size,
            seed=seed,
            steps=steps,
            eval_samples=validation_split.samples,
        ),
        StopOnNonFiniteLoss(run),
        *([StopOnConstantOutput(run, check)] if count > 1 else []),
        throughput,
    ]
    if distributed.is_primary():
        callbacks += [
            LongTraining(validations, steps, batch_size, learner.network.name),
            MetricsCSV(run, epochs_per_row),
            Progress(validations, steps, learner.network.name, epochs_per_row=epochs_per_row),
            resume,  # last: the files of the epochs that it counts must be on disk
        ]

    def fit_rows(first: int, last: int, begun_steps: int, callbacks: Any) -> None:
        learner.fit(
            pipelines.train_batches(
                dataset.train.samples,
                batch_size,
                seed=seed,
                augmentation=augmentation,
                first_step=first * steps + begun_steps,
                images=images,
            ),
            steps_per_epoch=steps - begun_steps,
            initial_epoch=first,
            epochs=last,
            validation_data=pipelines.eval_batches(
                validation_split.samples, EVAL_BATCH_SIZE, augmentation, images
            ),
            shuffle=False,
            verbose=0,
            callbacks=callbacks,
        )

    with interrupt.deferred():
        if begun := resume.begun_steps:  # Keras can't begin within an epoch: the rest is a fit of its own
            rest = ResumedRow(callbacks, begun, lambda: resume.restore_running_metrics(learner), learner)
            fit_rows(done, done + 1, begun, rest)
            done += 1
        if done < validations:
            fit_rows(done, validations, 0, callbacks)
    distributed.barrier()  # until the primary process has written the last epoch


def score_and_save(
    learner: Learner,
    dataset: Dataset,
    run: Run,
    hparams: HParams,
    details: RunDetails,
    keep_last: bool = False,
) -> RunResult:
    """Score the run's network on the test images; write confusion.csv, predictions.npz and result.json.

    Scores and predictions are those of `float32_copy`, the form that is exported and evaluated. The
    validation accuracy is the one in `metrics.csv` that selected the network, in the precision of the
    training.

    Args:
        hparams: what the network was trained with.
        details: the part of the result that only the recipe has.
        keep_last: as for `fit`.

    Returns:
        The record in `result.json`.

    Raises:
        KappError: `model.keras` is damaged.
    """
    started = time.perf_counter()
    rows = run.metrics_rows()
    has_validation = len(dataset.validation) > 0
    # The first, where several are equal.
    best = rows[-1]
    if has_validation and not keep_last:
        best = max(rows, key=lambda row: row["val_accuracy"])
    load_best(learner.scored_network, run)
    scored = learner.in_float32()
    test, validation = predict(scored, dataset.test), predict(scored, dataset.validation)
    labels, classes = dataset.test.labels, dataset.classes
    result = RunResult(
        **vars(details),
        dataset=dataset.name,
        hyperparameters=to_json(hparams) | to_json(learner.augmentation),
        precision=mixed_precision.policy_of(learner.network),
        scoring_precision=mixed_precision.policy_of(scored.network),
        backend=keras.backend.backend(),
        device=device.name(),
        commit=device.commit(),
        epochs=hparams.epochs,
        best_epoch=best["epoch"],
        parameters=learner.network.count_params(),
        flops=count_flops(learner.network),
        train_images=len(dataset.train),
        labeled_images=dataset.labeled_images,
        unlabeled_images=dataset.unlabeled_images,
        validation_images=len(dataset.validation),
        test_images=len(dataset.test),
        val_accuracy=best["val_accuracy"] if has_validation else None,
        **classification.score(test, labels),
        train_images_per_second=median(row["images_per_second"] for row in rows[1:] or rows),  # 1 compiles
        seconds=sum(row["seconds"] for row in rows) + time.perf_counter() - started,
    )
    if distributed.is_primary():
        run.write_confusion(classification.confusion(labels, test.argmax(axis=-1), len(classes)), classes)
        run.write_predictions(
            Predictions(*_columns(dataset.test, test), *_columns(dataset.validation, validation))
        )
        run.write_result(result)
        run.delete_checkpoints()
    distributed.barrier()
    return result


def predict(learner: Learner, split: Split) -> np.ndarray:
    """Logits (n, classes), float32, of the images of `split` in their order."""
    if not len(split):
        return np.zeros((0, learner.network.output_shape[-1]), np.float32)
    images = split.all_images if learner.streamed else None
    batches = pipelines.eval_batches(split.samples, EVAL_BATCH_SIZE, learner.augmentation, images)
    return np.asarray(learner.predict(batches, verbose=0, callbacks=[Heartbeat()]))


def load_best(network: keras.Model, run: Run) -> None:
    """Load the weights of the run's `model.keras` into `network`.

    Raises:
        KappError: the file is damaged, or isn't that of the checkpoint.
    """
    run.check_model()
    try:
        network.load_weights(run.model_file)
    except Exception as error:  # Keras raises what its zip, JSON and HDF5 raise
        raise KappError(f"{run.model_file} is damaged ({error}). Start again with --overwrite.") from error


def _columns(split: Split, logits: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Samples, labels, float16 logits and classes, as `Predictions` has them."""
    largest = np.finfo(np.float16).max
    half = logits.clip(-largest, largest).astype(np.float16)
    return split.samples, split.labels, half, logits.argmax(axis=-1).astype(np.int32)
