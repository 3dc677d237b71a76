"""Run folders as rows, and rows as tables."""

import json
import math
import statistics

import pandas as pd

from kapp.reporting import tables


def cells(table: str) -> list[dict[str, str]]:
    """A Markdown table as one dictionary a row."""
    lines = [line for line in table.splitlines() if line.startswith("|")]
    split = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return [dict(zip(split[0], row, strict=True)) for row in split[2:]]


def rows(*runs):
    return tables.rows([run.folder for run in runs])


def test_rows_hold_what_the_runs_hold_in_order(make_run):
    frame = rows(
        make_run("b", "conv_1", 0.74), make_run("a", "linear_3", 0.55, teachers=["teacher_1", "deep_resnet"])
    )
    assert list(frame["run"]) == ["b", "a"]
    assert list(frame["teachers"]) == ["", "teacher_1+deep_resnet"]
    assert list(frame["test_accuracy"]) == [0.74, 0.55]
    assert list(frame["images_per_second"]) == [12_345.6] * 2
    assert (frame["low"] < frame["test_accuracy"]).all()
    assert (frame["high"] > frame["test_accuracy"]).all()
    expected = (
        "run recipe model teachers objective dataset width parameters flops epochs best_epoch batch_size "
        "seed backend precision device val_accuracy test_accuracy low high test_loss calibration_error "
        "seconds images_per_second commit"
    )
    assert list(frame.columns[:25]) == expected.split()


def test_unfinished_runs_and_repeated_folders_give_no_row(make_run):
    run, unfinished = make_run("a"), make_run("b")
    (unfinished.folder / "result.json").unlink()
    assert list(rows(run, unfinished, run)["run"]) == ["a"]


def test_what_a_run_does_not_tell_is_missing(make_run):
    run = make_run("a")
    result = run.result
    for key in ("teachers", "flops", "test_interval"):
        del result[key]
    (run.folder / "result.json").write_text(json.dumps({**result, "commit": None}))
    row = rows(run).iloc[0]
    assert row["teachers"] == ""
    assert all(pd.isna(row[name]) for name in ("flops", "low", "high", "commit"))
    assert cells(tables.comparison(rows(run)))[0]["test (95% interval)"] == "55.0%"


def test_seeds_of_one_experiment_become_mean_and_deviation(make_run):
    shares = [0.55, 0.56, 0.585]
    frame = rows(*(make_run(f"s{seed}", accuracy=share, seed=seed) for seed, share in enumerate(shares)))
    (row,) = tables.experiments(frame).to_dict("records")
    mean, deviation = statistics.mean(shares), statistics.stdev(shares)
    assert row["n"] == 3
    assert math.isclose(row["test_accuracy"], mean)
    assert math.isclose(row["test_spread"], deviation)
    assert math.isclose(row["low"], mean - deviation)
    assert math.isclose(row["high"], mean + deviation)
    (shown,) = cells(tables.comparison(frame))
    assert (shown["n"], shown["test (95% interval)"]) == ("3", "56.5% ± 1.8")
    assert "sample standard deviation" in tables.comparison(frame)


def test_runs_that_differ_in_more_than_the_seed_stay_apart_and_say_how(make_run):
    frame = rows(make_run("a", seed=0), make_run("b", seed=1, learning_rate=0.01), make_run("c", "conv_1"))
    table = tables.experiments(frame)
    assert list(table["n"]) == [1, 1, 1]
    assert list(table["trained_on"]) == [
        "labels, learning rate 0.001",
        "labels, learning rate 0.01",
        "labels",
    ]


def test_the_machine_and_the_commit_do_not_make_another_experiment(make_run):
    frame = rows(make_run("a"), make_run("b", seed=1, device="H200", commit="fedcba9", seconds=3.0))
    assert list(tables.experiments(frame)["n"]) == [2]


def test_the_teaching_is_told_where_it_is_not_paper_ds(make_run):
    both = ["teacher_1", "deep_resnet"]
    frame = rows(
        make_run("a", teachers=["teacher_1"]),
        make_run("b", teachers=both, objective="kl", label_weight=0.07),
        make_run("c", teachers=both, objective="logit_mse"),
    )
    assert list(tables.experiments(frame)["trained_on"]) == [
        "teacher_1",
        "teacher_1 + deep_resnet, kl, temperature 4, 7% labels",
        "teacher_1 + deep_resnet, logit_mse",
    ]


def test_comparison_sets_paper_ds_figures_beside_ours(make_run):
    small = {"dataset": "shapes"}
    frame = rows(
        make_run("a", "linear_3", 0.5512),
        make_run("b", "teacher_1", 0.9),
        make_run("c", "linear_3", 0.58, teachers=["deep_resnet"]),
        make_run("d", "linear_3", 0.58, teachers=["deep_resnet"], objective="kl"),
        make_run("e", "linear_3", 0.40, **small),
        make_run("f", "linear_3", 0.40, train_images=20_000),
        make_run("h", "linear_3", 0.40, width=0.125),
        make_run("g", "64fc-10fc", 0.5),
    )
    shown = cells(tables.comparison(frame))
    assert [row["model"] for row in shown] == ["linear_3"] * 6 + ["teacher_1", "64fc-10fc"]
    assert [row["paper D"] for row in shown] == [
        "55.12%, 75 epochs",
        "58.37%, 300 epochs",
        "",
        "(55.12%, 75 epochs)",
        "(55.12%, 75 epochs)",
        "(55.12%, 75 epochs)",
        "90.49%, 250 epochs",
        "",
    ]
    assert shown[3]["dataset"] == "shapes"
    assert shown[5]["width"] == "0.125"
    assert shown[0]["test (95% interval)"] == "55.1% (54.1 to 56.1)"
    assert shown[0]["validation"] == "55.5%"
    assert shown[0]["parameters"] == "10.5M"
    assert tables.PUBLISHED_NOTE in tables.comparison(frame)
    assert tables.PUBLISHED_NOTE not in tables.comparison(frame[frame["model"] == "64fc-10fc"])


def test_comparison_sets_paper_as_table_4_beside_ours(make_run):
    class1 = {"dataset": "cifar100:class1", "source": "cifar10", "head": "linear"}
    frame = rows(
        make_run("a", "all_cnn_c", 0.69, dataset="cifar100:class1"),
        make_run("b", "all_cnn_c", 0.52, phase="phase 1", **class1),
        make_run("c", "all_cnn_c", 0.75, phase="phase 2", **class1),
        make_run("d", "all_cnn_c", 0.70, phase="phase 2", **class1 | {"head": "mlp"}),
        make_run("e", "all_cnn_c", 0.75, phase="phase 2", **class1 | {"width": 0.5}),
        make_run("f", "all_cnn_c", 0.60, phase="phase 2", **class1 | {"dataset": "npz:far.npz"}),
    )
    shown = cells(tables.comparison(frame))
    assert [row["trained on"] for row in shown] == [
        "labels",
        "cifar10, phase 1",
        "cifar10, phase 2",
        "cifar10, phase 2, mlp head",
        "cifar10, phase 2",
        "cifar10, phase 2",
    ]
    assert [row["paper A"] for row in shown] == [
        "68.75%, 350 epochs",
        "52.10%, 50 epochs",
        "75.05%, 50 epochs",
        "",
        "(75.05%, 50 epochs)",
        "",
    ]
    distilled = make_run("g", "linear_3", 0.58, teachers=["deep_resnet"])
    both = cells(tables.comparison(rows(make_run("h", "all_cnn_c", 0.83), distilled)))
    assert [row["papers A and D"] for row in both] == ["A: 83.28%, 350 epochs", "D: 58.37%, 300 epochs"]


def test_the_same_run_twice_is_one(make_run):
    phase1 = {"source": "cifar10", "head": "linear", "phase": "phase 1"}
    twins = rows(make_run("a", "all_cnn_c", 0.5, **phase1), make_run("b", "all_cnn_c", 0.5, **phase1))
    assert list(tables.experiments(twins)["n"]) == [1]
    seeds = rows(make_run("c", seed=0), make_run("d", seed=1))  # of equal accuracy, by chance
    assert list(tables.experiments(seeds)["n"]) == [2]


def test_a_run_that_selected_by_nothing_has_no_validation_accuracy(make_run):
    (shown,) = cells(tables.comparison(rows(make_run("a", val_accuracy=None, validation_images=0))))
    assert shown["validation"] == ""


def test_markdown_writes_each_column_in_its_unit(make_run):
    frame = rows(make_run("a|b", "linear_3", 0.5512, flops=None))
    table = tables.markdown(frame)
    (shown,) = cells(table)
    assert shown["run"] == "a\\|b"
    assert shown["test accuracy"] == "55.1% (54.1 to 56.1)"
    assert "low" not in shown
    assert shown["parameters"] == "10.5M"
    assert shown["flops"] == ""
    assert shown["images per second"] == "12,346"
    assert shown["learning rate"] == "0.001"
    assert {line.replace("\\|", "").count("|") for line in table.splitlines()} == {len(shown) + 1}


def test_numbers_are_written_as_people_write_them():
    assert [tables.amount(n) for n in (999, 96_200, 10_510_346, 1.24e9)] == ["999", "96.2k", "10.5M", "1.2G"]
    assert [tables.plain(v) for v in (1.0, 0.125, None, math.nan, "x", 40_000)] == (
        ["1", "0.125", "", "", "x", "40000"]
    )


def test_no_rows_are_an_empty_table():
    frame = tables.rows([])
    assert cells(tables.comparison(frame)) == []
    assert cells(tables.markdown(frame)) == []
