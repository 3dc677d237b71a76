"""Hu 2018's printed code (figures 6 to 8) builds other networks than its text and Springenberg et al. 2014.

Each code variant here rewrites the layers of the text. `kapp.papers.hu` lists all, those of the training
included.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace

from kapp.errors import ConfigError, unknown
from kapp.models.notation import (
    AveragePooling,
    Convolution,
    Dropout,
    GlobalAveragePooling,
    LayerSpec,
    LayerSpecs,
    Pooling,
    Relu,
    output_layer_index,
)
from kapp.papers import hu

# Their code never calls the last dropout. all_cnn_b: figure 8. The base nets' code isn't printed; there it is
# kapp's assumption.
UNCALLED_DROPOUT = ("all_cnn_b", "base_a", "base_b")


def relu_logits(specs: LayerSpecs) -> LayerSpecs:
    """Applies ReLU to the logits, before they are averaged (figures 7 and 8)."""
    output = output_layer_index(specs)
    return (*specs[: output + 1], Relu(), *specs[output + 1 :])


def corner(specs: LayerSpecs) -> LayerSpecs:
    """Averages one corner of the logits only (section 2.2; figures 7 and 8).

    Layers with strides are unpadded (32, 15, 7 pixels) and the last 3x3 convolution is padded by 3 (7 to 11
    pixels), so that a 6x6 average pooling covers one corner of 11x11 logits.
    """

    def rewrite(spec: LayerSpec) -> LayerSpec:
        match spec:
            case Convolution(strides=strides) if strides > 1:
                return replace(spec, padding=0)
            case Convolution(padding=0):
                return replace(spec, padding=3)
            case Pooling():
                return replace(spec, padded=False)
            case GlobalAveragePooling():
                return AveragePooling(6)
        return spec

    return tuple(map(rewrite, specs))


def dropout(specs: LayerSpecs) -> LayerSpecs:
    """Moves the input's dropout behind the first convolution; it drops whole channels (figures 7 and 8)."""
    drop, first, *rest = specs
    assert isinstance(drop, Dropout)
    return (first, Dropout(drop.rate, channels=True), *rest)


def filters(specs: LayerSpecs) -> LayerSpecs:
    """Gives the first convolution with strides as many filters as the next one has, 192 (figure 7)."""
    convolutions = [(i, spec) for i, spec in enumerate(specs) if isinstance(spec, Convolution)]
    number = next(n for n, (_, spec) in enumerate(convolutions) if spec.strides > 1)
    (position, first), (_, following) = convolutions[number : number + 2]
    return (*specs[:position], replace(first, filters=following.filters), *specs[position + 1 :])


def without_last_dropout(specs: LayerSpecs) -> LayerSpecs:
    """Removes the last dropout."""
    last = max(i for i, spec in enumerate(specs) if isinstance(spec, Dropout))
    return (*specs[:last], *specs[last + 1 :])


REWRITES: dict[str, Callable[[LayerSpecs], LayerSpecs]] = {
    "relu_logits": relu_logits,
    "corner": corner,
    "dropout": dropout,
    "filters": filters,
}


def apply_code_variants(model: str, specs: LayerSpecs, variants: Iterable[str]) -> LayerSpecs:
    """Returns the layers of the network called `model` with `variants`, names of `REWRITES`.

    Raises:
        ConfigError: a variant is unknown, or doesn't change this network.
    """
    for variant in variants:
        if variant not in REWRITES:
            raise unknown("code variant", variant, REWRITES)
        if variant not in hu.code_variants(model):
            raise ConfigError(f"code variant {variant!r} is of all_cnn_a: {model} has no such layer.")
        specs = REWRITES[variant](specs)
        if variant == "dropout" and model in UNCALLED_DROPOUT:
            specs = without_last_dropout(specs)
    return specs
