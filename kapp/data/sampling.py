"""The epoch plan: the order of the samples in each epoch, and the view of each sample.

The plan is a function of (seed, epoch). It is computed on the host from raw generator bits, which are the
same in every version of NumPy. So every backend, machine and resumed run trains on the same images.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np


@dataclass(frozen=True)
class Augmentation:
    """The views of an image: random crops of the padded image, and their mirror images.

    The defaults have 2 x 9 x 9 = 162 views (Ratusznik et al., section 3).

    Args:
        crop_padding: integer, number of black pixels added at each side before the crop.
        flip: whether half of the views are mirrored horizontally.

    Example:

    >>> augmentation = Augmentation(crop_padding=4, flip=True)
    >>> augmentation.count
    162
    >>> augmentation.decode(augmentation.identity)
    (0, 4, 4)
    """

    crop_padding: int = 4
    flip: bool = True

    @property
    def crops(self) -> int:
        """Number of positions of the crop along one axis."""
        return 2 * self.crop_padding + 1

    @property
    def count(self) -> int:
        """Number of views."""
        return (2 if self.flip else 1) * self.crops**2

    @property
    def identity(self) -> int:
        """The view that is the image itself."""
        return self.crop_padding * self.crops + self.crop_padding

    def decode(self, view: Any) -> tuple[Any, Any, Any]:
        """Returns (flipped, dy, dx) of a view.

        Args:
            view: integer, or integer array or tensor of any shape.

        Returns:
            flipped: 1 where the crop is mirrored, else 0; dy, dx: the first row and column of the crop in the
            padded image. Each has the type and shape of `view`.
        """
        return view // self.crops**2, view // self.crops % self.crops, view % self.crops


class EpochPlan(NamedTuple):
    """The samples of one epoch in order, and the view of each."""

    order: np.ndarray  # int32 (n,): position in the epoch -> sample
    view: np.ndarray  # int32 (n,): position in the epoch -> view of that sample


def epoch_plan(seed: int, epoch: int, num_samples: int, augmentation: Augmentation) -> EpochPlan:
    """Returns the plan of an epoch: every sample once, in one random view.

    Args:
        seed: integer, the seed of the run.
        epoch: integer from 0.
        num_samples: number of training images.
        augmentation: the views to choose from.

    Example:

    >>> epoch_plan(seed=0, epoch=0, num_samples=4, augmentation=Augmentation()).order.tolist()
    [0, 3, 1, 2]
    """
    bits = np.random.Philox(np.random.SeedSequence([seed, epoch])).random_raw(2 * num_samples)
    order = np.argsort(bits[:num_samples], kind="stable").astype(np.int32)
    view = (bits[num_samples:] % np.uint64(augmentation.count)).astype(np.int32)
    return EpochPlan(order, view)


def stratified_order(labels: np.ndarray, seed: int) -> np.ndarray:
    """Returns a random order of the samples in which every prefix contains the classes in proportion.

    Args:
        labels: integers (n,), from 0.
        seed: integer.

    Returns:
        int64 (n,), indices into `labels`. Any slice has the proportions of all labels, to within an image
        or two per class.

    Example:

    >>> labels = np.array([0, 0, 0, 0, 1, 1])
    >>> labels[stratified_order(labels, seed=0)[:3]].tolist()
    [0, 1, 0]
    """
    random = np.random.Philox(np.random.SeedSequence([seed])).random_raw(len(labels))
    by_class = np.lexsort((random, labels))
    counts = np.bincount(labels)
    starts = np.cumsum(counts) - counts
    rank = np.empty(len(labels))
    rank[by_class] = np.arange(len(labels)) - np.repeat(starts, counts)
    # Each class puts its images at even distances between 0 and 1.
    return np.lexsort((random, (rank + 0.5) / counts[labels]))


def hold_out(
    order: np.ndarray, validation_images: int, train_images: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the training samples, from the beginning of `order`, and the validation samples, from its end.

    So fewer training images are part of more, fewer validation images are part of more, and the same
    `train_images` are the same samples whatever is held out, as long as they fit.

    Args:
        order: integers (n,), from `stratified_order`.
        validation_images: number of samples held out, from 0 to n.
        train_images: maximum number of training samples; at most a quarter as many are held out.

    Example:

    >>> hold_out(np.arange(10), 3)
    (array([0, 1, 2, 3, 4, 5, 6]), array([7, 8, 9]))
    >>> hold_out(np.arange(10), 3, train_images=4)
    (array([0, 1, 2, 3]), array([9]))
    """
    count = len(order) - validation_images
    train, validation = order[:count], order[count:]
    if train_images is not None:
        train, validation = train[:train_images], validation[-max(1, train_images // 4) :]
    return train, validation
