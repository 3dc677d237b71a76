"""All networks by name, with their sources: pure data, so that it can be read before Keras is imported."""

from dataclasses import dataclass

from kapp.errors import WrongValue, unknown
from kapp.models.notation import Pooling, Step, parse


@dataclass(frozen=True)
class Entry:
    """One network of the papers."""

    name: str
    paper_name: str
    notation: str  # as built
    source: str
    reported_parameters: str
    residual: bool = False
    normalised: bool = True  # batch normalisation before each ReLU, as throughout paper D
    paper: str = "D"  # whose settings it is trained with; a user's own network as paper D's
    printed: str = ""  # as the paper prints it, where that leaves something to prose

    @property
    def steps(self) -> tuple[Step, ...]:
        return parse(self.notation)

    @property
    def pools(self) -> bool:
        """Whether a pooling is there that can be by a p-norm."""
        return any(isinstance(step, Pooling) for step in self.steps)


_DEEP_AND_CONVOLUTIONAL = (
    Entry(
        "teacher_1",
        "Teacher-1",
        "76c^2-mp-d0.2-126c^2-mp-d0.3-148c^4-mp-d0.37-1200fc^2-d0.42-10fc",
        "paper D, table 1; dropout: section 4.3.1",
        "5M",
        printed="76c^2-mp-126c^2-mp-148c^4-mp-1200fc^2-10fc",
    ),
    Entry(
        "deep_resnet",
        "Deep ResNet",
        "64c^8-128c^12-256c^16-gap-10fc",
        "paper D, table 1; where it halves: kapp's choice",
        "10M",
        residual=True,
        printed="64c^8-128c^12-256c^16",
    ),
    Entry("conv_1", "3-layer-1-CONV", "64c-mp-640fc-10fc", "paper D, table 2", "10M"),
    Entry("conv_2", "4-layer-2-CONV", "64c^2-mp-600fc-10fc", "paper D, table 2", "10M"),
    Entry("linear_3", "3-layers, all linear", "2048fc^2-10fc", "paper D, table 2", "10M"),
    Entry(
        "linear_4",
        "4-layers, all linear",
        "1200fc-2400fc-1800fc-10fc",
        "paper D, table 2",
        "10M",
    ),
    Entry(
        "shallow_resnet",
        "Shallow-ResNet",
        "128c^2-512c^4-gap-10fc",
        "paper D, table 2; pooling and where it halves: kapp's choice",
        "10M",
        residual=True,
        printed="128c^2-512c^4-10fc",
    ),
    Entry(
        "deep_linear",
        "Deep linear",
        "256fc^8-512fc^6-1024fc^8-10fc",
        "paper D, section 4.4 (20 layers in its text, 22 in its notation)",
        "10M",
        printed="256fc^8-512fc^6-1024fc^8",
    ),
)
# Springenberg et al. 2014, tables 1 and 2 (the A and B forms of table 2 are said in prose): dropout of 20%
# on the input and of 50% after each pooling or what replaces it; the last 3x3 convolution is unpadded, 8x8 to
# 6x6; no normalisation.
_END = "192cv-192c1x1-10c1x1-gap"
_ALL_CONVOLUTIONAL = (
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


def _all_convolutional(name: str, notation: str) -> Entry:
    family, _, form = name.rpartition("_")
    paper_name, table, parameters = _FAMILIES[family]
    source = f"Springenberg et al. 2014, {table}"
    return Entry(
        name, f"{paper_name}-{form.upper()}", notation, source, parameters, normalised=False, paper="A"
    )


ENTRIES = (*_DEEP_AND_CONVOLUTIONAL, *(_all_convolutional(*row) for row in _ALL_CONVOLUTIONAL))
_BY_NAME = {entry.name: entry for entry in ENTRIES}


def names() -> list[str]:
    """Every name that `build` knows."""
    return list(_BY_NAME)


def find(name: str) -> Entry:
    """The entry called `name`; or, for a notation such as 512fc^2-10fc, an entry made of it.

    Raises:
        WrongValue: neither a name nor a notation.
    """
    if name in _BY_NAME:
        return _BY_NAME[name]
    try:
        parse(name)
    except WrongValue as error:
        if "-" in name:  # meant as a notation: say which word is wrong
            raise
        more = ", or a notation such as 512fc^2-10fc"
        raise unknown("network", name, names(), more) from error
    return Entry(name, name, name, "the user's own", "")
