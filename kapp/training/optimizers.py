"""Optimisers and their learning rates, by name."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import keras
from keras import ops

from kapp.errors import unknown
from kapp.papers.training import Training

NAMES = ("adam", "adamw", "sgd")
NOT_DECAYED = ("bias", "gamma", "beta")


class SGD(type(keras.optimizers.SGD(0.0))):  # type: ignore[misc]  # the class that this backend makes of it
    """Stochastic gradient descent as `torch.optim.SGD` has it, with which paper A trains: the weight decay is
    an L2 penalty's gradient and passes through the momentum, unlike Keras's own.

    Args:
        learning_rate, momentum: as for `keras.optimizers.SGD`.
        l2: times a kernel is added to its gradient.
        forget_every: steps after which the momentum starts from 0 again; None: never.
    """

    def __init__(
        self,
        learning_rate: Any,
        momentum: float = 0.0,
        l2: float = 0.0,
        forget_every: int | None = None,
        **settings: Any,
    ):
        super().__init__(learning_rate, momentum, **settings)
        self.l2, self.forget_every = l2, forget_every

    def apply(self, grads: Sequence[Any], trainable_variables: Sequence[Any] | None = None) -> None:
        variables = self._trainable_variables if trainable_variables is None else list(trainable_variables)
        if self.l2:
            grads = [
                gradient
                if gradient is None or variable.name in NOT_DECAYED
                else gradient + self.l2 * ops.cast(variable, gradient.dtype)
                for gradient, variable in zip(grads, variables)
            ]
        if self.forget_every and self.momentum:
            if not self.built:
                self.build(variables)
            kept = ops.cast(self.iterations % self.forget_every != 0, "float32")
            for momentum in self.momentums:
                momentum.assign(momentum * kept)
        super().apply(grads, trainable_variables)


class Adam(type(keras.optimizers.Adam())):  # type: ignore[misc]  # the class that this backend makes of it
    """Keras's. On PyTorch and a CPU it is one pass over the weights, where Keras takes a dozen, as long as
    the matrix products of a small batch; what TensorFlow and JAX do is compiled (`kapp.training.steps`)."""

    def _parallel_update_step(self, grads: list, variables: list, learning_rate: Any) -> None:
        """What Keras calls on PyTorch alone."""
        if variables[0].value.device.type != "cpu":
            return super()._parallel_update_step(grads, variables, learning_rate)
        import torch
        from torch.optim.adam import adam

        index = [self._get_variable_index(variable) for variable in variables]
        step = float(self.iterations)
        adam(
            [variable.value for variable in variables],
            grads,
            exp_avgs=[self._momentums[i].value for i in index],
            exp_avg_sqs=[self._velocities[i].value for i in index],
            max_exp_avg_sqs=[],
            state_steps=[torch.tensor(step) for _ in variables],  # raised by 1 before they are used
            lr=float(learning_rate),
            beta1=self.beta_1,
            beta2=self.beta_2,
            # Keras adds its epsilon before the correction of the bias, PyTorch after it.
            eps=self.epsilon / (1 - self.beta_2 ** (step + 1)) ** 0.5,
            weight_decay=0,  # Keras has applied it
            amsgrad=False,
            maximize=False,
            fused=True,
        )


def make(
    how: Training, *, epochs: int = 1, steps_per_epoch: int = 1, forgetful: bool = False
) -> keras.Optimizer:
    """A new optimiser: adam (paper D, section 4), adamw or sgd.

    Args:
        how: its name, its rate and how that falls, momentum (which adam and adamw call beta_1), weight decay:
            with sgd an L2 penalty, with adam and adamw decoupled (Loshchilov & Hutter 2019); on kernels only.
        epochs, steps_per_epoch: of the training.
        forgetful: sgd's momentum starts anew each epoch, as in paper A's code.

    Raises:
        WrongValue: an unknown name.
    """
    rate = _rate(how, epochs, steps_per_epoch)
    if how.optimizer == "sgd":
        return SGD(rate, how.momentum, how.weight_decay, steps_per_epoch if forgetful else None)
    if how.optimizer not in NAMES:
        raise unknown("optimizer", how.optimizer, NAMES)
    # Keras decouples Adam's decay as well: AdamW is Adam by another name.
    optimizer = Adam(rate, beta_1=how.momentum, weight_decay=how.weight_decay or None)
    if how.weight_decay:
        optimizer.exclude_from_weight_decay(var_names=list(NOT_DECAYED))
    return optimizer


def _rate(how: Training, epochs: int, steps_per_epoch: int) -> Any:
    match how.schedule:
        case "cosine":
            return _cosine(how.learning_rate, epochs * steps_per_epoch, how.warmup_epochs * steps_per_epoch)
        case "multistep" if how.milestones:
            tenths = accumulate([how.learning_rate, *how.milestones], lambda rate, _: rate / 10)
            # Keras's pieces end with their boundary: the last step before the milestone.
            last_steps = [milestone * steps_per_epoch - 1 for milestone in how.milestones]
            return keras.optimizers.schedules.PiecewiseConstantDecay(last_steps, list(how.rates or tenths))
    return how.learning_rate


def _cosine(learning_rate: float, steps: int, warmup_steps: int) -> Any:
    """Down to 0 over `steps`, after a linear rise over `warmup_steps`."""
    if not warmup_steps:
        return keras.optimizers.schedules.CosineDecay(learning_rate, steps)
    return keras.optimizers.schedules.CosineDecay(
        0.0, max(1, steps - warmup_steps), warmup_target=learning_rate, warmup_steps=warmup_steps
    )
