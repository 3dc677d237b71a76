"""All networks by name, with their sources. Importing this module imports no Keras."""

from dataclasses import dataclass

from kapp.errors import ConfigError, unknown
from kapp.models.notation import Convolution, LayerSpecs, Pooling, output_layer_index, parse
from kapp.papers import jordan

RESIDUAL = "res-"  # before a notation


@dataclass(frozen=True)
class ModelSpec:
    """A network of the papers, or one that a user wrote as notation.

    Args:
        name: in kapp.
        paper_name: in its paper.
        notation: as built.
        source: paper and table.
        reported_parameters: as the paper prints them.
        residual: whether a skip connection is added to each pair of convolutions.
        batch_norm: whether batch normalization precedes each ReLU.
        airbench: whether it is that of Jordan 2024: its first convolution whitens 2x2 patches and is not
            trained, GELU follows each convolution, a pooling of 2x2 pixels comes before batch normalization.
        paper: the paper whose hyperparameters are the default.
        printed_notation: as the paper prints it, if that isn't `notation`.
    """

    name: str
    paper_name: str
    notation: str
    source: str
    reported_parameters: str
    residual: bool = False
    batch_norm: bool = True
    airbench: bool = False
    paper: str = "Ratusznik et al."
    printed_notation: str = ""

    @property
    def layers(self) -> LayerSpecs:
        return parse(self.notation)

    @property
    def has_pooling(self) -> bool:
        """Whether there is a pooling that a p-norm can compute."""
        return any(isinstance(layer, Pooling) for layer in self.layers)


_TABLE_1, _TABLE_2 = "Ratusznik et al., table 1", "Ratusznik et al., table 2"
_RATUSZNIK = (
    ModelSpec(
        "teacher_1", "Teacher-1", "76c^2-mp-d0.2-126c^2-mp-d0.3-148c^4-mp-d0.37-1200fc^2-d0.42-10fc",
        f"{_TABLE_1}; dropout: section 4.3.1", "5M",
        printed_notation="76c^2-mp-126c^2-mp-148c^4-mp-1200fc^2-10fc",
    ),
    ModelSpec(
        "deep_resnet", "Deep ResNet", "64c^8-128c^12-256c^16-gap-10fc",
        f"{_TABLE_1}; where it halves: kapp's choice", "10M",
        residual=True, printed_notation="64c^8-128c^12-256c^16",
    ),
    ModelSpec("conv_1", "3-layer-1-CONV", "64c-mp-640fc-10fc", _TABLE_2, "10M"),
    ModelSpec("conv_2", "4-layer-2-CONV", "64c^2-mp-600fc-10fc", _TABLE_2, "10M"),
    ModelSpec("linear_3", "3-layers, all linear", "2048fc^2-10fc", _TABLE_2, "10M"),
    ModelSpec("linear_4", "4-layers, all linear", "1200fc-2400fc-1800fc-10fc", _TABLE_2, "10M"),
    ModelSpec(
        "shallow_resnet", "Shallow-ResNet", "128c^2-512c^4-10fc",
        f"{_TABLE_2}; where it halves: kapp's choice", "10M",
        residual=True,
    ),
    ModelSpec(
        "deep_linear", "Deep linear", "256fc^8-512fc^6-1024fc^8-10fc",
        "Ratusznik et al., section 4.4 (20 layers in its text, 22 in its notation)", "10M",
        printed_notation="256fc^8-512fc^6-1024fc^8",
    ),
)  # fmt: skip
# Springenberg et al. 2014, tables 1 and 2 (forms A and B of table 2 are in the text): dropout of 20% on the
# input and of 50% after each pooling or its replacement; the last 3x3 convolution is unpadded, 8x8 to 6x6
# pixels; no batch normalization.
_END = "192cv-192c1x1-10c1x1-gap"
_SPRINGENBERG = (
    ("base_a", f"d0.2-96c5x5-mp3x3/2-d0.5-192c5x5-mp3x3/2-d0.5-{_END}"),
    ("base_b", f"d0.2-96c5x5-96c1x1-mp3x3/2-d0.5-192c5x5-192c1x1-mp3x3/2-d0.5-{_END}"),
    ("base_c", f"d0.2-96c^2-mp3x3/2-d0.5-192c^2-mp3x3/2-d0.5-{_END}"),
    ("strided_a", f"d0.2-96c5x5/2-d0.5-192c5x5/2-d0.5-{_END}"),
    ("strided_b", f"d0.2-96c5x5-96c1x1/2-d0.5-192c5x5-192c1x1/2-d0.5-{_END}"),
    ("strided_c", f"d0.2-96c-96c/2-d0.5-192c-192c/2-d0.5-{_END}"),
    ("convpool_a", f"d0.2-96c5x5-96c-mp3x3/2-d0.5-192c5x5-192c-mp3x3/2-d0.5-{_END}"),
    ("convpool_b", f"d0.2-96c5x5-96c1x1-96c-mp3x3/2-d0.5-192c5x5-192c1x1-192c-mp3x3/2-d0.5-{_END}"),
    ("convpool_c", f"d0.2-96c^3-mp3x3/2-d0.5-192c^3-mp3x3/2-d0.5-{_END}"),
    ("all_cnn_a", f"d0.2-96c5x5-96c/2-d0.5-192c5x5-192c/2-d0.5-{_END}"),
    ("all_cnn_b", f"d0.2-96c5x5-96c1x1-96c/2-d0.5-192c5x5-192c1x1-192c/2-d0.5-{_END}"),
    ("all_cnn_c", f"d0.2-96c^2-96c/2-d0.5-192c^2-192c/2-d0.5-{_END}"),
)
_FAMILIES = {
    "base": ("Base", "table 1", "0.9M to 1.0M"),
    "strided": ("Strided-CNN", "table 2", "0.9M to 1.4M"),
    "convpool": ("ConvPool-CNN", "table 2", "0.9M to 1.4M"),
    "all_cnn": ("All-CNN", "table 2", "0.9M to 1.4M"),
}


def _springenberg(name: str, notation: str) -> ModelSpec:
    family, _, form = name.rpartition("_")
    paper_name, table, parameters = _FAMILIES[family]
    source = f"Springenberg et al. 2014, {table}"
    return ModelSpec(
        name, f"{paper_name}-{form.upper()}", notation, source, parameters, batch_norm=False, paper="Hu 2018"
    )


_AIRBENCH = ModelSpec(
    "airbench", "airbench94", "24c2x2v-64c-mp-64c-256c-mp-256c-256c-mp-256c-mp3x3-10fc",
    "Jordan 2024, section 3.1 and its code", "1.97M", airbench=True, paper=jordan.NAME,
)  # fmt: skip
SPECS = (*_RATUSZNIK, *(_springenberg(*row) for row in _SPRINGENBERG), _AIRBENCH)
_BY_NAME = {spec.name: spec for spec in SPECS}


def names() -> list[str]:
    """Returns the names of all networks."""
    return list(_BY_NAME)


def get_spec(name: str) -> ModelSpec:
    """Returns the network called `name`, or a new `ModelSpec` if `name` is a notation such as 512fc^2-10fc.

    `res-` before a notation makes it residual: a skip connection is added to each pair of convolutions.

    Raises:
        ConfigError: `name` is neither a name nor a notation; or it is residual without such pairs.

    Example:

    >>> get_spec("linear_3").notation
    '2048fc^2-10fc'
    """
    if name in _BY_NAME:
        return _BY_NAME[name]
    notation = name.removeprefix(RESIDUAL)
    try:
        specs = parse(notation)
    except ConfigError as error:
        if "-" in name:  # a notation: the error names the wrong word
            raise
        raise unknown("network", name, names(), ", or a notation such as 512fc^2-10fc") from error
    is_residual = notation != name
    if is_residual and not _has_pairs(specs):
        raise ConfigError(
            f"{name!r}: a residual network starts with padded 3x3 convolutions in pairs, and has no others, "
            "such as res-64c^2-128c^4-gap-10fc."
        )
    return ModelSpec(name, name, notation, "the user's own", "", residual=is_residual)


def is_notation(name: str) -> bool:
    """Returns whether `name` is a notation of at least two words, such as 512fc^2-10fc."""
    try:
        return "-" in name and name not in _BY_NAME and bool(get_spec(name))
    except ConfigError:
        return False


def _has_pairs(specs: LayerSpecs) -> bool:
    """Whether the hidden layers begin with pairs of equal convolutions that a skip connection can cross."""
    hidden = specs[: output_layer_index(specs)]
    convolutions = tuple(spec for spec in hidden if isinstance(spec, Convolution))
    return (
        len(convolutions) > 0
        and hidden[: len(convolutions)] == convolutions
        and convolutions[::2] == convolutions[1::2]
        and all(spec == Convolution(spec.filters) for spec in convolutions)
    )
