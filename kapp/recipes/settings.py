"""The settings that all training recipes share."""

import math
import re
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import tyro

from kapp import cli, data, models, processes
from kapp.data import Views, sources
from kapp.errors import WrongValue
from kapp.models.departures import REWRITINGS
from kapp.papers import all_convolutional as paper_a
from kapp.papers import deep_and_convolutional as paper_d
from kapp.papers.training import Training

Values = dict[str, Any]
T = TypeVar("T")


def _open(metavar: str) -> Any:
    """A flag that may stay open: its help text says what it is then."""
    return tyro.conf.arg(metavar=metavar, help_behavior_hint="")


OpenCount = Annotated[int | None, _open("INT")]
OpenSize = Annotated[float | None, _open("FLOAT")]
OpenFolder = Annotated[Path | None, _open("FOLDER")]
Optimizer = Literal["adam", "adamw", "sgd"]
Schedule = Literal["constant", "cosine", "multistep"]
Departures = tuple[Literal["relu_logits", "corner", "dropout", "schedule", "batch"], ...]


@dataclass(frozen=True)
class Settings:
    data_dir: Annotated[str | None, _open("FOLDER")] = None
    """Where tensorflow-datasets and the array cache keep their files (default: $KAPP_DATA_DIR or
    ~/.cache/kapp)."""
    epochs: OpenCount = None
    """How often to see the training images (default: as often as the paper does)."""
    batch_size: OpenCount = None
    """This and what follows, up to --shift: by default as the paper has it."""
    learning_rate: OpenSize = None
    """The highest."""
    optimizer: Annotated[Optimizer | None, _open("{adam,adamw,sgd}")] = None
    momentum: OpenSize = None
    """Of sgd; beta_1 of adam and adamw."""
    weight_decay: OpenSize = None
    """On kernels: with sgd as an L2 penalty, in the gradient; with adam and adamw decoupled from it."""
    schedule: Annotated[Schedule | None, _open("{constant,cosine,multistep}")] = None
    milestones: Annotated[tuple[int, ...] | None, _open("[INT [INT ...]]")] = None
    """With the multistep schedule: epochs after which the rate falls to a tenth (default: 4/7, 5/7 and 6/7 of
    all, as 200, 250 and 300 of 350)."""
    rates: Annotated[tuple[float, ...] | None, _open("[FLOAT [FLOAT ...]]")] = None
    """With the multistep schedule: the rates themselves, one more than milestones, for --learning-rate."""
    warmup_epochs: OpenCount = None
    """With the cosine schedule: epochs of linear rise before it falls."""
    shift: OpenCount = None
    """Crops move by up to that many pixels."""
    flip: bool = True
    """Mirror half of the images."""
    precision: Literal["auto", "float32", "mixed_bfloat16"] = "auto"
    """auto: bfloat16 where this machine is faster so."""
    seed: int = 0
    """Of the initial weights, dropout and the epoch table. The split is the same for every seed."""
    width: OpenSize = None
    """Multiplies every layer's filters or units (default: 1, the paper's size)."""
    validation: OpenCount = None
    """Training images held out to select by (default: a fifth); 0: none, as paper A does with small sets; the
    network kept is then the last epoch's, and the curves are of test images."""
    validate_every: OpenCount = None
    """Validate each time that many images were trained on (default: once an epoch)."""
    limit_train: OpenCount = None
    """Train on that many images at most, and select by a quarter as many."""
    images_on: Literal["auto", "device", "disk"] = "auto"
    """device: all images lie where the compute is; disk: each batch is read from the array cache, for sets
    that the device can't hold (docs/scaling.md). auto: device up to 4 GiB."""
    devices: Literal["one", "all"] = "one"
    """all: share each batch among all devices (with KERAS_BACKEND=jax)."""
    coordinator: Annotated[str | None, _open("HOST:PORT")] = None
    """Where several processes meet, which all run the same command: an address of the first
    (docs/scaling.md)."""
    process: Annotated[str | None, _open("K/N")] = None
    """Which of them this is, from 0/N to N-1/N."""
    out: OpenFolder = None
    """The run folder (default: runs/NAME, the same for the same experiment)."""
    overwrite: bool = False
    """Start anew what that folder holds."""
    quick: bool = False
    """Shrink width, data and epochs, where not given: minutes on two CPU cores, to see it work."""

    interrupted: ClassVar[str] = "The same command goes on from the last whole epoch."

    @property
    def training(self) -> Training:
        """How to train, of settings that are resolved."""
        return Training(**{field.name: getattr(self, field.name) for field in fields(Training)})

    @property
    def views(self) -> Views:
        return Views(self.training.shift, self.flip)

    def check(self) -> None:
        """Refuse wrong values, as far as each shows by itself and before Keras is imported.

        Raises:
            WrongValue: what was received, what is accepted.
        """
        cli.backend()
        sources.check_folder(self.data_dir)
        at_least(self, 1, "epochs", "batch_size", "limit_train", "milestones", "validate_every")
        at_least(self, 0, "momentum", "weight_decay", "warmup_epochs", "seed", "shift", "validation")
        above_zero(self, "learning_rate", "width", "rates")
        if (self.coordinator is None) != (self.process is None):
            raise WrongValue("--coordinator HOST:PORT and --process K/N go together.")
        if self.process is not None:
            processes.parse(self.process)
            match = re.fullmatch(r"[^:]+:(\d+)", self.coordinator or "")
            if not match or not 0 < int(match[1]) < 65536:
                raise WrongValue(f"--coordinator is {self.coordinator}: it must be HOST:PORT.")
            if self.devices != "all":
                raise WrongValue("--process goes with --devices all.")
        if self.devices == "all" and cli.backend() != "jax":
            raise WrongValue(
                f"--devices all is for KERAS_BACKEND=jax: on {cli.backend()}, Keras can't share a batch "
                "among devices."
            )
        if self.rates and self.learning_rate not in (None, self.rates[0]):
            raise WrongValue("--rates are the learning rates themselves: leave out --learning-rate.")

    def check_together(self) -> None:
        """Refuse values of resolved settings that don't go together.

        Raises:
            WrongValue: what was received, what is accepted.
        """
        how = self.training
        if how.warmup_epochs and how.schedule != "cosine":
            raise WrongValue("--warmup-epochs goes with --schedule cosine.")
        if how.schedule != "multistep" and (how.milestones or how.rates):
            raise WrongValue("--milestones and --rates go with --schedule multistep.")
        if list(how.milestones) != sorted(how.milestones):
            raise WrongValue(
                f"--milestones are {_listed(how.milestones)}: each must come after the one before."
            )
        if how.rates and len(how.rates) != len(how.milestones) + 1:
            raise WrongValue(
                f"--rates are {len(how.rates)} and --milestones {len(how.milestones)}: "
                "there must be one rate more, the first for the time before the first milestone."
            )
        for name in ("limit_train", "validate_every"):
            value = getattr(self, name)
            if value is not None and value < how.batch_size:
                raise WrongValue(
                    f"{_flag(name)} is {value}: it must be at least one batch, --batch-size {how.batch_size}."
                )

    def refuse_several_processes(self, instead: str) -> None:
        """Raises:
        WrongValue: several processes are to train what they can't; `instead` is what they can do.
        """
        if self.process is not None:
            raise WrongValue(f"--process is for kapp train: several processes train one network. {instead}")

    def join(self) -> None:
        """Meet the other processes, where there are any."""
        if self.process and self.coordinator:
            processes.join(self.coordinator, processes.parse(self.process))

    def spread(self) -> None:
        """Use all devices, where that is wanted."""
        if self.devices == "all":
            from kapp.training import parallel

            parallel.use_all(self.training.batch_size)

    def load(self, name: str) -> data.Dataset:
        """The data set called `name`, split as these settings say.

        Raises:
            WrongValue: it holds less than a batch to train on; and as `data.load` does.
            Failure: as `data.load` does.
        """
        dataset = data.load(
            name,
            data_dir=self.data_dir,
            validation=self.validation,
            limit_train=self.limit_train,
            streamed={"auto": None, "device": False, "disk": True}[self.images_on],
        )
        if len(dataset.train) < self.training.batch_size:
            raise WrongValue(
                f"{name} has {len(dataset.train)} images to train on: less than one batch, "
                f"--batch-size {self.training.batch_size}."
            )
        return dataset


@dataclass(frozen=True)
class OnLabels(Settings):
    """The settings of a training on labels."""

    pooling_norm: float = math.inf
    """p of every pooling, at least 1: the p-norm of paper A's equation 1; inf is max pooling."""
    departures: Departures = ()
    """Do as paper A's code does and its text doesn't say, each by itself or several of: relu_logits, corner,
    dropout, schedule, batch (docs/pooling.md)."""

    def check_network(self, model: str) -> None:
        """Refuse what doesn't go with the network called `model`.

        Raises:
            WrongValue: what was received, what is accepted.
        """
        at_least(self, 1, "pooling_norm")
        if self.pooling_norm != math.inf and not models.find(model).pools:
            raise WrongValue(f"--pooling-norm is {self.pooling_norm}, but {model} has no pooling.")
        if not self.departures:
            return
        if model not in paper_a.models():
            raise WrongValue(
                f"--departures are those of paper A's code, which doesn't train {model}. "
                f"It trains {', '.join(paper_a.models())}."
            )
        ordinary, departed = paper_a.training(1), paper_a.training(1, self.departures)
        for name in ("schedule", "learning_rate", "batch_size"):
            value, its = getattr(self, name), getattr(departed, name)
            if its != getattr(ordinary, name) and value not in (None, its):
                raise WrongValue(
                    f"--departures {_listed(self.departures)} sets {_flag(name)} to {its}, not to "
                    f"{value}: leave one of them out."
                )

    def as_its_paper(self, model: str | None, epochs: int) -> Values:
        """How its paper trains `model` over `epochs`; a user's own, None for one from a file, is trained as
        paper D's."""
        of_paper_a = model is not None and models.find(model).paper == "A"
        how = paper_a.training(epochs, self.departures) if of_paper_a else paper_d.TRAINING
        return published(self, how, epochs)

    def build(self, model: str, dataset: data.Dataset) -> Any:
        """The network called `model` for the images and classes of `dataset`."""
        rewritten = [name for name in self.departures if name in REWRITINGS]
        return models.build(
            model,
            width=self.width or 1.0,
            pooling_norm=self.pooling_norm,
            departures=rewritten,
            seed=self.seed,
            **dataset.as_input,
        )


def published(settings: Settings, paper: Training, epochs: int) -> Values:
    """How a paper trains over `epochs`, as far as it goes together with what `settings` say otherwise."""
    how = asdict(paper)
    schedule = settings.schedule or how["schedule"]
    how["milestones"] = paper_a.milestones(epochs) if schedule == "multistep" else ()
    if settings.rates:
        how["learning_rate"] = settings.rates[0]
    return how


def filled(settings: Any, *defaults: Values) -> Values:
    """The values of `settings` that were left open, from the first of `defaults` that has one."""
    chosen: Values = {}
    for values in reversed(defaults):
        chosen |= values
    return {name: value for name, value in chosen.items() if getattr(settings, name) is None}


def at_least(settings: Any, smallest: int, *names: str) -> None:
    """Refuse a value below `smallest`; None is a value left open."""
    for name in names:
        for value in _values(settings, name):
            if not value >= smallest:
                raise WrongValue(f"{_flag(name)} is {value}: it must be at least {smallest}.")


def above_zero(settings: Any, *names: str) -> None:
    """Refuse a value not above 0; None is a value left open."""
    for name in names:
        for value in _values(settings, name):
            if not 0 < value < math.inf:
                raise WrongValue(f"{_flag(name)} is {value}: it must be above 0.")


def _values(settings: Any, name: str) -> tuple:
    value = getattr(settings, name)
    return () if value is None else value if isinstance(value, tuple) else (value,)


def _listed(values: tuple) -> str:
    return " ".join(map(str, values))


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
