"""Teachers: a run folder or a .keras file -> a network that can teach."""

from pathlib import Path

from kapp.errors import WrongValue, unknown
from kapp.models.catalogue import names
from kapp.runs import Run


def is_file(teacher: str) -> bool:
    """Whether `teacher` means a run folder or a file, and not a network of the catalogue.

    Raises:
        WrongValue: it is none of them, or a kind of file that isn't loaded.
    """
    if teacher in names():
        return False
    path = Path(teacher)
    if path.is_dir():
        if not Run(path).finished:
            raise WrongValue(f"teacher {teacher!r} is an unfinished run. Run its command again to finish it.")
        return True
    if path.suffix in (".h5", ".hdf5", ".pkl", ".pt", ".pth"):
        raise WrongValue(
            f"teacher {teacher!r}: {path.suffix} files can run code when they are loaded, so kapp doesn't. "
            "Save the model as .keras: model.save('teacher.keras')."
        )
    if path.suffix == ".keras":
        if not path.is_file():
            raise WrongValue(f"there is no file {teacher!r} to teach with.")
        return True
    raise unknown("teacher", teacher, names(), ", or a run folder, or a .keras file")


def name(teacher: str) -> str:
    """What reports call `teacher`: its own name, the network of a run folder, the stem of a file."""
    path = Path(teacher)
    return Run(path).result["model"] if is_file(teacher) and path.is_dir() else path.stem


def load(teacher: str | Path, classes: int, image_shape: tuple[int, ...]):
    """The network of a run folder or a .keras file: images `image_shape`, 0 to 255, to logits (n, classes).

    One that ends in a softmax is as good: the Distiller knows it.

    Raises:
        WrongValue: another number of classes or size of image, or no functional model.
        Failure: the file is damaged, or holds code.
    """
    from kapp.models import saved

    network = saved.load(file(teacher))
    takes, gives = (getattr(network, name, None) for name in ("input_shape", "output_shape"))
    if not (isinstance(takes, tuple) and isinstance(gives, tuple) and len(gives) == 2):
        raise WrongValue(f"teacher {teacher} isn't a functional model that maps images to (n, classes).")
    if gives[-1] != classes:
        raise WrongValue(
            f"teacher {teacher} knows {gives[-1]} classes, the data set has {classes}: they must be the same."
        )
    if len(takes) != 4 or any(a not in (None, b) for a, b in zip(takes[1:], image_shape)):
        raise WrongValue(f"teacher {teacher} takes images of {takes[1:]}, the data set has {image_shape}.")
    return network


def file(teacher: str | Path) -> Path:
    """The .keras file of a run folder, or the file itself."""
    return Run(teacher).model_file if Path(teacher).is_dir() else Path(teacher)
