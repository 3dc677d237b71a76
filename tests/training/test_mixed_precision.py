import keras
import pytest

from kapp import models
from kapp.training import device, mixed_precision
from kapp.training.linear_probe import replace_head, set_trainable


@pytest.fixture(autouse=True)
def reset_policy():
    yield
    keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("avx2 avx512f", "float32"),
        ("avx512_bf16", "float32" if keras.backend.backend() == "jax" else "mixed_bfloat16"),
        ("avx512_bf16 amx_bf16", "mixed_bfloat16"),
        (None, "float32"),  # another system, without that file
    ],
)
def test_auto_depends_on_the_processor(tmp_path, monkeypatch, flags, expected):
    monkeypatch.setattr(device, "is_gpu", lambda: False)
    monkeypatch.setattr(mixed_precision, "CPU_INFO", tmp_path / "cpuinfo")
    if flags is not None:
        mixed_precision.CPU_INFO.write_text(f"flags : fpu {flags} sse\n")
    assert mixed_precision.set_policy("auto") == expected
    assert keras.config.dtype_policy().name == expected


def test_auto_is_bfloat16_on_a_gpu(monkeypatch):
    monkeypatch.setattr(device, "is_gpu", lambda: True)
    assert mixed_precision.set_policy("auto") == "mixed_bfloat16"


def test_the_policy_of_a_linear_probe_is_that_of_its_frozen_backbone():
    """Not that of its head, whose logits are float32."""
    mixed_precision.set_policy("mixed_bfloat16")
    split = replace_head(models.build("6c-mp-8fc-10fc", image_shape=(8, 8, 3)), 3)
    set_trainable(split.backbone, False)
    assert split.network.output.dtype == "float32"
    assert mixed_precision.policy_of(split.network) == "mixed_bfloat16"


def test_other_policies_are_set_as_they_are():
    assert mixed_precision.set_policy("float32") == "float32"
    assert mixed_precision.set_policy("mixed_bfloat16") == "mixed_bfloat16"
