"""Hu 2018, "Striving for simplicity: the all convolution net": published accuracies and hyperparameters.

It reproduces Springenberg et al. 2014, arXiv:1412.6806.
"""

from dataclasses import dataclass, replace

from kapp.papers.figure import PublishedFigure
from kapp.papers.hparams import HParams

NAME = "Hu 2018"
EPOCHS = 350  # section 3.1
TRAIN, VALIDATION, TEST = 49_000, 1_000, 10_000  # section 3.1
CIFAR100_TRAIN = 5_000  # section 3.1: class1 and class2 of CIFAR-100, each
MEAN = (0.4914, 0.4822, 0.4465)  # section 3.1, of pixels from 0 to 1, per channel
STD = (0.2023, 0.1994, 0.2010)  # section 3.1, which calls it the variance
PHASE_EPOCHS = 50  # section 2.3: on frozen features, then whole
MILESTONES = (200, 250, 300)  # Springenberg et al. 2014, section 3.1: where the rate falls to a tenth
CROP_PADDING = 5  # pixels; Springenberg et al. 2014, section 3.1: translations in their augmented runs
# Where Hu 2018's code differs from its text and from Springenberg et al. 2014.
CODE_VARIANTS = {
    "relu_logits": "ReLU on the logits, before they are averaged (figures 7, 8)",
    "corner": "unpadded shrinking, a padding of 3, and a pooling that sees one corner of 11x11 logits",
    "dropout": "the input's dropout after the first convolution, of whole channels; one never called",
    "filters": "192 filters in the first strided convolution of all_cnn_a (figure 7)",
    "normalization": "images divided by 0.2023, 0.1994, 0.2010 (section 3.1)",
    "schedule": "0.001 throughout, a new optimizer, without momentum, in each epoch (figure 6)",
    "pytorch_sgd": "momentum of gradients, the rate applied after it, as torch.optim.SGD (figure 6)",
    "bias_decay": "weight decay of biases, too (figure 6)",
    "batch": "batches of 4 (figure 6)",
    "last_epoch": "the network of the last epoch is tested, not the best on validation images (figure 6)",
}
PHASES = {"scratch": "from scratch", "linear_probe": "linear probe", "fine_tuning": "fine-tuning"}
CODE_RATE, CODE_BATCH_SIZE = 0.001, 4  # figure 6
SGD_VARIANTS = ("schedule", "pytorch_sgd", "bias_decay")  # of the optimizer, sgd only


@dataclass(frozen=True)
class Row:
    """One test accuracy that the paper prints, a fraction."""

    table: str
    model: str
    dataset: str
    phase: str  # "scratch"; "linear_probe" (its phase 1) or "fine_tuning" (its phase 2)
    accuracy: float
    epochs: int
    learning_rates: tuple[float, float, float, float]  # as printed; its code trains with 0.001 throughout

    @property
    def trained_on(self) -> str:
        """The name of what the network learns from."""
        if self.table == "table 3":
            return "on labels"
        return f"{PHASES[self.phase]}, {self.dataset.removeprefix('cifar100:')}"

    @property
    def name(self) -> str:
        """A name that no other row of the paper has."""
        return f"{self.model} {self.trained_on}"

    @property
    def compared_with(self) -> str | None:
        """The name of the row that the paper compares this one with: with pooling, or from scratch."""
        if self.table == "table 3":
            family, _, form = self.model.rpartition("_")
            return None if family == "base" else f"base_{form} on labels"
        if self.phase == "scratch":
            return None
        return f"{self.model} {PHASES['scratch']}, {self.dataset.removeprefix('cifar100:')}"


_FROM_0_025 = (0.025, 0.01, 0.005, 0.001)
_FROM_0_1 = (0.1, 0.05, 0.01, 0.001)
_FROM_0_005 = (0.005, 0.001, 0.0005, 0.0001)
ROWS = (
    Row("table 3", "base_a", "cifar10", "scratch", 0.8028, 350, _FROM_0_025),
    Row("table 3", "all_cnn_a", "cifar10", "scratch", 0.8005, 350, _FROM_0_025),
    Row("table 3", "base_b", "cifar10", "scratch", 0.8097, 350, _FROM_0_1),
    Row("table 3", "all_cnn_b", "cifar10", "scratch", 0.7911, 350, _FROM_0_1),
    Row("table 3", "base_c", "cifar10", "scratch", 0.8318, 350, (0.1, 0.05, 0.01, 0.005)),
    Row("table 3", "strided_c", "cifar10", "scratch", 0.8078, 350, (0.01, 0.005, 0.001, 0.001)),
    Row("table 3", "convpool_c", "cifar10", "scratch", 0.8588, 350, _FROM_0_005),
    Row("table 3", "all_cnn_c", "cifar10", "scratch", 0.8328, 350, _FROM_0_005),
    Row("table 4", "all_cnn_c", "cifar100:class1", "scratch", 0.6875, 350, _FROM_0_025),
    Row("table 4", "all_cnn_c", "cifar100:class2", "scratch", 0.6845, 350, _FROM_0_025),
    Row("table 4", "all_cnn_c", "cifar100:class1", "linear_probe", 0.5210, 50, _FROM_0_025),
    Row("table 4", "all_cnn_c", "cifar100:class2", "linear_probe", 0.3865, 50, _FROM_0_025),
    Row("table 4", "all_cnn_c", "cifar100:class1", "fine_tuning", 0.7505, 50, _FROM_0_025),
    Row("table 4", "all_cnn_c", "cifar100:class2", "fine_tuning", 0.7510, 50, _FROM_0_025),
)


TABLES = {"3": "networks with and without pooling", "4": "transfer from CIFAR-10 to a small data set"}
FIGURES = (
    PublishedFigure(
        "1",
        "ALL CNN C step1 class1 accuracy on testing dataset",
        "accuracy",
        ("all_cnn_c linear probe, class1",),
    ),
    PublishedFigure(
        "2",
        "ALL CNN C step2 class1 accuracy on testing dataset",
        "accuracy",
        ("all_cnn_c fine-tuning, class1",),
    ),
    PublishedFigure(
        "3",
        "ALL CNN C class1 accuracy on testing dataset",
        "accuracy",
        ("all_cnn_c from scratch, class1",),
    ),
    PublishedFigure("4", "BaseNet A accuracy on testing dataset", "accuracy", ("base_a on labels",)),
    PublishedFigure("5", "BaseNet A loss on testing dataset", "loss", ("base_a on labels",)),
)


def rows(table: str) -> list[Row]:
    """The accuracies that a table of `TABLES` prints."""
    return [row for row in ROWS if row.table == f"table {table}"]


def validation_images(count: int) -> int:
    """How many of `count` training images are held out: 1,000 of 50,000 (section 3.1)."""
    return max(1, round(count * VALIDATION / (TRAIN + VALIDATION)))


def models() -> list[str]:
    """The networks that the paper trains."""
    return list(dict.fromkeys(row.model for row in ROWS))


def code_variants(model: str) -> tuple[str, ...]:
    """The variants that together are the code for `model`."""
    return tuple(name for name in CODE_VARIANTS if name != "filters" or model == "all_cnn_a")


def train_images(dataset: str) -> int:
    """How many images of `dataset` the paper trains on."""
    return TRAIN if dataset == "cifar10" else CIFAR100_TRAIN


def published(model: str, dataset: str, phase: str = "scratch") -> Row | None:
    """The row of `model` on `dataset`, or None where the paper has none."""
    return next((row for row in ROWS if (row.model, row.dataset, row.phase) == (model, dataset, phase)), None)


def milestones(epochs: int) -> tuple[int, ...]:
    """The epochs after which the rate falls in a training of `epochs`: as 200, 250 and 300 of 350."""
    return tuple(sorted({max(1, round(milestone * epochs / EPOCHS)) for milestone in MILESTONES}))


def hparams(epochs: int, code_variants: tuple[str, ...] = ()) -> HParams:
    """How the paper trains for `epochs`, or how its code does.

    Momentum, weight decay and the rate (one of 0.25, 0.1, 0.05, 0.01) are those of Springenberg et al.
    2014, section 3.1. They print no batch size.
    """
    printed = HParams(
        epochs,
        batch_size=128,
        optimizer="sgd",
        learning_rate=0.05,
        weight_decay=0.001,
        schedule="multistep",
        milestones=milestones(epochs),
    )
    if "schedule" in code_variants:
        printed = replace(printed, schedule="constant", learning_rate=CODE_RATE, milestones=())
    return replace(printed, batch_size=CODE_BATCH_SIZE) if "batch" in code_variants else printed
