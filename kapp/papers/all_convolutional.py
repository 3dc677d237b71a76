"""Z. Hu, "Striving for simplicity: the all convolution net" (paper A): its settings and its figures. After
Springenberg et al. 2014, arXiv:1412.6806."""

from dataclasses import dataclass

BATCH_SIZE = 4  # appendix A
OPTIMIZER, MOMENTUM, WEIGHT_DECAY = "sgd", 0.9, 0.001  # appendix A
EPOCHS, MILESTONES = 350, (200, 250, 300)  # section 3.1
TRAIN, VALIDATION, TEST = 49_000, 1_000, 10_000  # section 3.1
PHASE_EPOCHS = 50  # section 2.3: on frozen features, then whole


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


def epochs(model: str) -> int | None:
    """How long the paper trains `model` from scratch; None where it doesn't."""
    return next((row.epochs for row in ROWS if row.model == model), None)
