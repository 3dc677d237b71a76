"""The papers' notation for networks: text -> steps.

Words are joined by `-`:

    64c         a 3x3 convolution with 64 filters, padded, stride 1
    96c5x5      another kernel
    96c/2       another stride
    192cv       unpadded ("valid"); `192cp3` padded by 3 pixels on each side
    mp          2x2 max pooling, stride 2; `mp3x3/2` has 3x3 windows, `mp3x3/2v` unpadded ones
    ap6x6       6x6 average pooling, stride 6, unpadded
    gap         global average pooling
    d0.2        dropout with probability 0.2; `sd0.2` drops whole channels
    relu        after the classes only: elsewhere it goes without saying
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
    padding: int | None = None  # pixels on each side; None: as many as keep the map's size at stride 1


@dataclass(frozen=True)
class Dense:
    units: int


@dataclass(frozen=True)
class Pooling:
    size: int = 2
    stride: int = 2
    padded: bool = True  # where windows overlap: to cover the map's edge


@dataclass(frozen=True)
class AveragePooling:
    size: int


@dataclass(frozen=True)
class GlobalAveragePooling:
    pass


@dataclass(frozen=True)
class Dropout:
    rate: float
    channels: bool = False  # drops whole channels


@dataclass(frozen=True)
class Relu:
    pass


Step = Convolution | Dense | Pooling | AveragePooling | GlobalAveragePooling | Dropout | Relu

_COUNT = r"([1-9]\d*)"
_KERNEL = rf"(?:{_COUNT}x{_COUNT})?"
_STRIDE = rf"(?:/{_COUNT})?"
_REPEAT = rf"(?:\^{_COUNT})?"
_CONVOLUTION = re.compile(rf"{_COUNT}c{_KERNEL}{_STRIDE}(v|p\d+)?{_REPEAT}")
_DENSE = re.compile(rf"{_COUNT}fc{_REPEAT}")
_POOLING = re.compile(rf"mp{_KERNEL}{_STRIDE}(v?)")
_AVERAGE = re.compile(rf"ap{_COUNT}x{_COUNT}")
_DROPOUT = re.compile(r"(s?)d(0?\.\d+)")
FORMS = (
    "64c, 64c^8, 96c5x5, 96c/2, 192cv, 192cp3, mp, mp3x3/2, ap6x6, gap, d0.2, sd0.2, 1200fc, 1200fc^2, relu"
)


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


def with_dropout(notation: str, rate: float) -> str:
    """`notation` with dropout of probability `rate` after each hidden fully connected layer or, where there
    is none, before the layer of the classes; a rate of 0 adds nothing.

    Raises:
        WrongValue: it has dropout already, or isn't a notation.
    """
    steps = parse(notation)
    if any(isinstance(step, Dropout) for step in steps):
        raise WrongValue(f"{notation!r} has dropout already: it takes no other.")
    drop = f"d{rate:.4f}".rstrip("0")
    if drop == "d0.":
        return notation
    words = [each for word in notation.split("-") for each in _repeated(word.strip())]
    last = max(i for i, word in enumerate(words) if isinstance(parse(f"{word}-1fc")[0], Convolution | Dense))
    hidden = [i for i in range(last) if isinstance(parse(f"{words[i]}-1fc")[0], Dense)]
    after = hidden or [last - 1]
    dropped = [[word, drop] if i in after else [word] for i, word in enumerate(words)]
    return "-".join([*([drop] if after == [-1] else []), *(each for words in dropped for each in words)])


def _repeated(word: str) -> list[str]:
    """64fc^2 -> 64fc, 64fc; other words as they are."""
    match = _DENSE.fullmatch(word)
    return [f"{match[1]}fc"] * int(match[2] or 1) if match else [word]


def _steps(word: str, notation: str) -> list[Step]:
    if match := _CONVOLUTION.fullmatch(word):
        filters, rows, columns, stride, edge, repeat = match.groups()
        kernel = _square(rows, columns, 3, word)
        padding = None if edge is None else int(edge[1:] or 0)
        step = Convolution(int(filters), kernel, int(stride or 1), padding)
        return [step] * int(repeat or 1)
    if match := _DENSE.fullmatch(word):
        units, repeat = match.groups()
        return [Dense(int(units))] * int(repeat or 1)
    if match := _POOLING.fullmatch(word):
        rows, columns, stride, valid = match.groups()
        size = _square(rows, columns, 2, word)
        return [Pooling(size, int(stride or size), padded=not valid)]
    if match := _AVERAGE.fullmatch(word):
        rows, columns = match.groups()
        return [AveragePooling(_square(rows, columns, 1, word))]
    if match := _DROPOUT.fullmatch(word):
        return [Dropout(float(match[2]), channels=bool(match[1]))]
    if word in ("gap", "relu"):
        return [GlobalAveragePooling() if word == "gap" else Relu()]
    raise WrongValue(f"{word!r} in {notation!r} is not a layer. Accepted forms: {FORMS}.")


def _square(rows: str | None, columns: str | None, default: int, word: str) -> int:
    if rows != columns:
        raise WrongValue(f"{word!r} is not square. Accepted forms: {FORMS}.")
    return int(rows or default)
