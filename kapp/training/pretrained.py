"""Networks trained before: a run folder or a .keras file -> one that can teach, or be built upon."""

from collections.abc import Sequence
from pathlib import Path

from kapp.data.classes import agree
from kapp.errors import WrongValue, unknown
from kapp.runs import Run


def is_file(given: str, names: Sequence[str], role: str = "teacher", forms: str = "") -> bool:
    """Whether `given` means a run folder or a file, and not one of `names`.

    Args:
        role: what messages call it.
        forms: what else it may be, as they list it.

    Raises:
        WrongValue: it is none of them, or a kind of file that isn't loaded.
    """
    if given in names:
        return False
    path = Path(given)
    if path.is_dir():
        if not Run(path).finished:
            raise WrongValue(f"{role} {given!r} is an unfinished run. Run its command again to finish it.")
        return True
    if path.suffix in (".h5", ".hdf5", ".pkl", ".pt", ".pth"):
        raise WrongValue(
            f"{role} {given!r}: {path.suffix} files can run code when they are loaded, so kapp doesn't. "
            f"Save the model as .keras: model.save('{role}.keras')."
        )
    if path.suffix == ".keras":
        if not path.is_file():
            raise WrongValue(
                f"there is no file {given!r}: a {role} is a name, a run folder or a .keras file."
            )
        return True
    raise unknown(role, given, names, f"{forms}, or a run folder, or a .keras file")


def name(given: str | Path) -> str:
    """What reports call a network on disk: the network of a run folder, the stem of a file."""
    path = Path(given)
    return Run(path).result["model"] if path.is_dir() else path.stem


def load(
    given: str | Path,
    image_shape: tuple[int, ...],
    classes: Sequence[str] | None = None,
    role: str = "teacher",
):
    """The network of a run folder or a .keras file: images `image_shape`, 0 to 255, to logits (n, classes).

    One that ends in a softmax is as good: the Distiller knows it, and a transfer replaces it.

    Args:
        classes: that it must know, by name as far as it tells names; None for any.

    Raises:
        WrongValue: other classes, another number of them or size of image, or no functional model.
        Failure: the file is damaged, or holds code.
    """
    from kapp.models import saved

    network = saved.load(file(given))
    takes, gives = (getattr(network, name, None) for name in ("input_shape", "output_shape"))
    if not (isinstance(takes, tuple) and isinstance(gives, tuple) and len(gives) == 2):
        raise WrongValue(f"{role} {given} isn't a functional model that maps images to (n, classes).")
    if classes is not None and len(classes) != gives[-1]:
        raise WrongValue(
            f"{role} {given} knows {gives[-1]} classes, the data set has {len(classes)}: they must be the "
            "same."
        )
    if classes is not None and Path(given).is_dir() and not agree(Run(given).classes, classes):
        raise WrongValue(
            f"{role} {given} knows the classes {', '.join(Run(given).classes)}, the data set has "
            f"{', '.join(classes)}: they must be the same, in the same order. Where other names mean the "
            f"same, give the file {file(given)}."
        )
    if len(takes) != 4 or any(a not in (None, b) for a, b in zip(takes[1:], image_shape)):
        raise WrongValue(f"{role} {given} takes images of {takes[1:]}, the data set has {image_shape}.")
    return network


def file(given: str | Path) -> Path:
    """The .keras file of a run folder, or the file itself."""
    return Run(given).model_file if Path(given).is_dir() else Path(given)
