"""The model card names what the network was trained on; the rest is tested with the exports."""

import pytest

from kapp.export.model_card import model_card
from tests.export.helpers import manifest, run_summary


@pytest.mark.parametrize(
    ("teachers", "label_weight", "targets"),
    [
        ((), None, "from labels,"),
        (("deep_resnet",), 0.0, "from the logits of deep_resnet,"),
        (("a", "b"), 0.3, "from the logits of a + b and labels (label weight 0.3),"),
        (("deep_resnet",), 1.0, "from labels,"),  # the teacher has no effect
    ],
)
def test_a_card_names_the_training_targets(teachers, label_weight, targets):
    run = run_summary(teachers=teachers, label_weight=label_weight)
    assert f"Trained by kapp on mine, {targets} with seed 0" in model_card(manifest(run=run))


def test_a_card_names_the_pretraining():
    assert "Pretraining: `cifar10`. Run" in model_card(manifest(run=run_summary(source="cifar10")))
    assert "Pretraining" not in model_card(manifest(run=run_summary()))


def test_a_card_of_another_file_claims_no_accuracy():
    card = model_card(manifest(run=None, source_file="mine.keras"))
    assert "from `mine.keras`, which kapp did not train" in card
    assert "Unknown. Measure it on your data" in card
    assert "test images" not in card


def test_only_a_saved_model_can_run_code():
    assert "can run code" in model_card(manifest(format="saved_model"))
    assert "can run code" not in model_card(manifest(format="litert"))
