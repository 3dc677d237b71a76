"""Command lines: from flags to a config, and from errors to an exit status."""

import dataclasses
import json
import logging
import math
import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

from kapp import distributed, interrupt
from kapp.errors import ConfigError, KappError, undecodable, unknown
from kapp.progress import PrintableOutput, printable
from kapp.records import CHECKSUM, matches_checksum

Config = TypeVar("Config")
# In the errors of TensorFlow, JAX and PyTorch, which have no common type.
OUT_OF_MEMORY = ("RESOURCE_EXHAUSTED", "OOM when allocating", "out of memory", "can't allocate memory")
BROKEN_PIPE_STATUS = 128 + 13  # as if SIGPIPE had ended the process
BACKENDS = ("tensorflow", "jax", "torch")
MIN_COLUMNS = 40  # of the terminal; below 10 the layout of --help never ends
CONFIG_HELP = (
    "--config FILE, a JSON file such as a run's config.json, sets other defaults; flags override them."
)
# The recipe and the flags of this process; empty where it isn't a command.
command_line: list[str] = []
# Keys of config.json that are no settings.
NOT_A_SETTING = (
    "recipe", "backend", "data_sha256", "teachers_sha256", "source_sha256", "unlabeled_sha256", CHECKSUM,
)  # fmt: skip


def run(config_type: type[Config], main: Callable[[Config], Any], arguments: Sequence[str] | None = None):
    """Run `main` on the config that the command line describes.

    The process exits with status 0, 1 after a failure (`KappError`, or of the system), 2 after a wrong value
    (`ConfigError`), or 130 when it is interrupted. What it prints has no control characters, whatever the
    names in it.

    Args:
        config_type: a dataclass. Its `check()` refuses wrong values before Keras is imported. Its
            `interrupted`, where it has one, is the sentence printed after Ctrl-C. Its `subcommand`, where it
            has one, follows the recipe's name on the command line.
        main: called with the config.
        arguments: the words of the command line; `sys.argv[1:]` by default.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    recipe = _module_name(config_type).rpartition(".")[2]
    command_line[:] = [recipe, *_subcommand(config_type), *arguments]
    os.environ["MPLBACKEND"] = "Agg"  # kapp draws files; Matplotlib doesn't start with a wrong name
    try:
        with exit_on_broken_pipe():
            config = parse(config_type, arguments)
            with redirect_stdout(PrintableOutput(sys.stdout)):
                config.check()  # type: ignore[attr-defined]
                main(config)
    except (ConfigError, KappError) as error:
        _print_error(str(error))
        distributed.exit_now(2 if isinstance(error, ConfigError) else 1)
    except Exception as error:
        if (message := _system_error(error)) is None:
            raise
        _print_error(message)
        distributed.exit_now(1)
    except KeyboardInterrupt:
        way_out = getattr(config_type, "interrupted", "No file is left half written.")
        print(f"\nkapp: interrupted. {way_out}", file=sys.stderr)
        distributed.exit_now(interrupt.STATUS)


def _print_error(message: str) -> None:
    print(f"kapp: {printable(message)}", file=sys.stderr)


def _system_error(error: Exception) -> str | None:
    """What to print for an error of the system: of files, or of memory; None for others, which are bugs."""
    first_line = next(iter(str(error).splitlines()), "")
    if isinstance(error, MemoryError) or any(words in str(error) for words in OUT_OF_MEMORY):
        return f"not enough memory ({first_line or 'MemoryError'}). Try a smaller --batch-size or --width."
    if isinstance(error, RecursionError):
        return f"a file is nested too deeply ({first_line}). Give another file."
    if isinstance(error, UnicodeEncodeError):
        return undecodable(error.object)
    if isinstance(error, OSError):
        place = f" {error.filename}" if error.filename is not None else ""
        return f"cannot read or write{place}: {error.strerror or first_line}. Choose another place."
    return None


def parse(config_type: type[Config], arguments: Sequence[str]) -> Config:
    """The config that `arguments` describe.

    `--config FILE`, such as a run's config.json, sets other defaults; flags override them.

    Raises:
        ConfigError: the file isn't a config of this recipe.
        SystemExit: a wrong flag (status 2) or --help (status 0), after printing.
    """
    import tyro

    if shutil.get_terminal_size().columns < MIN_COLUMNS:
        os.environ["COLUMNS"] = str(MIN_COLUMNS)
    arguments = [word for argument in arguments for word in _split_config(argument)]
    if "--config" in arguments:
        at = arguments.index("--config")
        if at + 1 == len(arguments):
            raise ConfigError("--config needs a file, such as a run's config.json.")
        # As flags, so that they are checked as flags are; the last of two equal flags counts.
        defaults = _flags(config_type, Path(arguments[at + 1]))
        arguments = [*defaults, *arguments[:at], *arguments[at + 2 :]]
    return tyro.cli(
        config_type,
        prog=" ".join(["python -m", _module_name(config_type), *_subcommand(config_type)]),
        args=arguments,
        description=f"{sys.modules[config_type.__module__].__doc__}\n{CONFIG_HELP}",
        config=(tyro.conf.OmitArgPrefixes,),  # a setting's flag is its name, in whichever record it stands
    )


def _module_name(config_type: type) -> str:
    """The name of the module of `config_type`, also where it runs as __main__."""
    module = sys.modules[config_type.__module__]
    return module.__spec__.name if module.__spec__ else module.__name__


def _subcommand(config_type: type) -> list[str]:
    return [config_type.subcommand] if hasattr(config_type, "subcommand") else []


def shorter_command() -> str | None:
    """This process's command with --scale short; None where that changes nothing, as with --epochs, or where
    the scale is smaller already."""
    words = [part for word in command_line for part in word.split("=", 1)]
    flags = {name: value for name, value in pairwise([*words, ""]) if name.startswith("--")}
    scale = flags.get("--scale", "short" if words[:1] == ["reproduce"] else "paper")
    if not words or scale != "paper" or flags.keys() & {"--config", "--epochs"}:
        return None
    kept, skip = [], False
    for word in command_line:
        if not skip and not word.startswith("--scale"):
            kept += [word]
        skip = word == "--scale"
    return shlex.join(["kapp", *kept, "--scale", "short"])


def flatten(config: Any) -> dict[str, Any]:
    """The settings of the dataclass `config` and of the records in it, by the names of their flags."""
    values: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        values |= flatten(value) if dataclasses.is_dataclass(value) else {field.name: value}
    return values


def as_json(config: Any) -> dict[str, Any]:
    """The settings of `config`, flat, as JSON values."""
    return {name: _json_value(value) for name, value in flatten(config).items()}


def _json_value(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_json_value(each) for each in value]
    # JSON has no infinity; float("inf") reads this string.
    return str(value) if isinstance(value, Path) or value == math.inf else value


def backend() -> str:
    """The Keras backend that KERAS_BACKEND chooses, TensorFlow by default.

    Raises:
        ConfigError: it names none, or one that isn't installed.
    """
    name = os.environ.get("KERAS_BACKEND") or "tensorflow"
    if name not in BACKENDS:
        raise unknown("KERAS_BACKEND", name, BACKENDS)
    if find_spec(name) is None:
        raise ConfigError(f"KERAS_BACKEND is {name}, which isn't installed: pip install {name}.")
    return name


def _split_config(argument: str) -> list[str]:
    return argument.split("=", 1) if argument.startswith("--config=") else [argument]


def _flags(config_type: type, path: Path) -> list[str]:
    """The settings in the file `path` as flags."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        why = getattr(error, "strerror", None) or error
        raise ConfigError(f"--config {path}: {why}. Give it a run's config.json.") from error
    if not isinstance(values, dict):
        raise ConfigError(f"--config {path} isn't a run's config.json.")
    if not matches_checksum(values):
        raise ConfigError(
            f"--config {path}: its values differ from its checksum. Where you edited them, remove the line "
            f"with {CHECKSUM!r}."
        )
    return as_flags(config_type, values, path)


def as_flags(config_type: type, values: dict[str, Any], origin: Path | str) -> list[str]:
    """The command line with the settings `values`, JSON values by the names of their flags.

    Args:
        config_type: a dataclass.
        origin: where the values come from, for messages.

    Raises:
        ConfigError: a setting that `config_type` doesn't have, or a value that could be read as a flag.
    """
    defaults = _flag_defaults(config_type)
    flags: list[str] = []
    for name, value in values.items():
        if name in NOT_A_SETTING or value is None:
            continue
        if name not in defaults:
            raise unknown(f"setting in {origin}", name, list(defaults))
        flag = name.replace("_", "-")
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, str) and re.search("[\0\ud800-\udfff]", each):
                raise ConfigError(
                    f"{name} in {origin} is {each!a}, which has characters that no name can have."
                )
            if not isinstance(each, str | int | float) or re.match(r"-(?![\d.])", str(each)):
                raise ConfigError(
                    f"{name} in {origin} is {each!r}: a value must be text, a number, or true or false, and "
                    "can't begin with a hyphen, as a flag does."
                )
        if isinstance(value, bool) and defaults[name] is not None:
            flags += [f"--{flag}" if value else f"--no-{flag}"]
        else:
            flags += [f"--{flag}", *map(str, value if isinstance(value, list) else [value])]
    return flags


def _flag_defaults(config_type: type) -> dict[str, Any]:
    defaults: dict[str, Any] = {}
    for field in dataclasses.fields(config_type):
        record = type(field.default) if dataclasses.is_dataclass(field.default) else None
        defaults |= _flag_defaults(record) if record else {field.name: field.default}
    return defaults


def start_keras(name: str | None = None) -> None:
    """Import Keras on the backend `name` (default: that of KERAS_BACKEND), without its start-up messages."""
    os.environ["KERAS_BACKEND"] = name or backend()
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # it warns when two networks are scored
    # Keras imports an installed scikit-learn for wrappers that kapp does not use: 0.9 s of CPU time.
    try:
        with suppress_stderr(), absent("sklearn"):
            import keras

            keras.ops.zeros(())  # finds the devices
    except Exception as error:  # of any kind: of its settings, or of a driver
        first_line = next(iter(str(error).splitlines()), repr(error))
        raise KappError(
            f"Keras on {os.environ['KERAS_BACKEND']} doesn't start: {first_line}. "
            "Check the installation, and keras.json in ~/.keras or $KERAS_HOME."
        ) from error


@contextmanager
def absent(package: str) -> Iterator[None]:
    """Make imports of `package` fail as if it weren't installed, unless it is imported already."""
    if package in sys.modules:
        yield
        return
    sys.modules[package] = None  # type: ignore[assignment]  # documented: ModuleNotFoundError
    try:
        yield
    finally:
        del sys.modules[package]


@contextmanager
def exit_on_broken_pipe() -> Iterator[None]:
    """End the process silently, as other tools do, when its output pipe is closed: `kapp ... | head`. Streams
    that were closed from the start, as those of a service may be, write to nowhere."""
    _open_closed_streams()
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        with open(os.devnull, "w") as nowhere:  # else Python prints an error when it flushes its buffer
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        distributed.exit_now(BROKEN_PIPE_STATUS)


def _open_closed_streams() -> None:
    for number, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            stream = open(os.devnull, "w")  # noqa: SIM115
            if stream.fileno() != number:  # else a file that is opened later would get the number
                os.dup2(stream.fileno(), number)
            setattr(sys, name, stream)


@contextmanager
def suppress_stderr() -> Iterator[None]:
    """Drop what is written to standard error, by native code too. Exceptions still propagate.

    TensorFlow's start-up messages ignore its log level.
    """
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
