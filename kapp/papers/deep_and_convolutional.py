"""Ratusznik, Nazar, Kiar and Westman, "Do deep convolutional nets really need to be deep and
convolutional?" (paper D): its settings and its figures. After Urban et al. 2016, arXiv:1603.05691."""

from dataclasses import dataclass

from kapp.papers.training import Training

# Section 4; the rate isn't printed: it is the default of the Adam that section 4 names. Crops: section 3.
TRAINING = Training(batch_size=32, optimizer="adam", learning_rate=1e-3, shift=4)
TRAIN, VALIDATION, TEST = 40_000, 10_000, 10_000  # section 3
OBJECTIVE = "prob_mse"  # section 4.6: squared error between softmax outputs


@dataclass(frozen=True)
class Row:
    """One accuracy that the paper prints: on CIFAR-10's test images, a fraction."""

    table: str
    model: str
    teacher: str | None  # None: trained on labels
    accuracy: float
    epochs: int


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


def published(model: str, teacher: str | None = None) -> Row | None:
    """The row of `model` taught by `teacher` (None: by labels), or None where the paper has none."""
    return next((row for row in ROWS if (row.model, row.teacher) == (model, teacher)), None)


def epochs(model: str, teacher: str | None = None) -> int:
    """How long the paper trains `model`: 75 epochs on labels and 300 distilled where it has no row."""
    row = published(model, teacher)
    return row.epochs if row else 300 if teacher else 75
