"""Scales: the papers' training, or a cheaper one. What each changes, as data."""

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from kapp.errors import unknown
from kapp.papers import hu, ratusznik
from kapp.papers.hparams import WITH_WARMUP, HParams

# What a training is for; a scale changes the epochs of each kind in its own way.
Kind = Literal["student", "distilled", "teacher", "all_cnn", "scratch", "linear_probe", "fine_tuning"]
Name = Literal["paper", "short", "small"]
KINDS: dict[Kind, str] = {
    "student": "on labels",
    "distilled": "distilled",
    "teacher": "teachers",
    "all_cnn": "networks of Hu 2018",
    "scratch": "transfer, from scratch",
    "linear_probe": "transfer, linear probe",
    "fine_tuning": "transfer, fine-tuning",
}


@dataclass(frozen=True)
class Scale:
    """What a scale changes; what it leaves out stays as the papers print it.

    Args:
        name: its name on the command line.
        summary: what it is for.
        divided_epochs: by which number the paper's epochs are divided.
        fixed_epochs: epochs that don't depend on the paper's.
        ratusznik: other hyperparameters for the networks of Ratusznik et al.
        hu: other hyperparameters for the networks of Hu 2018.
        warmup: of the cosine schedule, a fraction of the epochs.
        width: multiplies every layer's filters or units.
        train_images: the largest number of training images.
        target_images: the same for the target of a transfer.
    """

    name: Name
    summary: str
    divided_epochs: Mapping[Kind, float] = field(default_factory=dict)
    fixed_epochs: Mapping[Kind, int] = field(default_factory=dict)
    ratusznik: Mapping[str, Any] = field(default_factory=dict)
    hu: Mapping[str, Any] = field(default_factory=dict)
    warmup: float = 0.0
    width: float = 1.0
    train_images: int | None = None
    target_images: int | None = None

    def epochs(self, kind: Kind, paper_epochs: int) -> int:
        """Returns the epochs of a training that has `paper_epochs` in its paper."""
        if kind in self.fixed_epochs:
            return self.fixed_epochs[kind]
        return max(1, round(paper_epochs / self.divided_epochs.get(kind, 1)))

    def ratusznik_hparams(self, epochs: int) -> HParams:
        """Returns how a network of Ratusznik et al. is trained for `epochs`."""
        return self._change(ratusznik.hparams(epochs), self.ratusznik)

    def hu_hparams(self, epochs: int, code_variants: tuple[str, ...] = ()) -> HParams:
        """Returns how a network of Hu 2018 is trained for `epochs`. A variant keeps its own values."""
        printed, variant = hu.hparams(epochs), asdict(hu.hparams(epochs, code_variants))
        fixed = {name: value for name, value in variant.items() if value != getattr(printed, name)}
        return change(self._change(printed, self.hu), fixed)

    def _change(self, printed: HParams, changes: Mapping[str, Any]) -> HParams:
        warmup = min(printed.epochs - 1, max(1, round(self.warmup * printed.epochs))) if self.warmup else 0
        return change(printed, {**changes, "warmup_epochs": warmup})

    def changes(self, kinds: Collection[Kind]) -> list[str]:
        """Returns what the scale changes for trainings of `kinds`, a line each."""
        lines = []
        if self.width != 1:
            lines += [f"width {self.width:g}: every layer has that fraction of its filters or units"]
        if self.train_images:
            lines += [f"at most {self.train_images:,} training images"]
        if self.target_images and "fine_tuning" in kinds:
            lines += [f"at most {self.target_images:,} training images of the target of a transfer"]
        lines += [
            f"epochs, {KINDS[kind]}: the paper's divided by {number:g}"
            for kind, number in self.divided_epochs.items()
            if kind in kinds
        ]
        lines += [
            f"epochs, {KINDS[kind]}: {number}" for kind, number in self.fixed_epochs.items() if kind in kinds
        ]
        for paper, kind, hparams in (
            ("Ratusznik et al.", "student", self.ratusznik),
            ("Hu 2018", "all_cnn", self.hu),
        ):
            if hparams and kind in kinds:
                words = [f"{name.replace('_', ' ')} {value}" for name, value in hparams.items()]
                warmup = f", warm-up over {self.warmup:.0%} of the epochs" if self.warmup else ""
                lines += [f"networks of {paper}: {', '.join(words)}{warmup}"]
        return lines


SCALES = (
    Scale("paper", "the settings that the papers print"),
    Scale(
        "short",
        "full width, a modern schedule with fewer epochs",
        # Distilled to labels stays 4 : 1, from scratch to the phases of a transfer 7 : 1. The targets are
        # small: a tenth of the epochs would be a few hundred steps, and costs little less.
        divided_epochs={
            "student": 5,
            "distilled": 5,
            "teacher": 10,
            "all_cnn": 10,
            "scratch": 2.5,
            "linear_probe": 2.5,
            "fine_tuning": 2.5,
        },
        # Adam's rate grows with the root of the batch size: 32 to 128 images.
        ratusznik={"batch_size": 128, "learning_rate": 0.002, "schedule": "cosine"},
        hu={"batch_size": 128, "learning_rate": 0.05, "schedule": "cosine"},
        warmup=0.05,
    ),
    Scale(
        "small",
        "minutes on two CPU cores, to see it work",
        fixed_epochs={
            "student": 20,
            "distilled": 20,
            "teacher": 20,
            "all_cnn": 12,
            "scratch": 16,
            "linear_probe": 20,
            "fine_tuning": 10,
        },
        # A rate that falls ends within a few points for every seed.
        ratusznik={"learning_rate": 0.004, "schedule": "cosine"},
        # Narrow, without batch normalization, they don't learn by SGD in so few epochs.
        hu={
            "batch_size": 32,
            "optimizer": "adam",
            "learning_rate": 0.002,
            "weight_decay": 0.0,
            "schedule": "cosine",
        },
        warmup=0.05,
        width=0.125,
        train_images=4000,
        target_images=800,
    ),
)
_BY_NAME = {scale.name: scale for scale in SCALES}


def get(name: str) -> Scale:
    """Returns the scale called `name`.

    Raises:
        ConfigError: there is none.
    """
    if name not in _BY_NAME:
        raise unknown("scale", name, _BY_NAME)
    return _BY_NAME[name]


def change(hparams: HParams, changes: Mapping[str, Any]) -> HParams:
    """Returns `hparams` with other values, and without what their schedule or optimizer doesn't have."""
    changed = replace(hparams, **changes)
    if changed.schedule != "multistep":
        changed = replace(changed, milestones=(), rates=())
    if changed.optimizer != "sgd":
        changed = replace(changed, nesterov=False, bias_scaler=1.0)
    return changed if changed.schedule in WITH_WARMUP else replace(changed, warmup_epochs=0)
