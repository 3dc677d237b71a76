"""Which runs a plan has, in which order, and which it finds."""

import dataclasses
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from kapp import cli
from kapp.cluster import Serial
from kapp.errors import ConfigError
from kapp.recipes import train
from kapp.records import RunConfig
from kapp.reproduction import paper_rows, plan
from kapp.reproduction.paper_rows import TABLES, pick
from kapp.reproduction.plan import PlannedRun, load_dataset
from kapp.reproduction.schedule import Clock, Schedule
from kapp.run_folder import Run
from tests.reporting.helpers import fabricate


def names(runs) -> list[str]:
    return [run.name.partition(",")[0].partition(" on npz")[0] for run in runs]


def finish(planned: PlannedRun) -> None:
    """Make the run folder of `planned` as a recipe leaves it, as far as a plan looks."""
    dataset = load_dataset(plan.data_name(planned.settings), planned.settings.data)
    assert planned.folder is not None
    write_finished(planned.folder, planned.settings.run_config(dataset))


def write_finished(folder: Path, config: RunConfig, phase: str | None = None) -> Run:
    result = dataclasses.replace(fabricate(folder.parent / f"other-{folder.name}").result, phase=phase)
    run = Run.create(folder, config)
    run.write_result(result)
    return run


def test_runs_are_shared_by_rows_and_tables(shared, tiny_npz, tmp_path):
    for name in ("near.npz", "far.npz"):
        shutil.copyfile(tiny_npz, tmp_path / name)
    shared = replace(shared, targets=("npz:near.npz", "npz:far.npz"))
    planned = plan.make(pick(TABLES, ()), 1, shared)
    # Eight networks on labels, ten students; eight networks of Hu; from scratch and transferred, on two sets.
    assert len(planned.runs) == 8 + 10 + 8 + 2 + 2
    assert len(planned.cells) == 18 + 14
    assert len(plan.make(pick(TABLES, ()), 3, shared).runs) == 3 * 30  # teachers and sources are of seed 0


def test_dependencies_come_before_the_runs_that_need_them(shared):
    planned = plan.make(pick(TABLES, ()), 2, shared)
    runs = list(planned.runs.values())
    for i, run in enumerate(runs):
        assert set(run.needs) <= set(runs[:i])


def test_the_order_of_value(shared):
    planned = plan.make(pick(["ratusznik:3", "ratusznik:5"], ()), 2, shared)
    ordered = [
        (name, run.settings.seed) for name, run in zip(names(planned.runs.values()), planned.runs.values())
    ]
    assert ordered[:4] == [("teacher_1", 0), ("linear_3", 0), ("linear_3", 1), ("linear_4", 0)]
    assert ordered[-1] == ("shallow_resnet from teacher_1", 1)
    assert ordered.index(("linear_3 from teacher_1", 1)) < ordered.index(("deep_resnet", 0))
    assert ordered.index(("shallow_resnet from teacher_1", 0)) < ordered.index(("teacher_1", 1))


def test_a_row_needs_its_teacher_and_its_baseline(shared):
    rows = pick(["ratusznik:3"], ["conv_1 from teacher_1"])
    planned = plan.make(rows, 1, shared)
    assert names(planned.to_do(rows)) == ["teacher_1", "conv_1", "conv_1 from teacher_1"]


def test_a_run_of_another_command_is_found(shared):
    rows = pick(["ratusznik:3"], ["conv_1"])
    config = train.Config(
        model="conv_1", dataset=shared.dataset, scale="small", data=shared.data, compute=shared.compute
    )
    dataset = load_dataset(shared.dataset, shared.data)
    settings = config.resolved()
    write_finished(settings.folder(dataset), settings.run_config(dataset))
    planned = plan.make(rows, 1, shared)
    assert names(planned.to_do(rows)) == ["teacher_1", "conv_1 from teacher_1"]
    (cell,) = planned.of(rows[0])
    assert cell.is_finished
    assert cell.run is not None
    assert cell.run.folder == settings.folder(dataset)
    # Other data in the same file is another run.
    other = plan.make(rows, 1, replace(shared, scale="short"))
    assert len(other.to_do(rows)) == 3


def test_a_distilled_run_is_found_without_its_teacher(shared):
    rows = pick(["ratusznik:3"], ["conv_1 from teacher_1"])
    for run in plan.make(rows, 1, shared).runs.values():
        if "from" in run.name:
            finish(run)
    assert plan.make(rows, 1, shared).to_do(rows) == []


def test_a_run_that_is_not_finished_is_not_found(shared):
    rows = pick(["ratusznik:6"], ())
    (run,) = plan.make(rows, 1, shared).runs.values()
    finish(run)
    assert plan.make(rows, 1, shared).to_do(rows) == []
    assert run.folder is not None
    (run.folder / "result.json").unlink()
    assert len(plan.make(rows, 1, shared).to_do(rows)) == 1


def test_a_run_from_elsewhere_fills_its_row(shared, tmp_path):
    rows = pick(["ratusznik:3"], ["conv_1 from teacher_1"])
    planned = plan.make(rows, 1, shared)
    *_, student = planned.runs.values()
    dataset = load_dataset(shared.dataset, shared.data)
    config = student.settings.run_config(dataset)
    settings = {**config.settings, "precision": "mixed_bfloat16", "dataset": "npz:/other/place.npz"}
    elsewhere = replace(config, backend="jax", settings=settings)
    merged = [write_finished(tmp_path / "gpu" / "student", elsewhere)]
    (cell,) = plan.make(rows, 1, shared, merged).cells
    assert cell.run == merged[0]
    assert cell.missing() == []

    for i, changed in enumerate(
        (
            replace(elsewhere, settings={**settings, "seed": 1}),
            replace(elsewhere, settings={**settings, "epochs": 13}),
            replace(elsewhere, data_sha256="0" * 64),
        )
    ):
        merged = [write_finished(tmp_path / "gpu" / f"other-{i}", changed)]
        (cell,) = plan.make(rows, 1, shared, merged).cells
        assert cell.merged is None


def test_the_phases_of_a_transfer_from_elsewhere(shared, tmp_path):
    rows = pick(["hu:4"], ["linear probe, class1", "fine-tuning, class1"])
    planned = plan.make(rows, 1, shared)
    tuning = next(run for run in planned.runs.values() if run.folder is None)
    dataset = load_dataset(shared.dataset, tuning.settings.data)
    settings = cli.as_json(tuning.settings)
    config = RunConfig("transfer", "jax", dataset.checksum, settings, source_sha256="1" * 64)
    tuned = write_finished(tmp_path / "gpu" / "transfer", config, "fine_tuning")
    write_finished(tuned.linear_probe, tuned.config, "linear_probe")
    merged = plan.finished_runs([tmp_path / "gpu"])
    filled = {cell.row.name: cell.run for cell in plan.make(rows, 1, shared, merged).cells}
    assert {name: run.folder.name for name, run in filled.items()} == {
        "all_cnn_c linear probe, class1": "linear_probe",
        "all_cnn_c fine-tuning, class1": "transfer",
    }


def test_a_run_that_fails_says_nothing_about_the_time_that_is_left(shared, tiny_npz, tmp_path):
    data = shutil.copyfile(tiny_npz, tmp_path / "gone.npz")
    planned = plan.make(pick(["ratusznik:6"], ()), 1, replace(shared, dataset=f"npz:{data}"))
    (run,) = planned.runs.values()
    run.seconds_left = 7200.0
    data.unlink()
    clock = Clock(budget=8000.0)
    assert Schedule([run], Serial(), clock).run(lambda: None) == []
    assert "there is no file" in run.error
    assert clock.pace == 1.0


def test_folders_to_merge(shared, tmp_path):
    run = fabricate(tmp_path / "runs" / "one")
    unfinished = fabricate(tmp_path / "runs" / "two")
    (unfinished.folder / "result.json").unlink()
    assert [each.folder for each in plan.finished_runs([tmp_path / "runs"])] == [run.folder]
    assert [each.folder for each in plan.finished_runs([run.folder])] == [run.folder]
    for folder in (tmp_path / "gone", unfinished.folder):
        with pytest.raises(ConfigError, match="there is no finished run in it. Give a run folder"):
            plan.finished_runs([folder])


def test_runs_of_one_name_are_told_apart(shared):
    """The source and the target may be one data set."""
    planned = plan.make(pick(["hu:4"], ["from scratch, class1", "fine-tuning, class1"]), 1, shared)
    assert len({run.name for run in planned.runs.values()}) == 3


def test_the_names_of_the_tables():
    assert paper_rows.TABLES == (
        "ratusznik:3",
        "ratusznik:4",
        "ratusznik:5",
        "ratusznik:6",
        "hu:3",
        "hu:4",
    )
