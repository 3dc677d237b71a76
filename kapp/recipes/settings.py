"""The settings that all training recipes share."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from kapp import cli, data
from kapp.data import Views, sources
from kapp.errors import WrongValue
from kapp.papers import deep_and_convolutional as paper_d

Quick = dict[str, Any]


def _open(metavar: str) -> Any:
    """A flag that may stay open: its help text says what it is then."""
    return tyro.conf.arg(metavar=metavar, help_behavior_hint="")


OpenCount = Annotated[int | None, _open("INT")]
OpenSize = Annotated[float | None, _open("FLOAT")]
OpenFolder = Annotated[Path | None, _open("FOLDER")]


@dataclass(frozen=True)
class Settings:
    dataset: str = "cifar10"
    """cifar10; cifar100, cifar100:class1, cifar100:class2 or cifar100:CLASS,CLASS,...; shapes, shapes:near,
    shapes:far; tfds:NAME; npz:PATH."""
    data_dir: Annotated[str | None, _open("FOLDER")] = None
    """Where tensorflow-datasets and the array cache keep their files (default: $KAPP_DATA_DIR or
    ~/.cache/kapp)."""
    epochs: OpenCount = None
    """How often to see the training images (default: as long as the paper does)."""
    batch_size: int = paper_d.BATCH_SIZE
    learning_rate: float = paper_d.LEARNING_RATE
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    momentum: float = 0.9
    """Of sgd."""
    weight_decay: float = 0.0
    """Decoupled, on kernels."""
    schedule: Literal["constant", "cosine"] = "constant"
    warmup_epochs: int = 0
    """With the cosine schedule: epochs of linear rise before it falls."""
    precision: Literal["auto", "float32", "mixed_bfloat16"] = "auto"
    """auto: bfloat16 where the machine has units for it."""
    seed: int = 0
    """Of the initial weights, dropout and the epoch table. The split is the same for every seed."""
    width: OpenSize = None
    """Multiplies every layer's filters or units (default: 1, the paper's size)."""
    shift: int = 4
    """Crops move by up to that many pixels."""
    flip: bool = True
    """Mirror half of the images."""
    limit_train: OpenCount = None
    """Train on that many images at most, and select by a quarter as many."""
    out: OpenFolder = None
    """The run folder (default: runs/NAME, the same for the same experiment)."""
    overwrite: bool = False
    """Start anew what that folder holds."""
    quick: bool = False
    """Shrink width, data and epochs, where not given: minutes on two CPU cores, to see it work."""

    @property
    def views(self) -> Views:
        return Views(self.shift, self.flip)

    def check(self) -> None:
        """Refuse wrong values, as far as they show before Keras is imported.

        Raises:
            WrongValue: what was received, what is accepted.
        """
        cli.backend()
        sources.check(self.dataset, self.data_dir)
        at_least(self, 1, "epochs", "batch_size", "limit_train")
        at_least(self, 0, "momentum", "weight_decay", "warmup_epochs", "seed", "shift")
        above_zero(self, "learning_rate", "width")
        if self.warmup_epochs and self.schedule != "cosine":
            raise WrongValue("--warmup-epochs goes with --schedule cosine.")
        if self.limit_train is not None and self.limit_train < self.batch_size:
            raise WrongValue(
                f"--limit-train is {self.limit_train}: it must be at least one batch, "
                f"--batch-size {self.batch_size}."
            )

    def load(self) -> data.Dataset:
        """The data set that these settings describe.

        Raises:
            WrongValue: it holds less than a batch to train on; and as `data.load` does.
            Failure: as `data.load` does.
        """
        dataset = data.load(self.dataset, data_dir=self.data_dir, limit_train=self.limit_train)
        if len(dataset.train) < self.batch_size:
            raise WrongValue(
                f"{self.dataset} has {len(dataset.train)} images to train on: less than one batch, "
                f"--batch-size {self.batch_size}."
            )
        return dataset

    def optimiser(self, steps_per_epoch: int):
        """The optimiser that these settings describe."""
        from kapp.training import optimizers

        return optimizers.make(
            self.optimizer,
            self.learning_rate,
            schedule=self.schedule,
            steps=steps_per_epoch * (self.epochs or 1),
            warmup_steps=steps_per_epoch * self.warmup_epochs,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
        )


def filled(settings: Any, quick: Quick, full: Quick) -> dict[str, Any]:
    """The values of `settings` that were left open, from `quick` or `full`."""
    chosen = quick if settings.quick else full
    return {name: value for name, value in chosen.items() if getattr(settings, name) is None}


def at_least(settings: Any, smallest: int, *names: str) -> None:
    """Refuse a value below `smallest`; None is a value left open."""
    for name in names:
        value = getattr(settings, name)
        if value is not None and not value >= smallest:
            raise WrongValue(f"{_flag(name)} is {value}: it must be at least {smallest}.")


def above_zero(settings: Any, *names: str) -> None:
    """Refuse a value not above 0; None is a value left open."""
    for name in names:
        value = getattr(settings, name)
        if value is not None and not 0 < value < float("inf"):
            raise WrongValue(f"{_flag(name)} is {value}: it must be above 0.")


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
