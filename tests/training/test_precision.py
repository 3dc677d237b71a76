import keras
import pytest

from kapp.training import device, precision


@pytest.fixture(autouse=True)
def float32_again():
    yield
    keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("avx2 avx512f", "float32"),
        ("avx512_bf16", "float32" if keras.backend.backend() == "jax" else "mixed_bfloat16"),
        ("avx512_bf16 amx_bf16", "mixed_bfloat16"),
        (None, "float32"),  # another system, which says nothing
    ],
)
def test_auto_goes_by_what_the_processor_can(tmp_path, monkeypatch, flags, expected):
    monkeypatch.setattr(device, "is_gpu", lambda: False)
    monkeypatch.setattr(precision, "CPU", tmp_path / "cpuinfo")
    if flags is not None:
        precision.CPU.write_text(f"flags : fpu {flags} sse\n")
    assert precision.use("auto") == expected
    assert keras.config.dtype_policy().name == expected


def test_a_gpu_computes_in_bfloat16(monkeypatch):
    monkeypatch.setattr(device, "is_gpu", lambda: True)
    assert precision.use("auto") == "mixed_bfloat16"


def test_what_was_asked_for_is_taken():
    assert precision.use("float32") == "float32"
    assert precision.use("mixed_bfloat16") == "mixed_bfloat16"
