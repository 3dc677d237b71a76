"""Ratusznik et al., "Do deep convolutional nets really need to be deep and convolutional?".

Published accuracies and hyperparameters. The report, by W. Ratusznik, T. Nazar, K. Fatah and A. Westman,
reproduces Urban et al. 2016, arXiv:1603.05691.
"""

from dataclasses import dataclass

from kapp.papers.figure import PublishedFigure
from kapp.papers.hparams import HParams

CROP_PADDING = 4  # pixels; section 3
TRAIN, VALIDATION, TEST = 40_000, 10_000, 10_000  # section 3
DISTILLATION_LOSS = "prob_mse"  # section 4.6: squared error between softmax outputs
TEACHERS = ("teacher_1", "deep_resnet")  # table 5


@dataclass(frozen=True)
class Row:
    """One accuracy on CIFAR-10's test images that the paper prints, a fraction."""

    table: str
    model: str
    teacher: str | None  # None: trained on labels
    accuracy: float
    epochs: int

    @property
    def trained_on(self) -> str:
        """The name of what the network learns from."""
        return f"from {self.teacher}" if self.teacher else "on labels"

    @property
    def name(self) -> str:
        """A name that no other row of the paper has."""
        return f"{self.model} {self.trained_on}"

    @property
    def compared_with(self) -> str | None:
        """The name of the row that the paper compares a distilled student with."""
        return f"{self.model} on labels" if self.teacher else None


ROWS = (
    Row("table 3", "conv_1", None, 0.7427, 75),
    Row("table 3", "conv_2", None, 0.7904, 75),
    Row("table 3", "linear_3", None, 0.5512, 75),
    Row("table 3", "linear_4", None, 0.5687, 75),
    Row("table 3", "shallow_resnet", None, 0.8872, 75),
    Row("table 3", "conv_1", "teacher_1", 0.7557, 300),
    Row("table 3", "conv_2", "teacher_1", 0.8062, 300),
    Row("table 3", "linear_3", "teacher_1", 0.5809, 300),
    Row("table 3", "linear_4", "teacher_1", 0.5839, 300),
    Row("table 3", "shallow_resnet", "teacher_1", 0.8963, 200),
    Row("table 4", "conv_1", "deep_resnet", 0.7601, 300),
    Row("table 4", "conv_2", "deep_resnet", 0.8096, 300),
    Row("table 4", "linear_3", "deep_resnet", 0.5837, 300),
    Row("table 4", "linear_4", "deep_resnet", 0.5922, 300),
    Row("table 4", "shallow_resnet", "deep_resnet", 0.8987, 200),
    Row("table 5", "teacher_1", None, 0.9049, 250),
    Row("table 5", "deep_resnet", None, 0.9154, 250),
    Row("table 6", "deep_linear", None, 0.5115, 75),
)


TABLES = {
    "3": "students on labels, and distilled from teacher_1",
    "4": "students on labels, and distilled from deep_resnet",
    "5": "teachers",
    "6": "a deep linear network",
}
STUDENTS = ("conv_1", "conv_2", "linear_3", "linear_4", "shallow_resnet")
FIGURES = (
    PublishedFigure(
        "1",
        "Accuracies when training without distillation (no teacher) and with distillation for two different "
        "teachers for all the different student models",
        "test_accuracy",
        tuple(row.name for row in ROWS if row.model in STUDENTS),
    ),
    PublishedFigure(
        "2",
        "Loss with (left) and without (right) distillation for 3-layer-linear model",
        "loss",
        ("linear_3 from teacher_1", "linear_3 on labels"),
    ),
    PublishedFigure(
        "3",
        "Accuracy with (left) and without (right) distillation for 3-layer-linear model",
        "accuracy",
        ("linear_3 from teacher_1", "linear_3 on labels"),
    ),
)


def rows(table: str) -> list[Row]:
    """The accuracies that a table of `TABLES` prints, each student on labels and then distilled. Table 4
    repeats those on labels of table 3."""
    printed = [
        row
        for row in ROWS
        if row.table == f"table {table}" or (table == "4" and row.table == "table 3" and not row.teacher)
    ]
    models = list(dict.fromkeys(row.model for row in printed))
    return sorted(printed, key=lambda row: models.index(row.model))


def published(model: str, teacher: str | None = None) -> Row | None:
    """The row of `model` distilled from `teacher` (None: on labels); None where the paper has none."""
    return next((row for row in ROWS if (row.model, row.teacher) == (model, teacher)), None)


def epochs(model: str, teacher: str | None = None) -> int:
    """How long the paper trains `model`: 75 epochs on labels and 300 distilled where it has no row."""
    row = published(model, teacher)
    return row.epochs if row else 300 if teacher else 75


def hparams(epochs: int) -> HParams:
    """How the paper trains for `epochs` (section 4).

    It doesn't print the learning rate: this is the default of the Adam that section 4 names.
    """
    return HParams(epochs, batch_size=32, optimizer="adam", learning_rate=1e-3)
