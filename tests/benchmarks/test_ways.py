"""Each way does its work: two tiny turns, in a process of its own."""

import json
import math
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import keras
import pytest

from kapp import models

ROOT = Path(__file__).parents[2]
TINY = "--teacher 4c^2-gap-10fc --student 8fc-10fc --batch 16 --steps 2 --precision float32"
WAYS = {
    "kapp_fit 8fc-10fc --batch 16 --steps 2 --images 64": 32,
    "kapp_fit 8fc-10fc --batch 16 --steps 0 --images 64 --precision mixed_bfloat16": 64,
    f"kapp_distill {TINY}": 32,
    f"kapp_distill --teaching live {TINY}": 32,
    f"kapp_distill --teaching labels {TINY}": 32,
    f"kapp_students --students 3 {TINY}": 96,
    f"kapp_students --students 2 --teaching live {TINY}": 64,
    "kapp_filling --teacher 4c-gap-10fc --images 20": 20,
    "teacher_forward --teacher 4c-gap-10fc --images 20": 20,
    "keras_fit linear_3 --batch 16 --steps 2": 32,
    f"keras_distillation {TINY}": 32,
}
not_here = keras.backend.backend() != "tensorflow"


def start(way, **environment):
    return subprocess.Popen(
        [sys.executable, "-m", f"benchmarks.ways.{way.split()[0]}", *way.split()[1:]],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def turns(way):
    """What the way says of its first turn and of another."""
    said, complained = start(way).communicate("\n")
    assert said.count("\n") == 2, complained
    return [json.loads(line) for line in said.splitlines()]


@pytest.mark.slow  # as long as TensorFlow takes to start, each
@pytest.mark.skipif(not_here, reason="it stands for the default backend")
@pytest.mark.parametrize("way", WAYS)
def test_a_way_works_through_its_images(way):
    assert [turn["images"] for turn in turns(way)] == [WAYS[way]] * 2


@pytest.mark.slow
@pytest.mark.skipif(not find_spec("torch"), reason="PyTorch isn't installed")
@pytest.mark.parametrize("words", ["", "--float32"])
def test_the_loop_in_pytorch_works_through_its_images(words):
    way = f"torch_loop linear_3 --batch 16 --steps 2 {words}"
    assert [turn["images"] for turn in turns(way)] == [32] * 2


@pytest.mark.skipif(not find_spec("torch"), reason="PyTorch isn't installed")
@pytest.mark.parametrize("name", ["teacher_1", "linear_3", "all_cnn_c"])
def test_the_networks_in_pytorch_are_those_of_kapp(name):
    from benchmarks.ways.torch_loop import NETWORKS

    ours = models.build(name).trainable_weights
    assert sum(p.numel() for p in NETWORKS[name]().parameters()) == sum(math.prod(w.shape) for w in ours)


@pytest.mark.parametrize("name", ["teacher_1", "linear_3"])
def test_the_networks_in_plain_keras_are_those_of_kapp(name):
    from benchmarks.ways.keras_fit import NETWORKS

    theirs = keras.Sequential([keras.Input((32, 32, 3)), *NETWORKS[name]()])
    shapes = [w.shape for w in theirs.trainable_weights]
    assert shapes == [w.shape for w in models.build(name).trainable_weights]


@pytest.mark.slow
def test_a_start_ends_with_the_step_it_is_told(tiny_npz, tmp_path):
    words = "--model 8fc-10fc --batch-size 32 --epochs 3".split()
    way = ["--step", "3", "train", "--dataset", f"npz:{tiny_npz}", "--out", str(tmp_path / "run"), *words]
    said, complained = start(" ".join(["start", *way])).communicate()
    answer = json.loads(said.splitlines()[-1])
    assert answer["step"] == 3, complained
    assert answer["loss"] > 0
    assert answer["peak_bytes"] > 1e8
    assert not (tmp_path / "run" / "result.json").exists()
