"""The papers' notation for networks: text -> layer specs.

Words are joined by `-`:

    64c         3x3 convolution with 64 filters, padded, stride 1
    96c5x5      another kernel
    96c/2       another stride
    192cv       unpadded ("valid"); `192cp3` padded by 3 pixels on each side
    mp          2x2 max pooling, stride 2; `mp3x3/2` has 3x3 windows, `mp3x3/2v` unpadded ones
    ap6x6       6x6 average pooling, stride 6, unpadded
    gap         global average pooling
    d0.2        dropout with probability 0.2; `sd0.2` drops whole channels
    relu        after the output layer only: it follows each hidden layer by default
    1200fc      fully connected layer of 1200 units
    64c^8       the word eight times

`res-` before all words adds a skip connection to each pair of convolutions (`registry.get_spec`).

`c`, `fc`, `mp` and `^` are as in tables 1 and 2 of Ratusznik et al.; the papers say the rest in prose. The
last `fc` or `c` (`10fc`, `10c1x1`) is the output layer: its units are the classes, its outputs the logits.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from kapp.errors import ConfigError


@dataclass(frozen=True)
class Convolution:
    filters: int
    kernel_size: int = 3
    strides: int = 1
    padding: int | None = None  # pixels on each side; None: as many as keep the map's size at stride 1


@dataclass(frozen=True)
class Dense:
    units: int


@dataclass(frozen=True)
class Pooling:
    pool_size: int = 2
    strides: int = 2
    padded: bool = True  # to cover the edge of the map, if windows overlap


@dataclass(frozen=True)
class AveragePooling:
    pool_size: int


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


LayerSpec = Convolution | Dense | Pooling | AveragePooling | GlobalAveragePooling | Dropout | Relu
LayerSpecs = tuple[LayerSpec, ...]

_COUNT = r"([1-9]\d{0,8})"
_KERNEL = rf"(?:{_COUNT}x{_COUNT})?"
_STRIDE = rf"(?:/{_COUNT})?"
_REPEAT = r"(?:\^([1-9]\d{0,2}))?"
_CONVOLUTION = re.compile(rf"{_COUNT}c{_KERNEL}{_STRIDE}(v|p\d{{1,9}})?{_REPEAT}")
_DENSE = re.compile(rf"{_COUNT}fc{_REPEAT}")
_POOLING = re.compile(rf"mp{_KERNEL}{_STRIDE}(v?)")
_AVERAGE = re.compile(rf"ap{_COUNT}x{_COUNT}")
_DROPOUT = re.compile(r"(s?)d(0?\.\d+)")
FORMS = (
    "64c, 64c^8, 96c5x5, 96c/2, 192cv, 192cp3, mp, mp3x3/2, ap6x6, gap, d0.2, sd0.2, 1200fc, 1200fc^2, relu"
)


def parse(notation: str) -> LayerSpecs:
    """Returns the layers of `notation`, from the image to the logits.

    Raises:
        ConfigError: a word has none of the forms above, or there is no `fc` or `c`.

    Example:

    >>> parse("64c-mp-10fc")[0]
    Convolution(filters=64, kernel_size=3, strides=1, padding=None)
    """
    specs = tuple(spec for word in notation.split("-") for spec in _parse_word(word.strip(), notation))
    if not any(isinstance(spec, Convolution | Dense) for spec in specs):
        raise ConfigError(f"{notation!r} has no layer for the classes: end it with 10fc or 10c1x1-gap.")
    return specs


def scale(specs: LayerSpecs, width: float, classes: int) -> LayerSpecs:
    """Returns `specs` with `width` times the filters and units, and an output layer for `classes`.

    Example:

    >>> scale(parse("2048fc-10fc"), width=0.5, classes=3)
    (Dense(units=1024), Dense(units=3))
    """
    output = output_layer_index(specs)

    def scaled(index: int, spec: LayerSpec) -> LayerSpec:
        match spec:
            case Convolution(filters=size) | Dense(units=size):
                size = classes if index == output else max(1, round(size * width))
                return replace(spec, filters=size) if isinstance(spec, Convolution) else Dense(size)
        return spec

    return tuple(scaled(index, spec) for index, spec in enumerate(specs))


def output_layer_index(specs: Sequence[LayerSpec]) -> int:
    """Returns the index of the layer that computes the logits."""
    return max(i for i, spec in enumerate(specs) if isinstance(spec, Convolution | Dense))


def with_dropout(notation: str, rate: float) -> str:
    """Returns `notation` with dropout after each hidden fully connected layer, or before the output layer.

    Args:
        notation: of a network without dropout.
        rate: probability; below 0.00005 nothing is added.

    Raises:
        ConfigError: there is dropout already, or `notation` isn't valid.

    Example:

    >>> with_dropout("2048fc^2-10fc", 0.25)
    '2048fc-d0.25-2048fc-d0.25-10fc'
    """
    if any(isinstance(spec, Dropout) for spec in parse(notation)):
        raise ConfigError(f"{notation!r} has dropout already: it takes no other.")
    dropout = f"d{rate:.4f}".rstrip("0")
    if dropout == "d0.":
        return notation
    words = [each for word in notation.split("-") for each in _repeat_dense(word.strip())]
    specs = [_parse_word(word, notation)[0] for word in words]
    output = output_layer_index(specs)
    hidden = [i for i in range(output) if isinstance(specs[i], Dense)]
    for i in reversed(hidden or [output - 1]):
        words.insert(i + 1, dropout)
    return "-".join(words)


def _repeat_dense(word: str) -> list[str]:
    """64fc^2 -> 64fc, 64fc; other words are unchanged."""
    match = _DENSE.fullmatch(word)
    return [f"{match[1]}fc"] * int(match[2] or 1) if match else [word]


def _parse_word(word: str, notation: str) -> list[LayerSpec]:
    if match := _CONVOLUTION.fullmatch(word):
        filters, rows, columns, strides, edge, repeat = match.groups()
        padding = None if edge is None else int(edge[1:] or 0)
        spec = Convolution(int(filters), _square(rows, columns, 3, word), int(strides or 1), padding)
        return [spec] * int(repeat or 1)
    if match := _DENSE.fullmatch(word):
        units, repeat = match.groups()
        return [Dense(int(units))] * int(repeat or 1)
    if match := _POOLING.fullmatch(word):
        rows, columns, strides, valid = match.groups()
        size = _square(rows, columns, 2, word)
        return [Pooling(size, int(strides or size), padded=not valid)]
    if match := _AVERAGE.fullmatch(word):
        return [AveragePooling(_square(match[1], match[2], 1, word))]
    if match := _DROPOUT.fullmatch(word):
        return [Dropout(float(match[2]), channels=bool(match[1]))]
    if word in ("gap", "relu"):
        return [GlobalAveragePooling() if word == "gap" else Relu()]
    raise ConfigError(f"{word!r} in {notation!r} is not a layer. Accepted forms: {FORMS}.")


def _square(rows: str | None, columns: str | None, default: int, word: str) -> int:
    if rows != columns:
        raise ConfigError(f"{word!r} is not square. Accepted forms: {FORMS}.")
    return int(rows or default)
