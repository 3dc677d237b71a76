"""Optimisers and their learning rates: Keras's own, by name."""

import keras


def make(
    name: str,
    learning_rate: float,
    *,
    schedule: str = "constant",
    steps: int = 1,
    warmup_steps: int = 0,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
) -> keras.Optimizer:
    """A new optimiser.

    Args:
        name: adam (paper D, section 4), adamw or sgd (with Nesterov momentum).
        learning_rate: its highest value.
        schedule: constant, or cosine: down to 0 over `steps`, after a linear rise over `warmup_steps`.
        steps: gradient steps in the whole training.
        momentum: of sgd.
        weight_decay: decoupled (Loshchilov & Hutter 2019), on kernels only.
    """
    rate = _cosine(learning_rate, steps, warmup_steps) if schedule == "cosine" else learning_rate
    decay = {"weight_decay": weight_decay or None}
    match name:
        case "adam":
            optimizer = keras.optimizers.Adam(rate, **decay)
        case "adamw":
            optimizer = keras.optimizers.AdamW(rate, weight_decay=weight_decay)
        case "sgd":
            optimizer = keras.optimizers.SGD(rate, momentum=momentum, nesterov=momentum > 0, **decay)
        case _:
            raise ValueError(f"optimizer is {name!r}: adam, adamw or sgd.")
    if weight_decay:
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def _cosine(learning_rate: float, steps: int, warmup_steps: int):
    if not warmup_steps:
        return keras.optimizers.schedules.CosineDecay(learning_rate, steps)
    return keras.optimizers.schedules.CosineDecay(
        0.0, max(1, steps - warmup_steps), warmup_target=learning_rate, warmup_steps=warmup_steps
    )
