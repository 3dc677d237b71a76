"""Where paper A's printed code (its figures 6 to 8) builds other networks than its text and Springenberg et
al. say: each departure as a rewriting of the published steps. How it trains otherwise is in `kapp.papers`."""

from collections.abc import Callable, Iterable
from dataclasses import replace

from kapp.errors import unknown
from kapp.models.notation import (
    AveragePooling,
    Convolution,
    Dropout,
    GlobalAveragePooling,
    Pooling,
    Relu,
    Step,
    last_counted,
)

Steps = tuple[Step, ...]


def relu_logits(steps: Steps) -> Steps:
    """ReLU on the logits, before they are averaged (figures 7 and 8)."""
    last = last_counted(steps)
    return (*steps[: last + 1], Relu(), *steps[last + 1 :])


def corner(steps: Steps) -> Steps:
    """What shrinks the map is unpadded (32, 15, 7), the last 3x3 convolution is padded by 3 (7 to 11), and a
    6x6 average pooling then sees one corner of the 11x11 logits (section 2.2; figures 7 and 8)."""

    def departed(step: Step) -> Step:
        match step:
            case Convolution(stride=stride) if stride > 1:
                return replace(step, padding=0)
            case Convolution(padding=0):
                return replace(step, padding=3)
            case Pooling():
                return replace(step, padded=False)
            case GlobalAveragePooling():
                return AveragePooling(6)
        return step

    return tuple(map(departed, steps))


def dropout(steps: Steps) -> Steps:
    """The input's dropout acts after the first convolution and drops whole channels (figures 7 and 8)."""
    drop, first, *rest = steps
    assert isinstance(drop, Dropout)
    return (first, Dropout(drop.rate, channels=True), *rest)


def uncalled_dropout(steps: Steps) -> Steps:
    """The last dropout is defined and never called."""
    last = max(i for i, step in enumerate(steps) if isinstance(step, Dropout))
    return (*steps[:last], *steps[last + 1 :])


REWRITINGS: dict[str, Callable[[Steps], Steps]] = {
    "relu_logits": relu_logits,
    "corner": corner,
    "dropout": dropout,
}
# all_cnn_b: figure 8. The code of the base nets isn't printed: there the same is said, not seen.
UNCALLED = ("all_cnn_b", "base_a", "base_b")


def departed(name: str, steps: Steps, names: Iterable[str]) -> Steps:
    """The steps of the network called `name` with the departures `names`, of `REWRITINGS`.

    Raises:
        WrongValue: an unknown departure.
    """
    for departure in names:
        if departure not in REWRITINGS:
            raise unknown("departure", departure, REWRITINGS)
        steps = REWRITINGS[departure](steps)
        if departure == "dropout" and name in UNCALLED:
            steps = uncalled_dropout(steps)
    return steps
