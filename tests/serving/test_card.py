"""What a model card says of where a network comes from; the rest is tested with the exports it lies in."""

import pytest

from kapp.serving.card import card

FACTS = {
    "format": "onnx",
    "name": "linear_3",
    "classes": ["cat", "dog"],
    "dataset": "mine",
    "parameters": 1000,
    "input": {"shape": [None, 8, 8, 3]},
    "parity": {"images": 5, "of": "noise", "largest_difference": 1e-7, "tolerance": 1e-4, "same_class": 1.0},
}
SOURCE = {"run": "r", "seed": 0, "backend": "jax", "precision": "float32", "commit": "0123abc"}


@pytest.mark.parametrize(
    ("teachers", "weight", "taught"),
    [
        ([], None, "from labels,"),
        (["deep_resnet"], 0.0, "from deep_resnet,"),
        (["a", "b"], 0.3, "from a + b and, by 30%, labels,"),
        (["deep_resnet"], 1.0, "from labels,"),  # the teacher had no part
    ],
)
def test_a_card_names_what_taught(teachers, weight, taught):
    facts = {**FACTS, "source": {**SOURCE, "teachers": teachers, "label_weight": weight}}
    assert f"by kapp, {taught} seed 0" in card(facts)
