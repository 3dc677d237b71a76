import keras
import numpy as np
import pytest

from kapp.errors import ConfigError
from kapp.papers.hparams import HParams
from kapp.training import optimizers
from tests.training.helpers import to_numpy

FALLING = {"schedule": "multistep", "milestones": (2, 4), "rates": (0.1, 0.03, 0.002)}


def build(optimizer="sgd", rate=0.1, epochs=1, steps_per_epoch=1, code_variants=(), **settings):
    hparams = HParams(epochs, 1, optimizer, rate, **{"momentum": 0.0, **settings})
    return optimizers.build(hparams, steps_per_epoch, code_variants)


def rates(optimizer, steps: int) -> list[float]:
    return [float(to_numpy(optimizer._learning_rate(step))) for step in range(steps)]


def dense() -> keras.layers.Layer:
    layer = keras.layers.Dense(2)
    layer.build((None, 3))
    layer.bias.assign([1.0, 1.0])
    return layer


def test_cosine_rises_in_the_warmup_and_falls_to_zero():
    optimizer = build(rate=0.5, epochs=10, steps_per_epoch=10, schedule="cosine", warmup_epochs=2)
    found = rates(optimizer, 101)
    np.testing.assert_allclose(found[:21], np.linspace(0, 0.5, 21), atol=1e-6)
    expected = 0.25 * (1 + np.cos(np.pi * np.arange(81) / 80))
    np.testing.assert_allclose(found[20:], expected, atol=1e-6)


@pytest.mark.parametrize("warmup", [0, 2])
def test_the_linear_rate_rises_and_falls(warmup):
    optimizer = build(rate=0.5, epochs=10, steps_per_epoch=10, schedule="linear", warmup_epochs=warmup)
    rise, fall = np.linspace(0, 0.5, 10 * warmup, endpoint=False), np.linspace(0.5, 0, 101 - 10 * warmup)
    np.testing.assert_allclose(rates(optimizer, 101), [*rise, *fall], atol=1e-6)
    assert rates(optimizer, 103)[-1] == 0


def test_a_constant_rate():
    assert float(build("adam", 0.01).learning_rate) == pytest.approx(0.01)


def test_the_multistep_rate_falls_to_a_tenth_at_the_first_step_after_each_milestone():
    optimizer = build(rate=0.5, steps_per_epoch=10, schedule="multistep", milestones=(2, 3))
    np.testing.assert_allclose(rates(optimizer, 40), [0.5] * 20 + [0.05] * 10 + [0.005] * 10, rtol=1e-6)


def test_multistep_rates_may_be_set():
    four = (0.025, 0.01, 0.005, 0.001)  # Hu 2018, table 3
    optimizer = build(steps_per_epoch=2, schedule="multistep", milestones=(1, 2, 3), rates=four)
    np.testing.assert_allclose(rates(optimizer, 8), np.repeat(four, 2), rtol=1e-6)


def train(optimizer, layer, gradients) -> None:
    """One step for each pair of gradients, of the kernel and the bias."""
    for pair in gradients:
        optimizer.apply(
            [keras.ops.convert_to_tensor(gradient, "float32") for gradient in pair],
            layer.trainable_variables,
        )


def random_gradients(steps: int) -> list[tuple[np.ndarray, np.ndarray]]:
    random = np.random.default_rng(0)
    return [(random.normal(size=(3, 2)), random.normal(size=2)) for _ in range(steps)]


@pytest.mark.parametrize("decay_biases", [False, True])
@pytest.mark.parametrize("form", ["caffe", "pytorch"])
def test_sgd_has_the_momentum_of_caffe_or_of_pytorch(form, decay_biases):
    """Six steps with three rates. The gradient g includes the L2 penalty.

    Caffe: v = momentum v - rate g; w = w + v. PyTorch: v = momentum v + g; w = w - rate v.
    """
    variants = ["pytorch_sgd"] * (form == "pytorch") + ["bias_decay"] * decay_biases
    layer, gradients = dense(), random_gradients(6)
    weights = [to_numpy(layer.kernel).astype(float), to_numpy(layer.bias).astype(float)]
    train(build(momentum=0.9, weight_decay=0.5, code_variants=variants, **FALLING), layer, gradients)
    velocities = [np.zeros((3, 2)), np.zeros(2)]
    for step, pair in enumerate(gradients):
        rate = FALLING["rates"][step // 2]
        for i, decay in enumerate((0.5, 0.5 if decay_biases else 0.0)):
            gradient = pair[i] + decay * weights[i]
            if form == "caffe":
                velocities[i] = 0.9 * velocities[i] - rate * gradient
                weights[i] = weights[i] + velocities[i]
            else:
                velocities[i] = 0.9 * velocities[i] + gradient
                weights[i] = weights[i] - rate * velocities[i]
    np.testing.assert_allclose(to_numpy(layer.kernel), weights[0], rtol=1e-4)
    np.testing.assert_allclose(to_numpy(layer.bias), weights[1], rtol=1e-4)


def test_the_two_forms_of_momentum_differ_only_where_the_rate_changes():
    def kernel(code_variants, **schedule) -> np.ndarray:
        layer = dense()
        layer.kernel.assign(np.ones((3, 2)))
        optimizer = build(momentum=0.9, code_variants=code_variants, **schedule)
        train(optimizer, layer, random_gradients(6))
        return to_numpy(layer.kernel)

    np.testing.assert_allclose(kernel(["pytorch_sgd"]), kernel([]), rtol=1e-5)
    assert np.abs(kernel(["pytorch_sgd"], **FALLING) - kernel([], **FALLING)).max() > 0.01


def test_the_variants_of_sgd_are_torch_optim_sgd():
    """With biases decayed and a rate that falls, as in Hu 2018's code."""
    torch = pytest.importorskip("torch")
    layer, gradients = dense(), random_gradients(6)
    weights = [torch.nn.Parameter(torch.tensor(to_numpy(each))) for each in (layer.kernel, layer.bias)]
    reference = torch.optim.SGD(weights, lr=0.1, momentum=0.9, weight_decay=0.01)
    for step, pair in enumerate(gradients):
        reference.param_groups[0]["lr"] = FALLING["rates"][step // 2]
        for weight, gradient in zip(weights, pair):
            weight.grad = torch.tensor(gradient, dtype=torch.float32)
        reference.step()
    variants = ["pytorch_sgd", "bias_decay"]
    train(build(momentum=0.9, weight_decay=0.01, code_variants=variants, **FALLING), layer, gradients)
    for weight, expected in zip((layer.kernel, layer.bias), weights):
        np.testing.assert_allclose(to_numpy(weight), expected.detach().numpy(), rtol=1e-4)


def test_nesterov_momentum_is_that_of_torch_optim_sgd_at_a_constant_rate():
    torch = pytest.importorskip("torch")
    layer, gradients = dense(), random_gradients(6)
    weights = [torch.nn.Parameter(torch.tensor(to_numpy(each))) for each in (layer.kernel, layer.bias)]
    settings = {"lr": 0.1, "momentum": 0.85, "nesterov": True}
    reference = torch.optim.SGD(
        [{"params": [weights[0]], "weight_decay": 0.01}, {"params": [weights[1]]}], **settings
    )
    for pair in gradients:
        for weight, gradient in zip(weights, pair):
            weight.grad = torch.tensor(gradient, dtype=torch.float32)
        reference.step()
    train(build(momentum=0.85, nesterov=True, weight_decay=0.01), layer, gradients)
    for weight, expected in zip((layer.kernel, layer.bias), weights):
        np.testing.assert_allclose(to_numpy(weight), expected.detach().numpy(), rtol=1e-4)


def test_the_bias_scaler_is_the_rate_of_the_shifts_of_batch_normalization():
    layer = keras.layers.BatchNormalization()
    layer.build((None, 2))
    optimizer = build(rate=0.1, momentum=0.9, bias_scaler=64.0)
    for _ in range(2):
        optimizer.apply([keras.ops.ones((2,)), keras.ops.ones((2,))], layer.trainable_variables)
    steps = 0.1 + 0.19  # of plain SGD with momentum
    np.testing.assert_allclose(to_numpy(layer.gamma), 1 - steps, rtol=1e-5)
    np.testing.assert_allclose(to_numpy(layer.beta), -64 * steps, rtol=1e-5)


def test_lion_moves_by_the_sign():
    """Chen et al. 2023, algorithm 2, with beta_1 of `momentum` and beta_2 = 0.99."""
    layer, gradients = dense(), random_gradients(5)
    weight, momentum = to_numpy(layer.kernel).astype(float), np.zeros((3, 2))
    for gradient, _ in gradients:
        weight = weight - 0.01 * np.sign(0.8 * momentum + 0.2 * gradient)
        momentum = 0.99 * momentum + 0.01 * gradient
    train(build("lion", 0.01, momentum=0.8), layer, gradients)
    np.testing.assert_allclose(to_numpy(layer.kernel), weight, atol=1e-6)


def orthogonalized(matrix: np.ndarray) -> np.ndarray:
    """Newton-Schulz iteration of Jordan et al. 2024, by the singular values: each becomes p(...p(s))."""
    u, s, v = np.linalg.svd(matrix, full_matrices=False)
    s = s / (np.linalg.norm(matrix) + 1e-7)
    for _ in range(5):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    return (u * s) @ v


def test_muon_orthogonalizes_the_kernels_of_convolutions_and_hidden_layers_alone():
    """Convolutions as matrices (height x width x inputs, filters). The update is as long as Adam's: 0.2 times
    the root of the larger side (Liu et al. 2025). AdamW updates the other variables."""
    inputs = keras.Input((6, 6, 2))
    x = keras.layers.Flatten()(keras.layers.Conv2D(5, 3, name="conv")(inputs))
    x = keras.layers.Dense(7, name="hidden")(x)
    network = keras.Model(inputs, keras.layers.Dense(3, name="logits")(x))
    variables, random = network.trainable_variables, np.random.default_rng(0)
    gradients = [[random.normal(size=variable.shape) for variable in variables] for _ in range(3)]
    muon, adam = build("muon", 0.01, momentum=0.9), keras.optimizers.Adam(0.01)
    expected, momentums = {}, {}
    for variable in variables:
        expected[variable.path] = to_numpy(variable).astype(float)
        momentums[variable.path] = np.zeros(variable.shape)
    reference = [keras.Variable(to_numpy(variable)) for variable in variables]
    for step in gradients:
        tensors = [keras.ops.convert_to_tensor(gradient, "float32") for gradient in step]
        muon.apply(tensors, variables)
        adam.apply(tensors, reference)
        for variable, gradient in zip(variables, step):
            momentums[variable.path] = 0.9 * momentums[variable.path] + gradient
            update = gradient + 0.9 * momentums[variable.path]
            matrix = update.reshape(-1, update.shape[-1])
            scale = 0.01 * 0.2 * max(matrix.shape) ** 0.5
            expected[variable.path] -= scale * orthogonalized(matrix).reshape(update.shape)
    for variable, by_adam in zip(variables, reference):
        is_hidden = variable.path in ("conv/kernel", "hidden/kernel")
        wanted = expected[variable.path] if is_hidden else to_numpy(by_adam)
        np.testing.assert_allclose(to_numpy(variable), wanted, atol=2e-5, err_msg=variable.path)


def test_sgd_can_start_each_epoch_without_momentum():
    layer = dense()
    optimizer = build(rate=0.1, momentum=0.9, steps_per_epoch=2, code_variants=["schedule"])
    gradients = [keras.ops.ones((3, 2)), keras.ops.ones((2,))]
    moved = []
    for _ in range(4):
        before = to_numpy(layer.bias).copy()
        optimizer.apply(gradients, layer.trainable_variables)
        moved.append(float((before - to_numpy(layer.bias))[0]))
    np.testing.assert_allclose(moved, [0.1, 0.19, 0.1, 0.19], rtol=1e-4)


@pytest.mark.parametrize("name", ["adam", "adamw", "lion", "muon"])
def test_decoupled_decay_shrinks_kernels_only(name):
    layer = dense()
    kernel = to_numpy(layer.kernel)
    optimizer = build(name, 0.1, weight_decay=0.5, momentum=0.9)
    optimizer.build(layer.trainable_variables)
    optimizer.apply([keras.ops.zeros((3, 2)), keras.ops.zeros((2,))], layer.trainable_variables)
    np.testing.assert_allclose(to_numpy(layer.kernel), kernel * (1 - 0.05), rtol=1e-5)
    np.testing.assert_allclose(to_numpy(layer.bias), 1.0)


def test_an_unknown_optimizer_is_refused():
    with pytest.raises(ConfigError, match="unknown optimizer 'adan'. Did you mean 'adam'"):
        build("adan")
