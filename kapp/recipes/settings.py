"""The settings that the training recipes share, as records of which their configs are composed.

A setting that may be left open on the command line is `None` in a `...Flags` record. Resolving fills it in:
the result is a record without open settings, `HParams` for `HParamFlags`.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, fields
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import tyro

from kapp import cli, data, distributed, hardware, models
from kapp.errors import ConfigError
from kapp.fileio import is_file
from kapp.models.code_variants import REWRITES
from kapp.models.size import measure
from kapp.papers import hu, jordan, ratusznik, scales
from kapp.papers.hparams import WITH_WARMUP, HParams
from kapp.papers.scales import Kind, Scale

if TYPE_CHECKING:
    from kapp.cluster import Cluster
    from kapp.data import Augmentation, Dataset

Config = TypeVar("Config")


def _optional(metavar: str) -> Any:
    """An optional flag: its help text describes the default."""
    return tyro.conf.arg(metavar=metavar, help_behavior_hint="")


OptionalInt = Annotated[int | None, _optional("INT")]
OptionalFloat = Annotated[float | None, _optional("FLOAT")]
OptionalStr = Annotated[str | None, _optional("STR")]
OptionalFolder = Annotated[Path | None, _optional("FOLDER")]
OptionalFile = Annotated[Path | None, _optional("FILE")]
OptionalInts = Annotated[tuple[int, ...] | None, _optional("[INT [INT ...]]")]
OptionalFloats = Annotated[tuple[float, ...] | None, _optional("[FLOAT [FLOAT ...]]")]
ScaleName = scales.Name
MAX_INT, MAX_FLOAT = 2**31 - 1, 1e37  # what int32 and float32 hold, with a margin
Optimizer = Literal["adam", "adamw", "lion", "muon", "sgd"]
Schedule = Literal["constant", "cosine", "linear", "multistep"]
FlipOrder = Literal["random", "alternating"]
CodeVariant = Literal[
    "relu_logits", "corner", "dropout", "filters", "normalization",
    "schedule", "pytorch_sgd", "bias_decay", "batch", "last_epoch",
]  # fmt: skip


@dataclass(frozen=True)
class HParamFlags:
    """How to train. Settings that are left out are the paper's."""

    epochs: OptionalInt = None
    """How often to train on each image (default: as often as the paper)."""
    batch_size: OptionalInt = None
    learning_rate: OptionalFloat = None
    """The highest of the schedule."""
    optimizer: Annotated[Optimizer | None, _optional("{adam,adamw,lion,muon,sgd}")] = None
    momentum: OptionalFloat = None
    """Of sgd and muon; beta_1 of adam, adamw and lion."""
    nesterov: Annotated[bool | None, _optional("{True,False}")] = None
    """With sgd: Nesterov's momentum."""
    bias_scaler: OptionalFloat = None
    """With sgd: multiplies the learning rate of batch normalization's shifts (Jordan 2024: 64)."""
    weight_decay: OptionalFloat = None
    """On kernels: an L2 penalty in the gradient with sgd, decoupled with the other optimizers."""
    label_smoothing: OptionalFloat = None
    """Divide this part of each label among all classes, in the labels' cross-entropy."""
    ema: OptionalFloat = None
    """Momentum of the averaged weights, per gradient step, such as 0.99: they are validated, saved and tested
    (0: none)."""
    schedule: Annotated[Schedule | None, _optional("{constant,cosine,linear,multistep}")] = None
    milestones: OptionalInts = None
    """With the multistep schedule: epochs after which the rate falls to a tenth (default: 4/7, 5/7 and 6/7 of
    all, as 200, 250 and 300 of 350)."""
    rates: OptionalFloats = None
    """With the multistep schedule: the rates themselves, one more than milestones; replaces
    --learning-rate."""
    warmup_epochs: OptionalInt = None
    """With the cosine and linear schedules: epochs in which the rate rises before it falls, fewer than
    --epochs. Trainings of another length, such as a teacher's, warm up for the same fraction of theirs."""

    def check(self) -> None:
        """Refuse wrong values.

        Raises:
            ConfigError: with what was received and what is accepted.
        """
        check_min(self, 1, "epochs", "batch_size", "milestones")
        check_min(self, 0, "momentum", "weight_decay", "warmup_epochs", "label_smoothing", "ema")
        check_positive(self, "learning_rate", "rates", "bias_scaler")
        if self.momentum is not None and self.momentum >= 1:
            raise ConfigError(f"--momentum is {self.momentum}: it must be below 1, or the updates only grow.")
        if self.label_smoothing is not None and self.label_smoothing >= 1:
            raise ConfigError(
                f"--label-smoothing is {self.label_smoothing}: it must be below 1, or the label is lost."
            )
        if self.ema is not None and self.ema >= 1:
            raise ConfigError(f"--ema is {self.ema}: it must be below 1, or the average never changes.")
        if self.weight_decay == math.inf:
            raise ConfigError("--weight-decay is inf: it must be finite.")
        if self.rates and self.learning_rate not in (None, self.rates[0]):
            raise ConfigError("--rates are the learning rates themselves: leave out --learning-rate.")

    def resolved(self, paper: HParams) -> HParams:
        """All hyperparameters: these flags, and `paper`'s where they are left open."""
        chosen = {name: value for name, value in asdict(self).items() if value is not None}
        schedule = chosen.get("schedule", paper.schedule)
        optimizer = chosen.get("optimizer", paper.optimizer)
        defaults = asdict(scales.change(paper, {"schedule": schedule, "optimizer": optimizer}))
        if schedule == "multistep":
            defaults["milestones"] = hu.milestones(chosen.get("epochs", paper.epochs))
        if self.rates:
            defaults["learning_rate"] = self.rates[0]
        return HParams(**{**defaults, **chosen})


def check_hparams(hparams: HParams) -> None:
    """Refuse hyperparameters that don't go together.

    Raises:
        ConfigError: with what was received and what is accepted.
    """
    milestones, rates = hparams.milestones, hparams.rates
    if hparams.nesterov and hparams.optimizer != "sgd":
        raise ConfigError("--nesterov goes with --optimizer sgd.")
    if hparams.nesterov and not hparams.momentum:
        raise ConfigError("--nesterov needs a --momentum above 0.")
    if hparams.optimizer == "lion" and not hparams.momentum:
        raise ConfigError("--optimizer lion needs a --momentum above 0.")
    if hparams.bias_scaler != 1 and hparams.optimizer != "sgd":
        raise ConfigError("--bias-scaler goes with --optimizer sgd.")
    if hparams.warmup_epochs and hparams.schedule not in WITH_WARMUP:
        raise ConfigError("--warmup-epochs goes with --schedule cosine or linear.")
    if hparams.warmup_epochs and hparams.warmup_epochs >= hparams.epochs:
        raise ConfigError(
            f"--warmup-epochs is {hparams.warmup_epochs}: it must be less than --epochs, {hparams.epochs}."
        )
    if hparams.schedule != "multistep" and (milestones or rates):
        raise ConfigError("--milestones and --rates go with --schedule multistep.")
    if list(milestones) != sorted(milestones):
        raise ConfigError(f"--milestones are {_join(milestones)}: none must be smaller than the one before.")
    if rates and len(rates) != len(milestones) + 1:
        raise ConfigError(
            f"--rates has {len(rates)} values and --milestones {len(milestones)}: there must be one rate "
            "more, the first for the time before the first milestone."
        )


@dataclass(frozen=True)
class AugmentationFlags:
    """How training images are augmented."""

    crop_padding: OptionalInt = None
    """Crops move by up to that many pixels (default: 4 as Ratusznik et al., 5 for the networks of Hu
    2018)."""
    flip: bool = True
    """Mirror half of the images."""
    flip_order: Annotated[FlipOrder | None, _optional("{random,alternating}")] = None
    """random: draw anew in each epoch which images are mirrored. alternating: mirror each image in every
    other epoch (Jordan 2024; default: random, for airbench alternating)."""
    crop_scale: float = 1.0
    """Random square crops from this fraction of the image's area to all of it, resized to the whole image
    (1: off)."""
    hue: float = 0.0
    """Rotate colors by up to this fraction of the color circle, 0.5 at most."""
    saturation: float = 0.0
    """Change the saturation by up to this fraction, 1 at most."""
    brightness: float = 0.0
    """Change the brightness by up to this fraction, 1 at most."""
    random_erasing: float = 0.0
    """The probability that a random rectangle of the image is erased (Zhong et al. 2017)."""
    mixup: float = 0.0
    """alpha of mixup, the blending of two images and their labels (Zhang et al. 2018; 0: off)."""
    cutmix: float = 0.0
    """alpha of CutMix, which pastes a rectangle of another image (Yun et al. 2019; 0: off). With --mixup,
    each image gets one of the two."""

    def check(self) -> None:
        """Raises:
        ConfigError: a value out of range.
        """
        check_min(self, 0, "crop_padding", "hue", "saturation", "brightness", "random_erasing")
        check_max(self, 0.5, "hue")
        check_max(self, 1, "crop_scale", "saturation", "brightness", "random_erasing")
        check_positive(self, "crop_scale")
        check_min(self, 0, "mixup", "cutmix")
        if math.inf in (self.mixup, self.cutmix):
            raise ConfigError("--mixup and --cutmix must be finite.")
        if self.flip_order == "alternating" and not self.flip:
            raise ConfigError("--flip-order goes with --flip.")

    def resolved(self, model: str | None = None) -> Augmentation:
        """The augmentation, with what the paper of `model` has where a setting is left open (default:
        Ratusznik et al.)."""
        paper = paper_of(model)
        defaults: dict[str, Any] = {"crop_padding": ratusznik.CROP_PADDING, "flip_order": "random"}
        if paper == hu.NAME:
            defaults["crop_padding"] = hu.CROP_PADDING
        elif paper == jordan.NAME:
            defaults["crop_padding"] = jordan.CROP_PADDING
            defaults["flip_order"] = jordan.FLIP_ORDER if self.flip else "random"
        chosen = {name: value for name, value in vars(self).items() if value is not None}
        return data.Augmentation(**defaults | chosen)


@dataclass(frozen=True)
class DataOptions:
    """Which images to train on and to select by."""

    data_dir: Annotated[str | None, _optional("FOLDER")] = None
    """Where tensorflow-datasets and the array cache keep their files (default: $KAPP_DATA_DIR or
    ~/.cache/kapp)."""
    train_images: OptionalInt = None
    """Train on that many images at most, and hold out a quarter as many."""
    labeled: OptionalInt = None
    """Only so many training images keep their labels, in proportion of the classes (default: all). distill:
    the baseline, the student's label part and teachers that are trained here use these alone; the teacher's
    logits are matched on all images. train and transfer: train on these alone."""
    validation_images: OptionalInt = None
    """Training images held out to select the best network (default: a fifth, or the validation images that
    the data set has of its own). 0: none, as Hu 2018 with small sets; then the last epoch's network is kept,
    and the curves are of test images."""
    validate_every: OptionalInt = None
    """Validate each time that many images were trained on (default: once per epoch)."""
    image_storage: Literal["auto", "device", "disk"] = "auto"
    """device: all images lie in the memory of the compute device. disk: each batch is read from the array
    cache, for sets that don't fit (docs/scaling.md). auto: device up to 4 GiB."""

    def check(self) -> None:
        """Raises:
        ConfigError: a wrong number, or a folder that doesn't exist.
        """
        data.sources.check_data_dir(self.data_dir)
        check_min(self, 1, "train_images", "labeled", "validate_every")
        check_min(self, 0, "validation_images")

    def check_batch_size(self, batch_size: int) -> None:
        """Raises:
        ConfigError: a number of images is smaller than a batch.
        """
        for name in ("train_images", "labeled", "validate_every"):
            value = getattr(self, name)
            if value is not None and value < batch_size:
                raise ConfigError(
                    f"{flag(name)} is {value}: it must be at least one batch, --batch-size {batch_size}."
                )

    @property
    def streamed(self) -> bool | None:
        """Whether each batch contains its images; None: where there are more than 4 GiB."""
        return {"auto": None, "device": False, "disk": True}[self.image_storage]

    def load(self, name: str, batch_size: int) -> Dataset:
        """The data set called `name`, split by these options; with `labeled`, only so many training
        images.

        Raises:
            ConfigError: its training images are fewer than a batch, or than `labeled`; and as
                `kapp.data.load` does.
            KappError: as `kapp.data.load` does.
        """
        dataset = data.load(
            name,
            data_dir=self.data_dir,
            validation_images=self.validation_images,
            train_images=self.train_images,
            streamed=self.streamed,
        )
        if self.labeled is not None:
            dataset = dataset.first_labeled(self.labeled)
        if len(dataset.train) < batch_size:
            raise ConfigError(
                f"{name} has {len(dataset.train)} training images: less than one batch, "
                f"--batch-size {batch_size}."
            )
        return dataset


# The code variants of the network; the others are of the training.
NETWORK_VARIANTS = (*REWRITES, "normalization")


@dataclass(frozen=True)
class NetworkFlags:
    """How the network is built."""

    width: OptionalFloat = None
    """Multiplies every layer's filters or units (default: 1, the paper's size)."""
    pooling_norm: float = math.inf
    """p of every pooling, at least 1: the p-norm of Springenberg et al. 2014, equation 1; inf is max
    pooling."""
    code_variants: tuple[CodeVariant, ...] = ()
    """Build and train as Hu 2018's code does where its text differs: one or several of relu_logits, corner,
    dropout, filters, normalization, schedule, pytorch_sgd, bias_decay, batch, last_epoch
    (docs/pooling.md)."""

    def check(self, model: str, hparams: HParamFlags) -> None:
        """Refuse what doesn't go with the network called `model`.

        Raises:
            ConfigError: with what was received and what is accepted.
        """
        check_positive(self, "width")
        check_min(self, 1, "pooling_norm")
        if self.pooling_norm != math.inf and not models.get_spec(model).has_pooling:
            raise ConfigError(f"--pooling-norm is {self.pooling_norm}, but {model} has no pooling.")
        if not self.code_variants:
            return
        if model not in hu.models():
            raise ConfigError(
                f"--code-variants are those of Hu 2018's code, which doesn't train {model}. "
                f"It trains {', '.join(hu.models())}."
            )
        if "filters" in self.code_variants and "filters" not in hu.code_variants(model):
            raise ConfigError(f"--code-variants filters is of all_cnn_a: {model} has no such layer.")
        of_sgd = [name for name in self.code_variants if name in hu.SGD_VARIANTS]
        if of_sgd and hparams.optimizer not in (None, "sgd"):
            raise ConfigError(
                f"--code-variants {' '.join(of_sgd)} goes with --optimizer sgd, not {hparams.optimizer}."
            )
        if "pytorch_sgd" in self.code_variants and hparams.nesterov:
            raise ConfigError("--code-variants pytorch_sgd has no Nesterov momentum: leave out --nesterov.")
        ordinary, variant = hu.hparams(1), hu.hparams(1, self.code_variants)
        for name in ("schedule", "learning_rate", "batch_size"):
            value, fixed = getattr(hparams, name), getattr(variant, name)
            if fixed != getattr(ordinary, name) and value not in (None, fixed):
                raise ConfigError(
                    f"--code-variants {_join(self.code_variants)} sets {flag(name)} to {fixed}, "
                    f"not to {value}: leave one of them out."
                )

    def resolved(self, width: float = 1.0) -> NetworkOptions:
        """These options, with `width` where it is left open."""
        return NetworkOptions(self.width or width, self.pooling_norm, self.code_variants)


@dataclass(frozen=True)
class NetworkOptions:
    """`NetworkFlags` with nothing left open."""

    width: float = 1.0
    pooling_norm: float = math.inf
    code_variants: tuple[CodeVariant, ...] = ()

    def check_size(self, model: str, dataset: Dataset, hparams: HParams) -> None:
        """Refuse a network that doesn't fit the images of `dataset`, or the memory of this machine.

        Raises:
            ConfigError: with what was received and what is accepted.
        """
        if "normalization" in self.code_variants and dataset.image_shape[-1] != len(hu.MEAN):
            raise ConfigError(
                f"--code-variants normalization is for RGB images; those of {dataset.name} are "
                f"{dataset.image_shape}."
            )
        rewrites = [name for name in self.code_variants if name in REWRITES]
        size = measure(model, len(dataset.classes), dataset.image_shape, self.width, rewrites)
        available = hardware.memory()
        needed = size.training_bytes(hparams.batch_size, hparams.optimizer)
        if available is None or needed <= available:
            return
        if hardware.gpus():  # which have a memory of their own for activations
            needed = size.training_bytes(0, hparams.optimizer)
        if needed > available:
            raise ConfigError(
                f"{model} with {size.parameters:,} parameters and batches of {hparams.batch_size} images "
                f"needs at least {needed / 2**30:,.1f} GiB of memory; this machine has "
                f"{available / 2**30:,.1f} GiB. Use a smaller --width or --batch-size."
            )

    def build(self, model: str, dataset: Dataset, seed: int) -> Any:
        """The network called `model`, a `keras.Model`, for the images and classes of `dataset`.

        Raises:
            ConfigError: as `models.build`.
        """
        arguments = dataset.model_arguments
        if "normalization" in self.code_variants:
            arguments["mean"] = [255 * value for value in hu.MEAN]
            arguments["std"] = [255 * value for value in hu.STD]
        return models.build(
            model,
            width=self.width,
            pooling_norm=self.pooling_norm,
            code_variants=[name for name in self.code_variants if name in REWRITES],
            seed=seed,
            **arguments,
        )


@dataclass(frozen=True)
class ComputeOptions:
    """In which precision and on which devices to compute."""

    precision: Literal["auto", "float32", "mixed_bfloat16"] = "auto"
    """auto: bfloat16 where it is faster on this machine."""
    devices: Literal["one", "all"] = "one"
    """all: divide each batch among all devices (with KERAS_BACKEND=jax)."""
    coordinator: Annotated[str | None, _optional("HOST:PORT")] = None
    """Where several processes meet that run the same command: an address of the first (docs/scaling.md)."""
    process_id: OptionalInt = None
    """Which of these processes this one is, from 0."""
    num_processes: OptionalInt = None
    """How many processes there are."""

    def check(self) -> None:
        """Raises:
        ConfigError: with what was received and what is accepted.
        """
        together = (self.coordinator, self.process_id, self.num_processes)
        if len({value is None for value in together}) > 1:
            raise ConfigError("--coordinator HOST:PORT, --process-id and --num-processes go together.")
        if self.coordinator is not None:
            check_min(self, 0, "process_id")
            check_min(self, 1, "num_processes")
            if self.process_id >= self.num_processes:  # type: ignore[operator]  # all three are set
                raise ConfigError(
                    f"--process-id is {self.process_id}: it must be from 0 to {self.num_processes - 1}, "  # type: ignore[operator]
                    "one less than --num-processes."
                )
            match = re.fullmatch(r"[^:]+:(\d+)", self.coordinator)
            if not match or not 0 < int(match[1]) < 65536:
                raise ConfigError(f"--coordinator is {self.coordinator}: it must be HOST:PORT.")
            if self.devices != "all":
                raise ConfigError("--process-id goes with --devices all.")
        if self.devices == "all" and cli.backend() != "jax":
            raise ConfigError(
                f"--devices all is for KERAS_BACKEND=jax: Keras on {cli.backend()} can't divide a batch "
                "among devices."
            )

    def check_one_process(self, way_out: str) -> None:
        """Refuse several processes for a recipe that trains more than one network.

        Raises:
            ConfigError: several processes were requested; the message ends with `way_out`.
        """
        if self.process_id is not None:
            raise ConfigError(
                f"--process-id is for kapp train: several processes train one network. {way_out}"
            )

    def check_batch_size(self, batch_size: int) -> None:
        """Refuse a batch that all devices can't share; starts Keras to count them, and writes nothing.

        Raises:
            ConfigError: `batch_size` isn't a multiple of the number of devices.
        """
        if self.devices == "all":
            self.start(batch_size)

    def join(self) -> None:
        """Connect to the other processes, where there are any; before Keras is imported."""
        if self.coordinator is not None and self.process_id is not None and self.num_processes is not None:
            distributed.initialize(self.coordinator, self.num_processes, self.process_id)

    def start(self, batch_size: int) -> str:
        """Start Keras with this precision and these devices; return the name of the dtype policy."""
        cli.start_keras()
        from kapp.training import mixed_precision

        policy = mixed_precision.set_policy(self.precision)
        if self.devices == "all":
            distributed.use_all_devices(batch_size)
        return policy


@dataclass(frozen=True)
class OutputOptions:
    """Where the run goes."""

    out: OptionalFolder = None
    """The run folder (default: runs/NAME, the same for the same experiment)."""
    overwrite: bool = False
    """Delete an earlier run in that folder and start again."""


@dataclass(frozen=True)
class ClusterOptions:
    """Which processes train several networks."""

    workers: OptionalInt = None
    """How many networks to train at the same time, each in its own process (default: 1; with --scheduler: as
    many as the cluster has workers)."""
    scheduler: Annotated[str | None, _optional("ADDRESS")] = None
    """Use the workers of a Dask cluster: the address of its scheduler, such as tls://10.0.0.5:8786
    (docs/scaling.md)."""
    tls_ca: OptionalFile = None
    """With tls://: the PEM file of the authority that signed the cluster's certificates."""
    tls_cert: OptionalFile = None
    """With tls://: the PEM file of the certificate of this command."""
    tls_key: OptionalFile = None
    """With tls://: the PEM file of its key."""
    insecure: bool = False
    """Allow a scheduler at tcp:// on another machine: no encryption, and who reaches it can run code."""
    dashboard: bool = False
    """Show the workers of this machine in a browser, with Dask's dashboard."""

    def check(self) -> None:
        """Raises:
        ConfigError: with what was received and what is accepted.
        """
        from kapp import cluster  # here, because recipes that train one network need not wait for it

        cluster.check_installed()
        check_min(self, 1, "workers")
        files = {"tls_ca": self.tls_ca, "tls_cert": self.tls_cert, "tls_key": self.tls_key}
        if self.scheduler is None:
            for name in (*files, "insecure"):
                if getattr(self, name):
                    raise ConfigError(f"{flag(name)} goes with --scheduler.")
            if self.dashboard and find_spec("bokeh") is None:
                raise ConfigError("--dashboard needs Bokeh, which isn't installed: pip install bokeh.")
            return
        if self.dashboard:
            raise ConfigError("--dashboard is for workers of this machine; a cluster has its own dashboard.")
        is_encrypted = cluster.check_address(self.scheduler, self.insecure)
        for name, file in files.items():
            if is_encrypted and file is None:
                raise ConfigError(f"--scheduler {self.scheduler} needs --tls-ca, --tls-cert and --tls-key.")
            if not is_encrypted and file is not None:
                raise ConfigError(f"{flag(name)} goes with a --scheduler at tls://.")
            if file is not None and not is_file(file):
                raise ConfigError(f"{flag(name)} {file}: there is no such file.")

    def open(self, folder: Path) -> AbstractContextManager[Cluster]:
        """The workers, until the block ends; `folder` must be visible to all of them."""
        from kapp import cluster

        if self.scheduler is None:
            return cluster.local(self.workers or 1, folder, self.dashboard)
        tls = None
        if self.tls_ca and self.tls_cert and self.tls_key:
            tls = self.tls_ca, self.tls_cert, self.tls_key
        return cluster.connect(self.scheduler, tls, self.workers, folder)


def default_hparams(
    scale: Scale, model: str | None, epochs: int, code_variants: tuple[str, ...] = ()
) -> HParams:
    """How `model` is trained on labels for `epochs` at `scale`; as those of Ratusznik et al. for a network of
    the user's own."""
    match paper_of(model):
        case hu.NAME:
            return scale.hu_hparams(epochs, code_variants)
        case jordan.NAME:
            return jordan.hparams(epochs)
    return scale.ratusznik_hparams(epochs)


def default_epochs(scale: Scale, model: str, kind: Kind | None = None) -> int:
    """The number of epochs for which `model` is trained on labels at `scale`.

    Args:
        kind: of the training (default: that of the network).
    """
    if paper_of(model) == hu.NAME:
        return scale.epochs(kind or "all_cnn", hu.EPOCHS)
    if paper_of(model) == jordan.NAME:  # few, at each scale
        return jordan.EPOCHS
    own: Kind = "teacher" if model in ratusznik.TEACHERS else "student"
    return scale.epochs(kind or own, ratusznik.epochs(model))


def for_epochs(hparams: HParams, epochs: int) -> HParams:
    """`hparams` for a training of another length: the rate rises and falls at the same fractions of it."""
    milestones = tuple(max(1, round(each * epochs / hparams.epochs)) for each in hparams.milestones)
    printed = hu.milestones(epochs)  # fewer, where a training is so short that two would be equal
    is_printed = hparams.milestones == hu.milestones(hparams.epochs)
    if is_printed and (not hparams.rates or len(printed) == len(milestones)):
        milestones = printed
    warmup = min(epochs - 1, max(1, round(hparams.warmup_epochs * epochs / hparams.epochs)))
    return dataclasses.replace(
        hparams,
        epochs=epochs,
        milestones=milestones,
        warmup_epochs=warmup if hparams.warmup_epochs else 0,
    )


def paper_of(model: str | None) -> str | None:
    """The paper whose training is the default for `model`."""
    return None if model is None else models.get_spec(model).paper


def with_values(config: Config, values: Mapping[str, Any]) -> Config:
    """`config` with the settings in `values`, by the names of their flags, in whichever record they stand."""
    changes: dict[str, Any] = {}
    for each in fields(config):  # type: ignore[arg-type]
        value = getattr(config, each.name)
        if dataclasses.is_dataclass(value):
            changes[each.name] = with_values(value, values)
        elif each.name in values:
            changes[each.name] = values[each.name]
    return dataclasses.replace(config, **changes)  # type: ignore[type-var]


def with_defaults(config: Config, defaults: Mapping[str, Any]) -> Config:
    """`config` with the settings in `defaults` where it leaves them open."""
    current = cli.flatten(config)
    return with_values(config, {name: value for name, value in defaults.items() if current[name] is None})


def check_training(
    dataset: Dataset, hparams: HParams, augmentation: Augmentation, validate_every: int | None
) -> None:
    """Refuse a training that can't work with `dataset`, before anything is written.

    Raises:
        ConfigError: with what was received and what is accepted.
    """
    augmentation.check_image_shape(dataset.image_shape)
    side = min(dataset.image_shape[:2])
    if augmentation.crop_padding > side:
        raise ConfigError(
            f"--crop-padding is {augmentation.crop_padding}: it must be at most {side}, the size of the "
            f"images of {dataset.name}. Beyond that, crops would be all black."
        )
    images = len(dataset.train) // hparams.batch_size * hparams.batch_size * hparams.epochs
    if validate_every is not None and validate_every > images:
        raise ConfigError(
            f"--validate-every is {validate_every}: it must be at most {images}, the images that the whole "
            "training is on."
        )


def check_min(settings: Any, smallest: int, *names: str) -> None:
    """Refuse a value below `smallest`, or one that float32 or int32 can't hold; None is a setting left open.

    Raises:
        ConfigError: with the flag, the value and the bound.
    """
    for name in names:
        for value in _values(settings, name):
            if not value >= smallest:
                raise ConfigError(f"{flag(name)} is {value}: it must be at least {smallest}.")
            largest = MAX_INT if isinstance(value, int) else MAX_FLOAT
            if largest < value < math.inf:
                raise ConfigError(f"{flag(name)} is {value}: it must be at most {largest}.")
            if 0 < abs(value) < 1 / MAX_FLOAT:  # some processors take such numbers for 0, others don't
                raise ConfigError(
                    f"{flag(name)} is {value}: it must be {smallest}, or at least {1 / MAX_FLOAT:g}, which "
                    "float32 can hold."
                )


def check_max(settings: Any, largest: float, *names: str) -> None:
    """Refuse a value above `largest`; None is a setting left open.

    Raises:
        ConfigError: with the flag, the value and the bound.
    """
    for name in names:
        for value in _values(settings, name):
            if not value <= largest:
                raise ConfigError(f"{flag(name)} is {value}: it must be at most {largest}.")


def check_positive(settings: Any, *names: str) -> None:
    """Refuse a value that isn't finite and above 0 in float32; None is a setting left open.

    Raises:
        ConfigError: with the flag and the value.
    """
    for name in names:
        for value in _values(settings, name):
            if not 0 < value < math.inf:
                raise ConfigError(f"{flag(name)} is {value}: it must be above 0.")
            if not 1 / MAX_FLOAT <= value <= MAX_FLOAT:
                raise ConfigError(
                    f"{flag(name)} is {value}: it must be from {1 / MAX_FLOAT:g} to {MAX_FLOAT:g}, which "
                    "float32 can hold."
                )


def _values(settings: Any, name: str) -> tuple:
    value = getattr(settings, name)
    return () if value is None else value if isinstance(value, tuple) else (value,)


def _join(values: tuple) -> str:
    return " ".join(map(str, values))


def flag(name: str) -> str:
    return "--" + name.replace("_", "-")
