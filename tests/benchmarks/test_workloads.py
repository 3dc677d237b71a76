"""Each workload runs two tiny repetitions, in a process of its own."""

import json
import math
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import keras
import pytest

from kapp import models

ROOT = Path(__file__).parents[2]
TINY = "--teacher 4c^2-gap-10fc --student 8fc-10fc --batch-size 16 --steps 2"
WORKLOADS = {
    "kapp fit 8fc-10fc --batch-size 16 --steps 2 --images 64": 32,
    "kapp fit 8fc-10fc --batch-size 16 --steps 0 --images 64 --precision mixed_bfloat16": 64,
    f"kapp distill {TINY}": 32,
    f"kapp distill --teacher-logits live {TINY}": 32,
    f"kapp distill --teacher-logits none {TINY}": 32,
    f"kapp distill --new-epochs --students 3 {TINY}": 96,
    f"kapp distill --new-epochs --students 2 --teacher-logits live {TINY}": 64,
    "kapp predict --cache --teacher 4c-gap-10fc --images 20": 20,
    "kapp predict --teacher 4c-gap-10fc --images 20": 20,
    "keras fit linear_3 --batch-size 16 --steps 2": 32,
    f"keras distill {TINY}": 32,
}
needs_torch = pytest.mark.skipif(not find_spec("torch"), reason="PyTorch isn't installed")


def start(workload):
    words = [sys.executable, "-m", *f"benchmarks.workloads.{workload}".split()]
    pipe = subprocess.PIPE
    return subprocess.Popen(words, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def image_counts(workload):
    """The numbers of images of the first repetition and of another."""
    output, errors = start(workload).communicate("\n")
    assert output.count("\n") == 2, errors
    return [json.loads(line)["images"] for line in output.splitlines()]


@pytest.mark.slow  # each takes as long as TensorFlow takes to start
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="tests the default backend")
@pytest.mark.parametrize("workload", WORKLOADS)
def test_a_workload_repeats(workload):
    assert image_counts(workload) == [WORKLOADS[workload]] * 2


@pytest.mark.slow
@needs_torch
@pytest.mark.parametrize("flags", ["", "--float32"])
def test_the_loop_in_pytorch_repeats(flags):
    assert image_counts(f"torch fit linear_3 --batch-size 16 --steps 2 {flags}") == [32] * 2


@needs_torch
@pytest.mark.parametrize("name", ["teacher_1", "linear_3", "all_cnn_c"])
def test_the_networks_in_pytorch_have_the_same_parameters(name):
    from benchmarks.workloads.torch import NETWORKS

    kapp = models.build(name).trainable_weights
    assert sum(p.numel() for p in NETWORKS[name]().parameters()) == sum(math.prod(w.shape) for w in kapp)


@pytest.mark.parametrize("name", ["teacher_1", "linear_3", "deep_resnet"])
def test_the_networks_in_keras_have_keras_layers_and_the_same_parameters(name):
    from benchmarks.workloads.keras import in_keras_layers

    kapp = models.build(name)
    network = in_keras_layers(kapp)
    assert {type(layer).__module__.split(".")[0] for layer in network.layers} == {"keras"}
    assert [w.shape for w in network.trainable_weights] == [w.shape for w in kapp.trainable_weights]


@pytest.mark.slow
def test_a_recipe_stops_after_a_step(tiny_npz, tmp_path):
    flags = f"--dataset npz:{tiny_npz} --model 8fc-10fc --batch-size 32 --epochs 3"
    output, errors = start(f"start 3 train {flags}").communicate()
    cost = json.loads(output.splitlines()[-1])
    assert cost["step"] == 3, errors
    assert cost["loss"] > 0
    assert cost["peak_bytes"] > 1e8
