"""The names of classes: whether two lists of them may mean the same."""

from collections.abc import Sequence


def numbered(classes: Sequence[str]) -> bool:
    """Whether these are 0, 1, 2, ... in place of names, as of a set that tells none."""
    return list(classes) == [str(i) for i in range(len(classes))]


def agree(ours: Sequence[str], theirs: Sequence[str]) -> bool:
    """Whether these may be the same classes in the same order: so they are called, or one of them is numbered
    in place of names. The same names in another order are not."""
    if list(ours) == list(theirs):
        return True
    either = numbered(ours) or numbered(theirs)
    return either and len(ours) == len(theirs) and sorted(ours) != sorted(theirs)
