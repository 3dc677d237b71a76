"""Z. Hu, "Striving for simplicity: the all convolution net" (paper A): its settings and its figures. After
Springenberg et al. 2014, arXiv:1412.6806."""

from dataclasses import dataclass, replace

from kapp.papers.training import Training

EPOCHS = 350  # section 3.1
TRAIN, VALIDATION, TEST = 49_000, 1_000, 10_000  # section 3.1
PHASE_EPOCHS = 50  # section 2.3: on frozen features, then whole
# Springenberg et al. 2014, section 3.1: momentum, decay, the rate (one of 0.25, 0.1, 0.05, 0.01) and where it
# falls to a tenth; translations of up to 5 pixels in their augmented runs. They print no size of a batch.
TRAINING = Training(
    batch_size=128,
    optimizer="sgd",
    learning_rate=0.05,
    momentum=0.9,
    weight_decay=0.001,
    schedule="multistep",
    milestones=(200, 250, 300),
    shift=5,
)
# What paper A's code does otherwise than its text and Springenberg et al. say.
DEPARTURES = {
    "relu_logits": "ReLU on the logits, before they are averaged (figures 7, 8)",
    "corner": "unpadded shrinking, a padding of 3, and a pooling that sees one corner of 11x11 logits",
    "dropout": "the input's dropout after the first convolution, of whole channels; one never called",
    "schedule": "0.001 throughout, the optimiser and its momentum made anew each epoch (figure 6)",
    "batch": "batches of 4 (figure 6)",
}
CODE_RATE, CODE_BATCH_SIZE = 0.001, 4  # figure 6


@dataclass(frozen=True)
class Row:
    """One accuracy that the paper prints: on the test images, a fraction."""

    table: str
    model: str
    dataset: str
    phase: str  # "scratch", "phase 1": a new head on frozen features, "phase 2": then the whole network
    accuracy: float
    epochs: int
    learning_rates: tuple[float, float, float, float]  # as printed; its code trains with 0.001 throughout


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
    Row("table 4", "all_cnn_c", "cifar100:class1", "phase 1", 0.5210, 50, _FROM_0_025),
    Row("table 4", "all_cnn_c", "cifar100:class2", "phase 1", 0.3865, 50, _FROM_0_025),
    Row("table 4", "all_cnn_c", "cifar100:class1", "phase 2", 0.7505, 50, _FROM_0_025),
    Row("table 4", "all_cnn_c", "cifar100:class2", "phase 2", 0.7510, 50, _FROM_0_025),
)


def models() -> list[str]:
    """The networks that the paper trains."""
    return list(dict.fromkeys(row.model for row in ROWS))


def published(model: str, dataset: str, phase: str = "scratch") -> Row | None:
    """The row of `model` on `dataset`, or None where the paper has none."""
    return next((row for row in ROWS if (row.model, row.dataset, row.phase) == (model, dataset, phase)), None)


def milestones(epochs: int) -> tuple[int, ...]:
    """Where the rate falls in a training of `epochs`: as 200, 250 and 300 in the paper's 350."""
    shares = (milestone * epochs / EPOCHS for milestone in TRAINING.milestones)
    return tuple(sorted({max(1, round(share)) for share in shares}))


def training(epochs: int, departures: tuple[str, ...] = ()) -> Training:
    """`TRAINING` over `epochs`, the rate falling at the same shares of them; or as the code departs."""
    settings = replace(TRAINING, milestones=milestones(epochs))
    if "schedule" in departures:
        settings = replace(settings, schedule="constant", learning_rate=CODE_RATE, milestones=())
    return replace(settings, batch_size=CODE_BATCH_SIZE) if "batch" in departures else settings
