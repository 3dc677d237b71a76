"""In which order the rows of the papers' tables are worth their hours."""

from typing import NamedTuple


class Group(NamedTuple):
    """Rows, by their names, that answer one question.

    Args:
        rows: the most valuable first.
        all_seeds: whether all seeds of the group come before the next group. The other seeds of the other
            groups come at the end, in the same order.
    """

    rows: tuple[str, ...]
    all_seeds: bool = False


GROUPS = (
    Group(("teacher_1 on labels",)),
    Group(("linear_3 on labels", "linear_4 on labels", "deep_linear on labels", "conv_1 on labels"), True),
    Group(("linear_3 from teacher_1", "linear_4 from teacher_1", "conv_1 from teacher_1"), True),
    Group(("conv_2 on labels", "conv_2 from teacher_1")),
    Group(
        (
            "deep_resnet on labels",
            "linear_3 from deep_resnet",
            "linear_4 from deep_resnet",
            "conv_1 from deep_resnet",
            "conv_2 from deep_resnet",
        )
    ),
    Group(
        (
            "base_c on labels",
            "all_cnn_c on labels",
            "strided_c on labels",
            "convpool_c on labels",
            "base_a on labels",
            "all_cnn_a on labels",
            "base_b on labels",
            "all_cnn_b on labels",
        )
    ),
    Group(
        (
            "shallow_resnet on labels",
            "shallow_resnet from teacher_1",
            "shallow_resnet from deep_resnet",
        )
    ),
    Group(
        (
            "all_cnn_c from scratch, class1",
            "all_cnn_c linear probe, class1",
            "all_cnn_c fine-tuning, class1",
            "all_cnn_c from scratch, class2",
            "all_cnn_c linear probe, class2",
            "all_cnn_c fine-tuning, class2",
        ),
        True,
    ),
)


def by_value(rows: list[str], seeds: int) -> list[tuple[str, int]]:
    """Returns (row, seed) for each of `rows` and each seed below `seeds`, the most valuable first.

    Example:

    >>> for row, seed in by_value(["conv_2 on labels", "linear_3 on labels"], 2):
    ...     print(row, seed)
    linear_3 on labels 0
    linear_3 on labels 1
    conv_2 on labels 0
    conv_2 on labels 1
    """
    first, later = [], []
    for group in GROUPS:
        for row in group.rows:
            if row in rows:
                pairs = [(row, seed) for seed in range(seeds)]
                first += pairs if group.all_seeds else pairs[:1]
                later += [] if group.all_seeds else pairs[1:]
    # Of the rows that wait, every second seed comes before every third.
    return first + sorted(later, key=lambda pair: pair[1])
