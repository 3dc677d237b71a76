"""Dataclass config <-> command line."""

import dataclasses
import json
import logging
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

from kapp import processes
from kapp.errors import Failure, WrongValue, unknown

Config = TypeVar("Config")
UNREAD = 128 + 13  # the status of a process that SIGPIPE ended
BACKENDS = ("tensorflow", "jax", "torch")
# What config.json holds beside the settings: which recipe, where, and on what they ran.
NOT_A_SETTING = ("recipe", "backend", "data_sha256", "teachers_sha256", "source_sha256")


def run(config_type: type[Config], main: Callable[[Config], Any], arguments: Sequence[str] | None = None):
    """Run `main` on the config that the command line describes, and end the process with its status:
    0; 1 for a failure; 2 for a wrong value; 130 when interrupted.

    `config_type` is a dataclass; its `check()` refuses wrong values before Keras is imported, and its
    `interrupted` says what becomes of what was begun.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    try:
        with while_read():
            config = parse(config_type, arguments)
            config.check()  # type: ignore[attr-defined]
            main(config)
    except (WrongValue, Failure) as error:
        print(f"kapp: {error}", file=sys.stderr)
        processes.leave(2 if isinstance(error, WrongValue) else 1)
    except KeyboardInterrupt:
        what_now = getattr(config_type, "interrupted", "No file is left half written.")
        print(f"\nkapp: interrupted. {what_now}", file=sys.stderr)
        sys.exit(130)


def parse(config_type: type[Config], arguments: Sequence[str]) -> Config:
    """The config that `arguments` describe. `--config FILE` gives other defaults, as in a run's config.json;
    flags beside it win.

    Raises:
        WrongValue: the file isn't a config of this recipe.
        SystemExit: a wrong flag (status 2) or --help (status 0), after printing.
    """
    import tyro

    arguments = [word for argument in arguments for word in _split_config(argument)]
    if "--config" in arguments:
        at = arguments.index("--config")
        if at + 1 == len(arguments):
            raise WrongValue("--config needs a file, such as a run's config.json.")
        # As flags, so that they are checked as flags are; the last one given wins.
        held = _flags(config_type, Path(arguments[at + 1]))
        arguments = [*held, *arguments[:at], *arguments[at + 2 :]]
    module = sys.modules[config_type.__module__]
    name = module.__spec__.name if module.__spec__ else module.__name__
    return tyro.cli(
        config_type,
        prog=f"python -m {name}" + getattr(config_type, "word", ""),
        args=arguments,
        description=module.__doc__,
    )


def as_json(config: Any) -> dict[str, Any]:
    """The dataclass `config` as JSON-ready values."""

    def plain(value: Any) -> Any:
        if isinstance(value, tuple):
            return [plain(each) for each in value]
        # JSON has no word for infinity; float("inf") reads this one.
        return str(value) if isinstance(value, Path) or value == math.inf else value

    return {name: plain(value) for name, value in dataclasses.asdict(config).items()}


def backend() -> str:
    """The Keras backend that KERAS_BACKEND chooses, TensorFlow by default.

    Raises:
        WrongValue: it names none, or one that isn't installed.
    """
    name = os.environ.get("KERAS_BACKEND") or "tensorflow"
    if name not in BACKENDS:
        raise unknown("KERAS_BACKEND", name, BACKENDS)
    if find_spec(name) is None:
        raise WrongValue(f"KERAS_BACKEND is {name}, which isn't installed: pip install {name}.")
    return name


def _split_config(argument: str) -> list[str]:
    return argument.split("=", 1) if argument.startswith("--config=") else [argument]


def _flags(config_type: type, path: Path) -> list[str]:
    """The settings in the file `path` as flags."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise WrongValue(f"--config {path}: {why}. Give it a run's config.json.") from error
    if not isinstance(values, dict):
        raise WrongValue(f"--config {path} isn't a run's config.json.")
    names = [field.name for field in dataclasses.fields(config_type)]
    flags: list[str] = []
    for name, value in values.items():
        if name in NOT_A_SETTING or value is None:
            continue
        if name not in names:
            raise unknown(f"setting in {path}", name, names)
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            flags += [f"--{flag}" if value else f"--no-{flag}"]
        else:
            flags += [f"--{flag}", *map(str, value if isinstance(value, list) else [value])]
    return flags


def start_keras(name: str | None = None) -> None:
    """Import Keras on the backend `name`, by default the chosen one, without the chatter of its start."""
    os.environ["KERAS_BACKEND"] = name or backend()
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # two networks scored in a row aren't a mistake
    # Keras takes a second to import scikit-learn, which sweeps bring, for wrappers that kapp has no use for.
    with quiet(), absent("sklearn"):
        import keras

        keras.ops.zeros(())  # finds the devices


@contextmanager
def absent(package: str) -> Iterator[None]:
    """Have imports of `package` fail as if it weren't installed, unless it is imported already."""
    if package in sys.modules:
        yield
        return
    sys.modules[package] = None  # type: ignore[assignment]  # as Python's documentation says
    try:
        yield
    finally:
        del sys.modules[package]


@contextmanager
def while_read() -> Iterator[None]:
    """End the process without a word, as other tools do, once nobody reads on: `kapp ... | head`."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        with open(os.devnull, "w") as nowhere:  # or Python complains of what it still holds
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        sys.exit(UNREAD)


@contextmanager
def quiet() -> Iterator[None]:
    """Drop what is written to standard error, by native code too: TensorFlow's start-up lines heed no
    log level, and its later ones the one that it was imported with. An exception still comes through."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
