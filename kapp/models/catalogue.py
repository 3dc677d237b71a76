"""All networks by name, with their sources: pure data, so that it can be read before Keras is imported."""

from dataclasses import dataclass

from kapp.errors import WrongValue, unknown
from kapp.models.notation import Step, parse


@dataclass(frozen=True)
class Entry:
    """One network of the papers."""

    name: str
    paper_name: str
    notation: str  # as built
    source: str
    reported_parameters: str
    residual: bool = False
    printed: str = ""  # as the paper prints it, where that leaves something to prose

    @property
    def steps(self) -> tuple[Step, ...]:
        return parse(self.notation)


ENTRIES = (
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
