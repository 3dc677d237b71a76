"""Models from run folders and .keras files, loaded without running code that a file may contain.

Importing this module imports no Keras.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kapp import data, fileio
from kapp.errors import ConfigError, KappError, unknown
from kapp.run_folder import Run

if TYPE_CHECKING:
    import keras

UNSAFE = (".h5", ".hdf5", ".pkl", ".pt", ".pth")


def is_file(source: str, names: Sequence[str], role: str = "teacher", forms: str = "") -> bool:
    """Returns whether `source` is a finished run folder or a .keras file, and not one of `names`.

    Args:
        source: what the user wrote.
        names: what else is accepted.
        role: what messages call `source`.
        forms: more accepted forms, for messages.

    Raises:
        ConfigError: `source` is neither a name nor a file, the run is unfinished, or files of this kind
            aren't loaded.
    """
    if source in names:
        return False
    file = Path(source)
    if fileio.is_folder(file):
        if not Run(file).is_finished:
            raise ConfigError(f"{role} {source!r} is an unfinished run. Run its command again to finish it.")
        return True
    if file.suffix in UNSAFE:
        raise ConfigError(
            f"{role} {source!r}: {file.suffix} files can run code when they are loaded, so kapp doesn't. "
            f"Save the model as .keras: model.save('{role}.keras')."
        )
    if file.suffix != ".keras":
        raise unknown(role, source, names, f"{forms}, or a run folder, or a .keras file")
    if not fileio.is_file(file):
        raise ConfigError(f"there is no file {source!r}: a {role} is a name, a run folder or a .keras file.")
    return True


def name(source: str | Path) -> str:
    """Returns the name of the model in a run folder or a .keras file."""
    return Run(source).result.model if fileio.is_folder(source) else Path(source).stem


def path(source: str | Path) -> Path:
    """Returns the .keras file of a run folder, or the file itself.

    Raises:
        KappError: the file of a finished run isn't as the run left it.
    """
    return Run(source).check_file("model.keras") if fileio.is_folder(source) else Path(source)


def load(
    source: str | Path,
    image_shape: tuple[int, ...],
    classes: Sequence[str] | None = None,
    role: str = "teacher",
) -> "keras.Model":
    """Returns the classifier in a run folder or a .keras file, and checks that it fits a data set.

    The model's output may be logits or probabilities, see `outputs_probabilities`.

    Args:
        source: a run folder or a .keras file.
        image_shape: height, width and channels of the images, in pixels.
        classes: the data set's class names; None if the model may have others.
        role: what messages call the model.

    Returns:
        The model, uncompiled: images (n, height, width, channels), 0 to 255, to (n, classes).

    Raises:
        ConfigError: the model is no classifier, or has other classes or image sizes.
        KappError: the file is damaged, or contains code.
    """
    model = load_keras_file(path(source))
    check_classifier(model, f"{role} {source}")
    if classes is not None and len(classes) != model.output_shape[-1]:
        raise ConfigError(
            f"{role} {source} has {model.output_shape[-1]} classes, the data set has {len(classes)}: "
            "they must be the same."
        )
    if (
        classes is not None
        and fileio.is_folder(source)
        and not data.classes_match(Run(source).classes, classes)
    ):
        raise ConfigError(
            f"{role} {source} has the classes {', '.join(Run(source).classes)}, the data set has "
            f"{', '.join(classes)}: they must be the same, in the same order. If they only differ by name, "
            f"use the file {path(source)}."
        )
    if any(side not in (None, size) for side, size in zip(model.input_shape[1:], image_shape)):
        raise ConfigError(
            f"{role} {source} takes images of {model.input_shape[1:]}, the data set has {image_shape}. Use a "
            "model for such images, or resize the data (folder:PATH@SIZE)."
        )
    return model


def load_keras_file(path: Path) -> "keras.Model":
    """Returns the model in a .keras file, uncompiled.

    Raises:
        KappError: the file is damaged, or contains code.
    """
    import keras

    import kapp.layers.p_norm_pooling  # noqa: F401  (registers the layer that a file of kapp's may hold)

    try:
        return keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # of many kinds: of zip, JSON, HDF5 and of layers
        first_line = str(error).strip().partition("\n")[0]
        first_line = first_line.rstrip(".")
        raise KappError(f"cannot load {path}: {first_line}. Save it again with model.save().") from error


def check_classifier(model: Any, name: str) -> None:
    """Refuses a model that isn't a classifier, see `is_classifier`; of a teacher, a source and an export.

    Args:
        model: any object.
        name: what the message calls it.

    Raises:
        ConfigError: it isn't.
    """
    if not is_classifier(model):
        raise ConfigError(
            f"{name} must be a functional model, or a Sequential one with an Input, that maps images "
            "(n, height, width, channels) to (n, classes). Build such a model from its layers and save it as "
            ".keras."
        )


def is_classifier(model: Any) -> bool:
    """Returns whether `model` is functional or a built Sequential: images (n, ...) in, (n, classes) out.

    Example:

    >>> import keras
    >>> is_classifier(keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten()]))
    True
    >>> is_classifier(keras.Sequential([keras.layers.Flatten()]))  # of unknown input
    False
    """
    import keras

    shape = getattr(model, "input_shape", None) if isinstance(model, keras.Model) and model.built else None
    if not (isinstance(shape, tuple) and len(shape) == 4):
        return False
    # Not `output_shape`, which is a tuple for a dictionary of one output, too.
    output_shape = model.compute_output_shape(shape)
    return isinstance(output_shape, tuple) and len(output_shape) == 2 and isinstance(output_shape[-1], int)


def outputs_probabilities(model: "keras.Model") -> bool:
    """Returns whether the predictions of a classifier are probabilities, by trying a few images of noise."""
    import numpy as np  # here, because `--help` need not wait for it
    from keras import ops

    shape = [8, *(side or 32 for side in model.input_shape[1:])]
    noise = np.random.default_rng(0).integers(0, 256, shape).astype("float32")
    predictions = ops.convert_to_numpy(ops.cast(model(noise, training=False), "float32"))
    return bool((predictions >= 0).all() and np.allclose(predictions.sum(axis=-1), 1, atol=0.01))
