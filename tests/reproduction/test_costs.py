"""Estimated seconds, computed by hand: 160 training, 40 validation and 50 test images."""

from dataclasses import replace

import pytest

from kapp.data import Augmentation
from kapp.reproduction import costs, paper_rows, plan
from kapp.reproduction.rates import Rates

RATES = {"linear_3": Rates(1000, 10_000, 5, {}), "teacher_1": Rates(100, 500, 20, {})}


def estimated(shared, seeds: int = 1, rows: str = "linear_3*") -> dict[str, float]:
    """Estimated seconds by run."""
    planned = plan.make(paper_rows.pick(["ratusznik:3"], [rows]), seeds, shared)
    costs.estimate(planned.runs.values(), lambda settings: RATES.get(settings.model))
    return {run.name.replace(shared.dataset, "labels"): run.seconds for run in planned.runs.values()}


def test_views_of_an_image_that_come_up():
    # 1 - 161/162 of the views come up in each epoch.
    assert costs.distinct_views(1, Augmentation()) == pytest.approx(1)
    assert costs.distinct_views(2, Augmentation()) == pytest.approx(1 + 161 / 162)
    assert costs.distinct_views(10_000, Augmentation()) == pytest.approx(162)
    assert costs.distinct_views(7, Augmentation(crop_padding=0, flip=False)) == 1


def test_labels_and_distillation(shared):
    seconds = estimated(shared)
    on_labels = 5 + 20 * (160 / 1000 + 40 / 10_000) + 90 / 10_000
    teacher = 20 + 20 * (160 / 100 + 40 / 500) + 90 / 500
    views = 162 * (1 - (161 / 162) ** 20)
    assert seconds == {
        "linear_3 on labels, seed 0": pytest.approx(on_labels),
        "teacher_1 on labels, seed 0": pytest.approx(teacher),
        "linear_3 from teacher_1, seed 0": pytest.approx(on_labels + (views * 160 + 40) / 500),
    }


def test_students_of_one_seed_share_the_views_of_their_teacher(shared):
    RATES["linear_4"] = RATES["linear_3"]
    seconds = estimated(shared, seeds=2, rows="linear_* from*")
    first, again, second = (
        seconds[f"{name}, seed {seed}"] - seconds[f"{name[:8]} on labels, seed {seed}"]
        for name, seed in (
            ("linear_3 from teacher_1", 0),
            ("linear_4 from teacher_1", 0),
            ("linear_3 from teacher_1", 1),
        )
    )
    views = [162 * (1 - (161 / 162) ** epochs) for epochs in (20, 40)]
    assert first == pytest.approx((views[0] * 160 + 40) / 500)
    assert again == pytest.approx(40 / 500)
    assert second == pytest.approx(((views[1] - views[0]) * 160 + 40) / 500)


def test_a_batch_that_is_not_full_is_not_trained_on(shared):
    seconds = estimated(replace(shared, scale="short"), rows="linear_3 on labels")  # batches of 128
    assert seconds["linear_3 on labels, seed 0"] == pytest.approx(
        5 + 15 * (128 / 1000 + 40 / 10_000) + 90 / 10_000
    )


def test_a_network_without_a_rate_has_no_estimate(shared):
    assert estimated(shared, rows="conv_1*")["conv_1 on labels, seed 0"] is None


def test_a_transfer(shared):
    planned = plan.make(paper_rows.pick(["hu:4"], ["fine-tuning, class1"]), 1, shared)
    costs.estimate(planned.runs.values(), lambda _: Rates(100, 500, 20, {}))
    source, scratch, transfer = (run.seconds for run in planned.runs.values())
    # 4 of 200 images are held out in the source, none in the target; batches of 32.
    assert source == pytest.approx(20 + 12 * (192 / 100 + 4 / 500) + 54 / 500)
    assert scratch == pytest.approx(20 + 16 * (192 / 100 + 50 / 500) + 50 / 500)
    # The probe: the images and their mirror images, the test images in each validation and at the end.
    probe = 20 + (2 * 200 + 50 + 50) / 500
    assert transfer == pytest.approx(probe + 20 + 10 * (192 / 100 + 50 / 500) + 50 / 500)
