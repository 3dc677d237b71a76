"""Validation overlap: how many validation images a teacher, or a transfer's source, was trained on."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from kapp.data.dataset import Dataset
from kapp.fileio import is_folder
from kapp.run_folder import Run

Overlap = tuple[int | None, ...]  # one number per network; None: unknown
WAY_OUT = 'docs/own-teacher.md, section "Validation images", describes what to do.'


def training_samples(run: Run, dataset: Dataset) -> np.ndarray | None:
    """Returns the samples of `dataset` that the network of `run` was trained on, int32 (n,).

    A run trains on the first of the data set's training images, in the order of `hold_out`.

    Args:
        run: a finished run.
        dataset: from `load`.

    Returns:
        None where they are unknown: the run is of other data, or of a version of kapp with another order.
    """
    if run.config.data_sha256 != dataset.checksum:
        return None
    samples = dataset.train_order[: run.result.train_images - run.result.unlabeled_images]
    predictions = run.predictions()
    if predictions is None or np.isin(predictions.validation_samples, samples).any():
        return None  # no run trains on its own validation images
    return samples


def count(network: Path, dataset: Dataset) -> int | None:
    """Returns how many validation images of `dataset` a network was trained on; None: unknown.

    What a teacher of `network`, or the source of its transfer, was trained on counts, too.

    Args:
        network: a run folder or a .keras file. Of a file nothing is known.
        dataset: of the student, or the target of a transfer.
    """
    if not is_folder(network):
        return None
    run = Run(network)
    samples = training_samples(run, dataset)
    if samples is None:
        return None
    trained_on = int(np.isin(dataset.validation.samples, samples).sum())
    inherited = run.result.validation_overlap
    if trained_on or not inherited:
        return trained_on
    # `inherited` was counted on the validation images of `run`. A smaller validation set is a subset of
    # these; a larger one has other images as well.
    is_known = set(inherited) == {0} and len(dataset.validation) <= run.result.validation_images
    return 0 if is_known else None


def count_source(source: Path, dataset: Dataset) -> Overlap:
    """Returns `count` for the source of a transfer to `dataset`; () where it is of other images.

    Args:
        source: a run folder; or a .keras file, which is taken to be of other images.
    """
    if not is_folder(source):
        return ()
    run = Run(source)
    same_data = run.config.data_sha256 == dataset.checksum
    same_origin = _origin(run.result.dataset) == _origin(dataset.name)
    return (count(source, dataset),) if same_data or same_origin else ()


def warning(
    role: Literal["teacher", "source"], names: Sequence[str], overlap: Overlap, validation_images: int
) -> str:
    """Returns the warning about networks that were, or may have been, trained on validation images.

    Args:
        role: of the networks.
        names: of the networks.
        overlap: for each network; () where it doesn't apply.
        validation_images: number of validation images.

    Returns:
        Sentences; "" where no network was trained on a validation image, or there are none.

    Example:

    >>> warning("teacher", ["mine"], (9000,), 10_000).partition(". ")[0]
    'The teacher mine was trained on 9,000 of the 10,000 validation images'
    >>> warning("teacher", ["mine"], (0,), 10_000)
    ''
    """
    facts = []
    for name, each in zip(names, overlap):
        if each is None:
            fact = f"It is unknown whether the {role} {name} was trained on the"
        else:
            fact = f"The {role} {name} was trained on {each:,} of the"
        if each != 0:
            facts += [f"{fact} {validation_images:,} validation images."]
    if not facts or not validation_images:
        return ""
    start = "The" if any(overlap) else "If so, the"
    new = {"teacher": "student", "source": "new network"}[role]
    return (
        f"{' '.join(facts)} {start} validation accuracy of the {role} and of the {new} is too high. "
        f"Do not choose between {new}s by it. Test accuracy is not affected. {WAY_OUT}"
    )


def _origin(name: str) -> str:
    """The data set that contains the images of the data set called `name`."""
    return "cifar100" if name.startswith("cifar100:") else name
