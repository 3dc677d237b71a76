"""How many validation images a network was trained on: counted by sets of samples, for real splits."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kapp import data
from kapp.data import Dataset, validation_overlap
from kapp.records import RunConfig
from kapp.run_folder import Predictions, Run
from tests.example_records import RESULT

splits = st.fixed_dictionaries(
    {"validation_images": st.integers(0, 199), "train_images": st.none() | st.integers(1, 200)}
)


def finished_run(folder: Path, trained_on: Dataset, recorded: np.ndarray | None = None, **changes) -> Run:
    """A run that was trained on this data, with these validation samples in its predictions."""
    run = Run.create(folder, RunConfig("train", "tensorflow", trained_on.checksum, {"seed": 0}))
    numbers = {"train_images": len(trained_on.train), "validation_images": len(trained_on.validation)}
    run.write_result(dataclasses.replace(RESULT, **{"dataset": trained_on.name, **numbers, **changes}))
    recorded = trained_on.validation.samples if recorded is None else recorded
    none, logits = np.zeros(0, np.int32), np.zeros((len(recorded), 3), np.float16)
    labels = trained_on.labels[recorded]
    run.write_predictions(Predictions(none, none, logits[:0], none, recorded, labels, logits, labels))
    return run


@given(teacher=splits, student=splits)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_number_of_common_samples(teacher, student, tiny_npz, tmp_path_factory):
    taught, dataset = (data.load(f"npz:{tiny_npz}", **each) for each in (teacher, student))
    run = finished_run(tmp_path_factory.mktemp("teacher") / "run", taught)
    samples = validation_overlap.training_samples(run, dataset)
    assert sorted(samples) == sorted(taught.train.samples)
    expected = {*taught.train.samples.tolist()} & {*dataset.validation.samples.tolist()}
    assert validation_overlap.count(run.folder, dataset) == len(expected)


@pytest.mark.parametrize(
    ("held_out_by_the_teacher", "expected"), [(0, 40), (10, 30), (40, 0), (60, 0), (None, 0)]
)
def test_a_teacher_that_held_out_less_knows_the_rest(held_out_by_the_teacher, expected, tiny_npz, tmp_path):
    taught = data.load(f"npz:{tiny_npz}", validation_images=held_out_by_the_teacher)
    dataset = data.load(f"npz:{tiny_npz}")
    assert validation_overlap.count(finished_run(tmp_path / "run", taught).folder, dataset) == expected


def test_of_files_and_of_other_data_nothing_is_known(tiny_npz, tmp_path):
    dataset = data.load(f"npz:{tiny_npz}")
    other = dataclasses.replace(dataset, images=255 - dataset.images)
    run = finished_run(tmp_path / "run", other)
    assert validation_overlap.count(run.folder, dataset) is None
    assert validation_overlap.count(tmp_path / "mine.keras", dataset) is None


def test_of_a_run_with_another_order_nothing_is_known(tiny_npz, tmp_path):
    """Versions of kapp before 0.1.0 held out the first images, not the last."""
    dataset = data.load(f"npz:{tiny_npz}")
    run = finished_run(tmp_path / "run", dataset, recorded=dataset.train_order[:40])
    assert validation_overlap.count(run.folder, dataset) is None
    run.predictions_file.unlink()
    assert validation_overlap.count(run.folder, dataset) is None


@pytest.mark.parametrize(
    ("of_its_teachers", "validation_images", "expected"),
    [((0,), 40, 0), ((0, 0), 10, 0), ((0,), 41, None), ((0, 3), 40, None), ((None,), 40, None)],
)
def test_what_its_own_teachers_know_counts(of_its_teachers, validation_images, expected, tiny_npz, tmp_path):
    taught = data.load(f"npz:{tiny_npz}", train_images=150)  # none of the last 50
    run = finished_run(tmp_path / "run", taught, validation_images=40, validation_overlap=of_its_teachers)
    dataset = data.load(f"npz:{tiny_npz}", validation_images=validation_images)
    assert validation_overlap.count(run.folder, dataset) == expected


def test_validation_images_of_its_own_are_unknown_to_its_runs(tiny_npz, tmp_path):
    with np.load(tiny_npz) as file:
        arrays = {**file, "x_validation": 255 - file["x_test"], "y_validation": file["y_test"]}
    np.savez(tmp_path / "own.npz", **arrays)
    dataset = data.load(f"npz:{tmp_path / 'own.npz'}")
    assert len(dataset.validation) == 50
    for held_out in (None, 0):
        taught = data.load(dataset.name, validation_images=held_out)
        run = finished_run(tmp_path / f"run-{held_out}", taught)
        assert validation_overlap.count(run.folder, dataset) == 0
    unknown = finished_run(tmp_path / "unknown", data.load(f"npz:{tiny_npz}"))
    assert validation_overlap.count(unknown.folder, dataset) is None


def test_a_source_counts_where_it_may_have_the_same_images(tiny_npz, tmp_path):
    dataset = data.load(f"npz:{tiny_npz}")
    same = finished_run(tmp_path / "same", data.load(f"npz:{tiny_npz}", validation_images=30))
    assert validation_overlap.count_source(same.folder, dataset) == (10,)
    other_data = dataclasses.replace(dataset, images=255 - dataset.images)
    for name, target, expected in (
        ("cifar10", "cifar100:class1", ()),
        ("cifar100", "cifar100:class1", (None,)),
        ("cifar100:class2", "cifar100:apple,bowl", (None,)),
        ("npz:a.npz", "npz:a.npz", (None,)),  # which was changed
        ("shapes", "shapes:near", ()),
    ):
        run = finished_run(tmp_path / f"{name}-{target}".replace("/", "_"), other_data, dataset=name)
        renamed = dataclasses.replace(dataset, name=target)
        assert validation_overlap.count_source(run.folder, renamed) == expected, name
    assert validation_overlap.count_source(tmp_path / "mine.keras", dataset) == ()


def test_the_warning_says_what_follows():
    known = validation_overlap.warning("teacher", ["a", "b"], (0, 9000), 10_000)
    assert known.startswith("The teacher b was trained on 9,000 of the 10,000 validation images. The valid")
    assert "of the teacher and of the student is too high. Do not choose between students by it" in known
    assert "Test accuracy is not affected. docs/own-teacher.md" in known
    unknown = validation_overlap.warning("teacher", ["a", "b"], (0, None), 50)
    assert unknown.startswith(
        "It is unknown whether the teacher b was trained on the 50 validation images. If so, the valid"
    )
    both = validation_overlap.warning("source", ["a", "b"], (3, None), 50)
    assert "a was trained on 3 of the 50" in both
    assert "whether the source b was" in both
    assert "If so" not in both
    assert "new network" in both
    for overlap, count in (((0, 0), 50), ((3, None), 0), ((), 50)):
        assert validation_overlap.warning("teacher", ["a", "b"], overlap, count) == ""
