"""Optimizers and their learning rates, by name."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import keras
from keras import ops

from kapp.errors import unknown
from kapp.keras_internals import adam_moments, optimized_variables, optimizer_class, sgd_momentum
from kapp.papers.hparams import HParams

NAMES = ("adam", "adamw", "lion", "muon", "sgd")
NO_WEIGHT_DECAY = ("bias", "gamma", "beta")
OUTPUT_LAYER = "logits"  # its name in kapp's networks, and in those with a new head


class SGD(optimizer_class("SGD")):  # type: ignore[misc]
    """Stochastic gradient descent with an L2 penalty, whose gradient passes through the momentum, unlike
    Keras's weight decay.

    The momentum has one of two forms, for a weight w with gradient g, rate r and momentum m. They are equal
    while the rate is constant. After a change of the rate, PyTorch's applies the new rate to old gradients
    as well.

        Caffe's, and Keras's:  v = m v - r g;  w = w + v
        PyTorch's:             v = m v + g;    w = w - r v

    Args:
        learning_rate, momentum: as for `keras.optimizers.SGD`.
        l2: the factor of the kernel that is added to its gradient, the weight decay of `torch.optim.SGD`.
        reset_momentum_every: steps after which the momentum is set to 0. None: never.
        pytorch_momentum: PyTorch's form.
        decay_biases: the penalty is of all weights, as `torch.optim.SGD` has it for all parameters.
        bias_scaler: multiplies the rate of the shifts of batch normalization (beta).
        settings: as for `keras.optimizers.SGD`, such as nesterov, of Caffe's form.
    """

    def __init__(
        self,
        learning_rate: Any,
        momentum: float = 0.0,
        l2: float = 0.0,
        reset_momentum_every: int | None = None,
        pytorch_momentum: bool = False,
        decay_biases: bool = False,
        bias_scaler: float = 1.0,
        **settings: Any,
    ):
        super().__init__(learning_rate, momentum, **settings)
        self.l2, self.reset_momentum_every = l2, reset_momentum_every
        self.pytorch_momentum, self.bias_scaler = pytorch_momentum, bias_scaler
        self.not_decayed = () if decay_biases else NO_WEIGHT_DECAY

    def apply(self, grads: Sequence[Any], trainable_variables: Sequence[Any] | None = None) -> None:
        variables = optimized_variables(self) if trainable_variables is None else list(trainable_variables)
        if self.l2:
            grads = [
                gradient
                if gradient is None or variable.name in self.not_decayed
                else gradient + self.l2 * ops.cast(variable, gradient.dtype)
                for gradient, variable in zip(grads, variables)
            ]
        if self.bias_scaler != 1:  # the update is linear in the gradient
            grads = [
                gradient * self.bias_scaler if gradient is not None and variable.name == "beta" else gradient
                for gradient, variable in zip(grads, variables)
            ]
        if self.reset_momentum_every and self.momentum:
            if not self.built:
                self.build(variables)
            keep = ops.cast(self.iterations % self.reset_momentum_every != 0, "float32")
            for momentum in self.momentums:
                momentum.assign(momentum * keep)
        super().apply(grads, trainable_variables)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        if not (self.pytorch_momentum and self.momentum):
            return super().update_step(gradient, variable, learning_rate)
        velocity = sgd_momentum(self, variable)
        self.assign(velocity, velocity * self.momentum + ops.cast(gradient, variable.dtype))
        self.assign_sub(variable, velocity * ops.cast(learning_rate, variable.dtype))

    def _parallel_update_step(self, grads: list, variables: list, learning_rate: Any) -> None:
        """Keras calls this on PyTorch only."""
        if not self.pytorch_momentum:
            return super()._parallel_update_step(grads, variables, learning_rate)
        for gradient, variable in zip(grads, variables):
            self.update_step(gradient, variable, learning_rate)


class Adam(optimizer_class("Adam")):  # type: ignore[misc]
    """Keras's Adam, in one pass over the weights on PyTorch and a CPU. Keras takes a dozen there, as long as
    the matrix products of a small batch; TensorFlow and JAX compile them (`kapp.training.backends`)."""

    def _parallel_update_step(self, grads: list, variables: list, learning_rate: Any) -> None:
        """Keras calls this on PyTorch only."""
        if variables[0].value.device.type != "cpu":
            return super()._parallel_update_step(grads, variables, learning_rate)
        import torch
        from torch.optim.adam import adam

        momentums, velocities = adam_moments(self, variables)
        step = float(self.iterations)
        adam(
            [variable.value for variable in variables],
            grads,
            exp_avgs=[momentum.value for momentum in momentums],
            exp_avg_sqs=[velocity.value for velocity in velocities],
            max_exp_avg_sqs=[],
            state_steps=[torch.tensor(step) for _ in variables],  # PyTorch adds 1 before it uses them
            lr=float(learning_rate),
            beta1=self.beta_1,
            beta2=self.beta_2,
            # Keras adds epsilon before the bias correction, PyTorch after it.
            eps=self.epsilon / (1 - self.beta_2 ** (step + 1)) ** 0.5,
            weight_decay=0,  # Keras has applied it already
            amsgrad=False,
            maximize=False,
            fused=True,
        )


class Muon(optimizer_class("Muon")):  # type: ignore[misc]
    """Keras's Muon (Jordan et al. 2024), also of the kernels of convolutions, which Keras leaves to AdamW:
    here they are matrices (height x width x inputs, filters). AdamW updates the output layer, the biases and
    what belongs to batch normalization, with the same rate.

    Args:
        settings: as for `keras.optimizers.Muon`.
    """

    def __init__(self, learning_rate: Any = 0.001, **settings: Any):
        super().__init__(learning_rate, exclude_layers=[OUTPUT_LAYER], **settings)

    def _should_use_adamw(self, variable: Any) -> bool:
        if len(variable.shape) != 4:
            return super()._should_use_adamw(variable)
        return OUTPUT_LAYER in variable.path

    def zeropower_via_newtonschulz5(self, x: Any, steps: int) -> Any:
        matrix = super().zeropower_via_newtonschulz5(ops.reshape(x, (-1, x.shape[-1])), steps)
        return ops.reshape(matrix, x.shape)

    def lr_adjust(self, x: Any) -> Any:
        return ops.reshape(super().lr_adjust(ops.reshape(x, (-1, x.shape[-1]))), x.shape)


def build(hparams: HParams, steps_per_epoch: int, code_variants: Sequence[str] = ()) -> keras.Optimizer:
    """A new optimizer: adam (Ratusznik et al., section 4), adamw, lion, muon or sgd.

    Args:
        hparams: its momentum is the beta_1 of adam, adamw and lion (Chen et al. 2023). Its weight decay, on
            kernels only, is an L2 penalty with sgd, and decoupled with the others (Loshchilov & Hutter 2019).
        steps_per_epoch: the unit of the schedule is the epoch.
        code_variants: of Hu 2018's code (`kapp.papers.hu`). For sgd: schedule starts each epoch without
            momentum, pytorch_sgd has PyTorch's momentum, bias_decay decays biases as well.

    Raises:
        ConfigError: the name is unknown.
    """
    learning_rate = _learning_rate(hparams, steps_per_epoch)
    if hparams.optimizer == "sgd":
        return SGD(
            learning_rate,
            hparams.momentum,
            hparams.weight_decay,
            reset_momentum_every=steps_per_epoch if "schedule" in code_variants else None,
            pytorch_momentum="pytorch_sgd" in code_variants,
            decay_biases="bias_decay" in code_variants,
            bias_scaler=hparams.bias_scaler,
            nesterov=hparams.nesterov,
        )
    weight_decay = hparams.weight_decay or None
    match hparams.optimizer:
        case "adam" | "adamw":  # Keras decouples Adam's decay, too: its AdamW is its Adam by another name
            optimizer = Adam(learning_rate, beta_1=hparams.momentum, weight_decay=weight_decay)
        case "lion":
            optimizer = keras.optimizers.Lion(
                learning_rate, beta_1=hparams.momentum, weight_decay=weight_decay
            )
        case "muon":
            optimizer = Muon(
                learning_rate,
                momentum=hparams.momentum,
                weight_decay=weight_decay,
                adam_weight_decay=weight_decay,
            )
        case _:
            raise unknown("optimizer", hparams.optimizer, NAMES)
    if weight_decay:
        optimizer.exclude_from_weight_decay(var_names=list(NO_WEIGHT_DECAY))
    return optimizer


class Linear(keras.optimizers.schedules.LearningRateSchedule):
    """A linear rise from 0 in the first `warmup` steps, then a linear fall to 0 at `steps`."""

    def __init__(self, learning_rate: float, steps: int, warmup: int):
        self.learning_rate, self.steps, self.warmup = learning_rate, steps, warmup

    def __call__(self, step: Any) -> Any:
        step = ops.cast(step, "float32")
        fall = (self.steps - step) / (self.steps - self.warmup)
        rise = step / self.warmup if self.warmup else fall
        return self.learning_rate * ops.maximum(ops.minimum(rise, fall), 0.0)

    def get_config(self) -> dict[str, Any]:
        return {"learning_rate": self.learning_rate, "steps": self.steps, "warmup": self.warmup}


def _learning_rate(hparams: HParams, steps_per_epoch: int) -> Any:
    """A number, or a `keras.optimizers.schedules.LearningRateSchedule`."""
    schedules = keras.optimizers.schedules
    steps, warmup = hparams.epochs * steps_per_epoch, hparams.warmup_epochs * steps_per_epoch
    match hparams.schedule:
        case "linear":
            return Linear(hparams.learning_rate, steps, warmup)
        case "cosine":  # down to 0, after a linear rise
            if not warmup:
                return schedules.CosineDecay(hparams.learning_rate, steps)
            return schedules.CosineDecay(
                0.0, max(1, steps - warmup), warmup_target=hparams.learning_rate, warmup_steps=warmup
            )
        case "multistep" if hparams.milestones:
            tenths = accumulate([hparams.learning_rate, *hparams.milestones], lambda rate, _: rate / 10)
            # Each of Keras's pieces includes its boundary: the last step before the milestone.
            last_steps = [milestone * steps_per_epoch - 1 for milestone in hparams.milestones]
            return schedules.PiecewiseConstantDecay(last_steps, list(hparams.rates or tenths))
    return hparams.learning_rate
