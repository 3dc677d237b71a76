"""Teachers: a run folder or a .keras file -> a network that answers in logits."""

from pathlib import Path

from kapp.errors import Failure, WrongValue, unknown
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
        Run(path)
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
    """What reports call `teacher`: the network of a run folder, the stem of a file."""
    path = Path(teacher)
    return Run(path).config["model"] if path.is_dir() else path.stem


def load(teacher: str | Path, classes: int, image_shape: tuple[int, ...]):
    """The network of a run folder or a .keras file: images `image_shape`, 0 to 255, to logits (n, classes).

    A network that ends in a softmax is made to answer in log-probabilities, which are logits of the
    same probabilities.

    Raises:
        WrongValue: another number of classes or size of image, or a run that isn't finished.
        Failure: the file is damaged, or holds code.
    """
    path = Path(teacher)
    if path.is_dir():
        path = Run(path).model_file
        if not path.is_file():
            raise WrongValue(f"{teacher} holds no finished network yet. Run its command again to finish it.")
    network = _load(path)
    if network.output_shape != (None, classes):
        raise WrongValue(
            f"teacher {teacher} knows {network.output_shape[-1]} classes, the data set has {classes}: "
            "they must be the same."
        )
    if tuple(network.input_shape[1:]) != tuple(image_shape):
        raise WrongValue(
            f"teacher {teacher} takes images of {network.input_shape[1:]}, the data set has {image_shape}."
        )
    return _answering_in_logits(network)


def _load(path: Path):
    import keras

    try:
        return keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # Keras raises what its zip, JSON, HDF5 and layers raise
        first_line = str(error).strip().partition("\n")[0]
        raise Failure(f"cannot load {path}: {first_line} Save it again with model.save().") from error


def _answering_in_logits(network):
    import keras

    last = network.layers[-1]
    softmax = getattr(last, "activation", None) is keras.activations.softmax
    if not (softmax or isinstance(last, keras.layers.Softmax)):
        return network
    smallest = keras.config.epsilon()
    log_p = keras.ops.log(keras.ops.maximum(network.output, smallest))
    return keras.Model(network.input, log_p, name=network.name)
