"""The papers' notation for networks: text -> steps.

Words are joined by `-`:

    64c         a 3x3 convolution with 64 filters, padded, stride 1
    96c5x5      another kernel
    96c/2       another stride
    192cv       unpadded ("valid")
    mp          2x2 max pooling, stride 2; `mp3x3/2` has 3x3 windows
    gap         global average pooling
    d0.2        dropout with probability 0.2
    1200fc      a fully connected layer of 1200 units
    64c^8       the word eight times

`c`, `fc`, `mp` and `^` are as tables 1 and 2 of paper D print them; the rest says what the papers say
in prose. The last counted word (`10fc`, `10c1x1`) holds the classes: it yields the logits.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from kapp.errors import WrongValue


@dataclass(frozen=True)
class Convolution:
    filters: int
    kernel: int = 3
    stride: int = 1
    padded: bool = True


@dataclass(frozen=True)
class Dense:
    units: int


@dataclass(frozen=True)
class Pooling:
    size: int = 2
    stride: int = 2


@dataclass(frozen=True)
class GlobalAveragePooling:
    pass


@dataclass(frozen=True)
class Dropout:
    rate: float


Step = Convolution | Dense | Pooling | GlobalAveragePooling | Dropout

_COUNT = r"([1-9]\d*)"
_KERNEL = rf"(?:{_COUNT}x{_COUNT})?"
_STRIDE = rf"(?:/{_COUNT})?"
_REPEAT = rf"(?:\^{_COUNT})?"
_CONVOLUTION = re.compile(rf"{_COUNT}c{_KERNEL}{_STRIDE}(v?){_REPEAT}")
_DENSE = re.compile(rf"{_COUNT}fc{_REPEAT}")
_POOLING = re.compile(rf"mp{_KERNEL}{_STRIDE}")
_DROPOUT = re.compile(r"d(0?\.\d+)")
FORMS = "64c, 64c^8, 96c5x5, 96c/2, 192cv, mp, mp3x3/2, gap, d0.2, 1200fc, 1200fc^2"


def parse(notation: str) -> tuple[Step, ...]:
    """The steps of `notation`, one a layer, from the image to the logits.

    Raises:
        WrongValue: a word isn't of the forms above, or no `fc` or `c` is there to yield the logits.
    """
    steps = tuple(step for word in notation.split("-") for step in _steps(word.strip(), notation))
    if not any(isinstance(step, Convolution | Dense) for step in steps):
        raise WrongValue(f"{notation!r} has no layer for the classes: end it with 10fc or 10c1x1-gap.")
    return steps


def scale(steps: tuple[Step, ...], width: float, classes: int) -> tuple[Step, ...]:
    """The same steps with `width` times the filters and units, and `classes` in the last of them."""
    last = last_counted(steps)

    def scaled(i: int, count: int) -> int:
        return classes if i == last else max(1, round(count * width))

    return tuple(
        replace(step, filters=scaled(i, step.filters))
        if isinstance(step, Convolution)
        else Dense(scaled(i, step.units))
        if isinstance(step, Dense)
        else step
        for i, step in enumerate(steps)
    )


def last_counted(steps: Sequence[Step]) -> int:
    """Where the step that yields the logits stands."""
    return max(i for i, step in enumerate(steps) if isinstance(step, Convolution | Dense))


def _steps(word: str, notation: str) -> list[Step]:
    if match := _CONVOLUTION.fullmatch(word):
        filters, rows, columns, stride, valid, repeat = match.groups()
        kernel = _square(rows, columns, 3, word)
        step = Convolution(int(filters), kernel, int(stride or 1), padded=not valid)
        return [step] * int(repeat or 1)
    if match := _DENSE.fullmatch(word):
        units, repeat = match.groups()
        return [Dense(int(units))] * int(repeat or 1)
    if match := _POOLING.fullmatch(word):
        rows, columns, stride = match.groups()
        size = _square(rows, columns, 2, word)
        return [Pooling(size, int(stride or size))]
    if match := _DROPOUT.fullmatch(word):
        return [Dropout(float(match[1]))]
    if word == "gap":
        return [GlobalAveragePooling()]
    raise WrongValue(f"{word!r} in {notation!r} is not a layer. Accepted forms: {FORMS}.")


def _square(rows: str | None, columns: str | None, default: int, word: str) -> int:
    if rows != columns:
        raise WrongValue(f"{word!r} is not square. Accepted forms: {FORMS}.")
    return int(rows or default)
