"""The epoch table: (seed, epoch) -> the order of the samples and the view of each.

It is the only randomness in the data. Computed on the host from raw generator bits, whose stream NumPy
promises to keep, it is the same on every backend, machine and resumed run.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np


@dataclass(frozen=True)
class Views:
    """The views that an epoch draws from: crops of the image padded by `shift` pixels, and, with
    `flip`, their mirror images. The defaults are 2 x 9 x 9 = 162 views (paper D, section 3)."""

    shift: int = 4
    flip: bool = True

    @property
    def crops(self) -> int:
        """Positions of the crop along one axis."""
        return 2 * self.shift + 1

    @property
    def count(self) -> int:
        return (2 if self.flip else 1) * self.crops**2

    @property
    def identity(self) -> int:
        """The view that is the image itself."""
        return self.shift * self.crops + self.shift

    def decode(self, view: Any) -> tuple[Any, Any, Any]:
        """`view` (an integer or an array of them) as (flipped: 0 or 1, dy, dx): rows dy, dy + 1, ... of
        the padded image and columns dx, dx + 1, ..., the columns reversed when flipped."""
        return view // self.crops**2, view // self.crops % self.crops, view % self.crops


class Epoch(NamedTuple):
    order: np.ndarray  # int32 (samples,): position in the epoch -> sample
    view: np.ndarray  # int32 (samples,): position in the epoch -> its view


def table(seed: int, epoch: int, samples: int, views: Views) -> Epoch:
    """What epoch `epoch` (from 0) of the run seeded `seed` shows: every sample once, in one view."""
    bits = np.random.Philox(np.random.SeedSequence([seed, epoch])).random_raw(2 * samples)
    order = np.argsort(bits[:samples], kind="stable").astype(np.int32)
    return Epoch(order, (bits[samples:] % np.uint64(views.count)).astype(np.int32))


def stratified(labels: np.ndarray, seed: int) -> np.ndarray:
    """A seeded order of the samples (int64, (n,)) in which every prefix, and so every contiguous part,
    holds each class in proportion, to within an image or two."""
    random = np.random.Philox(np.random.SeedSequence([seed])).random_raw(len(labels))
    by_class = np.lexsort((random, labels))
    counts = np.bincount(labels)
    starts = np.cumsum(counts) - counts
    rank = np.empty(len(labels))
    rank[by_class] = np.arange(len(labels)) - np.repeat(starts, counts)
    # Each class deals out its images at even steps between 0 and 1.
    return np.lexsort((random, (rank + 0.5) / counts[labels]))
