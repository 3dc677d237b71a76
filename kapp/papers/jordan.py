"""Jordan 2024, "94% on CIFAR-10 in 3.29 seconds on a single GPU", arXiv:2404.00498: hyperparameters.

The paper's code has them for a loss that is a sum over the batch, and divides the rate by
1 + 1 / (1 - momentum), by which Nesterov's momentum multiplies a constant gradient. Here the loss is a mean
and the batches are smaller: the rate is in proportion to the batch, and weights move as far per image.
"""

from kapp.papers.hparams import HParams

NAME = "Jordan 2024"
EPOCHS = 16  # the paper: 9.9 with 50,000 images
BATCH_SIZE = 256
CROP_PADDING = 2  # pixels
FLIP_ORDER = "alternating"
WARMUP = 0.23  # of the epochs: there the rate is highest
MOMENTUM = 0.85
RATE, WEIGHT_DECAY = 11.5, 0.0153  # per 1,024 images
EMA = 0.95  # of the averaged weights, per 1,024 images; the paper raises it to this value over the training


def hparams(epochs: int) -> HParams:
    """How kapp trains `airbench` for `epochs`.

    The paper's rate starts at a fifth of the highest and ends at 7% of it; here it starts and ends at 0.
    """
    size = BATCH_SIZE / 1024
    return HParams(
        epochs,
        BATCH_SIZE,
        "sgd",
        learning_rate=round(RATE * size / (1 + 1 / (1 - MOMENTUM)), 4),
        momentum=MOMENTUM,
        nesterov=True,
        bias_scaler=64.0,
        weight_decay=round(WEIGHT_DECAY / RATE, 5),
        label_smoothing=0.2,
        ema=round(EMA**size, 3),
        schedule="linear",
        warmup_epochs=min(epochs - 1, round(WARMUP * epochs)),
    )
