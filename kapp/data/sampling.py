"""The epoch plan: the order of the samples in each epoch, and the view of each sample.

The plan is a function of (seed, epoch). It is computed on the host from raw generator bits, which are the
same in every version of NumPy. So every backend, machine and resumed run trains on the same images.
"""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from kapp.errors import ConfigError

ERASED_AREA = (0.02, 0.4)  # of the image; Zhong et al. 2017, section 4.2
ERASED_RATIO = (0.3, 1 / 0.3)  # height / width
GRID = 2**16  # fractions of an image are multiples of 1 / GRID: float32 compares them with pixels exactly
# The columns of `view_params`. Places are fractions of the height or width, from the top left corner.
PARAMS = (
    "zoom", "zoom_top", "zoom_left",  # the side of the crop, and where it begins
    "brightness", "chroma_cos", "chroma_sin",  # factors: see `kapp.data.augmentation.recolor`
    "erased_top", "erased_bottom", "erased_left", "erased_right",
    "mix_weight",  # of the image itself where it is blended with its partner
    "pasted_top", "pasted_bottom", "pasted_left", "pasted_right",  # where its partner's pixels are pasted
)  # fmt: skip


@dataclass(frozen=True)
class Augmentation:
    """The views of an image.

    Random crops of the padded image and their mirror images are numbered views: the defaults have 2 x 9 x 9 =
    162 of them (Ratusznik et al., section 3). The other settings are off by default. Each draws real numbers
    for every image and epoch, so that no view comes again.

    Args:
        crop_padding: integer, number of black pixels added at each side before the crop.
        flip: whether half of the views are mirrored horizontally.
        crop_scale: the smallest fraction of the image's area in a random square crop, which is resized to the
            whole image; 1: no such crop.
        hue: the largest rotation of the colors, as a fraction of the full circle, up to 0.5.
        saturation, brightness: the largest relative change, up to 1.
        random_erasing: the probability that a random rectangle is replaced by the image's mean color (Zhong
            et al. 2017).
        mixup: alpha of mixup: images are blended with weights from Beta(alpha, alpha) (Zhang et al. 2018).
        cutmix: alpha of CutMix: a rectangle is replaced by that of another image, whose area has the
            distribution Beta(alpha, alpha) (Yun et al. 2019). With mixup, each image gets one of the two.
        flip_order: random: whether a view is mirrored is drawn anew in each epoch. alternating: an image is
            mirrored in every other epoch; whether in the first is drawn once per image (Jordan 2024).

    Example:

    >>> augmentation = Augmentation(crop_padding=4, flip=True)
    >>> augmentation.count
    162
    >>> augmentation.decode(augmentation.identity)
    (0, 4, 4)
    """

    crop_padding: int = 4
    flip: bool = True
    crop_scale: float = 1.0
    hue: float = 0.0
    saturation: float = 0.0
    brightness: float = 0.0
    random_erasing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    flip_order: str = "random"

    @property
    def settings(self) -> dict[str, Any]:
        """What the views are: the crops, the flip, and the other settings that aren't off."""
        values = dataclasses.asdict(self)
        del values["flip_order"]  # which view comes when
        off = dataclasses.asdict(Augmentation(self.crop_padding, self.flip))
        return {
            name: value
            for name, value in values.items()
            if name in ("crop_padding", "flip") or value != off[name]
        }

    @property
    def repeats(self) -> bool:
        """Whether all views are numbered, so that a view may come again."""
        return self.settings.keys() == {"crop_padding", "flip"}

    @property
    def mixes(self) -> bool:
        """Whether a view contains two images, and so has two labels."""
        return self.mixup > 0 or self.cutmix > 0

    def check_image_shape(self, image_shape: tuple[int, int, int]) -> None:
        """Refuses a change of colors for images that have none.

        Raises:
            ConfigError: hue or saturation, and not three channels.
        """
        if (self.hue or self.saturation) and image_shape[-1] != 3:
            raise ConfigError(
                f"--hue and --saturation are for RGB images, not for images of {image_shape}: leave them out."
            )

    @property
    def crops(self) -> int:
        """Number of positions of the crop along one axis."""
        return 2 * self.crop_padding + 1

    @property
    def count(self) -> int:
        """Number of numbered views."""
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
    if augmentation.flip and augmentation.flip_order == "alternating":
        starts = np.random.Philox(np.random.SeedSequence([seed, 0, 2])).random_raw(num_samples) & np.uint64(1)
        is_flipped = (starts[order].astype(np.int32) + epoch) % 2
        view = view % augmentation.crops**2 + is_flipped * augmentation.crops**2
    return EpochPlan(order, view)


def view_params(seed: int, epoch: int, num_samples: int, augmentation: Augmentation) -> np.ndarray:
    """Returns the real numbers of the views of an epoch, one row per position of the epoch plan.

    They come from another stream of bits than the plan: with them, the order, the crops and the flips are the
    same as without. A setting that is turned on changes none of the others.

    Args:
        seed, epoch, num_samples, augmentation: as for `epoch_plan`.

    Returns:
        float32 (num_samples, len(PARAMS)).
    """
    generator = np.random.Philox(np.random.SeedSequence([seed, epoch, 1]))
    bits = generator.random_raw(15 * num_samples).reshape(15, num_samples)
    uniform = iter((bits >> np.uint64(11)) * 2.0**-53)  # float64 from 0, below 1
    values: dict[str, np.ndarray] = {}
    for draw in (_zooms, _colors, _erased, _mixed):  # each takes its own share of the bits
        values |= draw(uniform, augmentation)
    return np.stack([values[name] for name in PARAMS], axis=1).astype(np.float32)


def _zooms(uniform: Iterator[np.ndarray], augmentation: Augmentation) -> dict[str, np.ndarray]:
    side = np.sqrt(_between(next(uniform), augmentation.crop_scale, 1.0))
    top, left = (_on_grid(next(uniform) * (1 - side)) for _ in range(2))
    return {"zoom": side, "zoom_top": top, "zoom_left": left}


def _colors(uniform: Iterator[np.ndarray], augmentation: Augmentation) -> dict[str, np.ndarray]:
    hue, saturation, brightness = (
        _between(next(uniform), -limit, limit)
        for limit in (augmentation.hue, augmentation.saturation, augmentation.brightness)
    )
    angle = 2 * np.pi * hue
    return {
        "brightness": 1 + brightness,
        "chroma_cos": (1 + saturation) * np.cos(angle),
        "chroma_sin": (1 + saturation) * np.sin(angle) / np.sqrt(3),
    }


def _erased(uniform: Iterator[np.ndarray], augmentation: Augmentation) -> dict[str, np.ndarray]:
    is_erased = next(uniform) < augmentation.random_erasing
    area = _between(next(uniform), *ERASED_AREA)
    ratio = np.exp(_between(next(uniform), *np.log(ERASED_RATIO)))
    values: dict[str, np.ndarray] = {}
    for low, high, size in (
        ("top", "bottom", np.sqrt(area * ratio)),
        ("left", "right", np.sqrt(area / ratio)),
    ):
        size = np.minimum(size, 1.0) * is_erased  # Zhong et al. draw again where it is larger
        start = next(uniform) * (1 - size)
        values |= {f"erased_{low}": _on_grid(start), f"erased_{high}": _on_grid(start + size)}
    return values


def _mixed(uniform: Iterator[np.ndarray], augmentation: Augmentation) -> dict[str, np.ndarray]:
    chance, quantile = next(uniform), next(uniform)
    weights = [np.ones_like(quantile)] * 2
    if augmentation.mixes:
        from scipy.special import betaincinv  # late: half a second to import

        alphas = augmentation.mixup, augmentation.cutmix
        weights = [betaincinv(alpha, alpha, quantile) if alpha else weights[0] for alpha in alphas]
    both = augmentation.mixup > 0 and augmentation.cutmix > 0
    is_blended = chance < 0.5 if both else np.full(len(chance), augmentation.mixup > 0)
    side = np.where(is_blended, 0.0, np.sqrt(1 - weights[1]))
    values = {"mix_weight": np.where(is_blended, weights[0], 1.0)}
    for low, high in (("top", "bottom"), ("left", "right")):
        center = next(uniform)  # the part outside of the image is cut off: Yun et al. 2019, their code
        values[f"pasted_{low}"] = _on_grid(np.maximum(center - side / 2, 0.0))
        values[f"pasted_{high}"] = _on_grid(np.minimum(center + side / 2, 1.0))
    return values


def _between(uniform: np.ndarray, low: float, high: float) -> np.ndarray:
    return low + (high - low) * uniform


def _on_grid(fraction: np.ndarray) -> np.ndarray:
    return np.round(fraction * GRID) / GRID


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

    A smaller training set is a subset of a larger one, and a smaller validation set of a larger one.
    `train_images` selects the same samples for any number of validation images, as long as they fit.

    Args:
        order: integers (n,), from `stratified_order`.
        validation_images: number of samples held out, from 0 to n.
        train_images: maximum number of training samples; at most a quarter as many, and at least one,
            are held out.

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
