"""Run folders as rows, and rows as tables."""

import dataclasses
import math
import statistics

import pandas as pd

from kapp import records
from kapp.papers import hu
from kapp.reporting import tables
from kapp.reporting.markdown import to_markdown
from tests.reporting.helpers import cells


def rows(*runs):
    return tables.rows([run.folder for run in runs])


def test_rows_have_the_values_of_the_runs_in_order(make_run):
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
        "run recipe model teachers distillation_loss dataset width parameters flops epochs best_epoch "
        "batch_size seed backend precision device val_accuracy test_accuracy low high test_loss "
        "calibration_error seconds images_per_second commit"
    )
    assert list(frame.columns[:25]) == expected.split()


def test_unfinished_runs_and_repeated_folders_give_no_row(make_run):
    run, unfinished = make_run("a"), make_run("b")
    (unfinished.folder / "result.json").unlink()
    assert list(rows(run, unfinished, run)["run"]) == ["a"]


def test_hyperparameters_replace_settings_and_results_replace_both(make_run):
    run = make_run("a", width=0.5, learning_rate=0.01, train_images=20_000)
    settings = {**run.config.settings, "learning_rate": 0.5, "train_images": 7, "precision": "auto"}
    records.write(dataclasses.replace(run.config, settings=settings), run.config_file)
    run.write_result(run.result)
    row = rows(run).iloc[0]
    assert (row["width"], row["learning_rate"]) == (0.5, 0.01)
    assert (row["train_images"], row["precision"]) == (20_000, "float32")


def test_missing_values_are_nan(make_run):
    row = rows(make_run("a", flops=None)).iloc[0]
    assert row["teachers"] == ""
    assert row["distillation_loss"] == "cross_entropy"
    assert all(pd.isna(row[name]) for name in ("flops", "phase", "source", "pooling_norm"))


def test_seeds_of_one_experiment_become_mean_and_deviation(make_run):
    accuracies = [0.55, 0.56, 0.585]
    frame = rows(
        *(make_run(f"s{seed}", accuracy=accuracy, seed=seed) for seed, accuracy in enumerate(accuracies))
    )
    (row,) = tables.experiments(frame).to_dict("records")
    mean, deviation = statistics.mean(accuracies), statistics.stdev(accuracies)
    assert row["n"] == 3
    assert math.isclose(row["test_accuracy"], mean)
    assert math.isclose(row["test_spread"], deviation)
    assert math.isclose(row["low"], mean - deviation)
    assert math.isclose(row["high"], mean + deviation)
    (shown,) = cells(tables.comparison(frame))
    assert (shown["n"], shown["test (95% interval)"]) == ("3", "56.5% ± 1.8")
    assert "sample standard deviation" in tables.comparison(frame)


def test_runs_that_differ_in_more_than_the_seed_are_named_by_their_difference(make_run):
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


def test_a_setting_that_one_experiment_does_not_have_is_none(make_run):
    frame = rows(make_run("a", milestones=[20, 30]), make_run("b"))
    trained_on = list(tables.experiments(frame)["trained_on"])
    assert trained_on == ["labels, milestones 20 30", "labels, milestones none"]


def test_views_are_named_where_they_are_on(make_run):
    views = ({}, {"hue": 0.1}, {"mixup": 1.0}, {"crop_padding": 0}, {"crop_padding": 0, "flip": False})
    default = {"crop_padding": 4, "flip": True}
    frame = rows(*(make_run(f"r{i}", **default | each) for i, each in enumerate(views)))
    assert list(tables.experiments(frame)["trained_on"]) == [
        "labels, crop padding 4",
        "labels, crop padding 4, hue 0.1",
        "labels, crop padding 4, mixup 1",
        "labels, crop padding 0",
        "labels, crop padding 0, no flips",
    ]


def test_a_warm_up_that_follows_from_the_epochs_is_not_named(make_run):
    warm_ups = ((20, 1), (60, 3), (60, 6))
    runs = [make_run(f"r{e}-{w}", epochs=e, warmup_epochs=w, schedule="cosine") for e, w in warm_ups]
    assert list(tables.experiments(rows(*runs[:2]))["trained_on"]) == [
        "labels, epochs 20",
        "labels, epochs 60",
    ]
    assert list(tables.experiments(rows(*runs))["trained_on"]) == [
        "labels, epochs 20, warmup epochs 1",
        "labels, epochs 60, warmup epochs 3",
        "labels, epochs 60, warmup epochs 6",
    ]


def test_training_images_that_follow_from_the_labels_are_not_named(make_run):
    numbers = ((250, 250), (500, 500), (500, 4000))
    runs = [make_run(f"r{few}-{n}", labeled=few, train_images=n) for few, n in numbers]
    assert list(tables.experiments(rows(*runs[:2]))["trained_on"]) == [
        "labels, labeled 250",
        "labels, labeled 500",
    ]
    names = list(tables.experiments(rows(*runs))["trained_on"])
    assert names[1:] == ["labels, train images 500, labeled 500", "labels, train images 4000, labeled 500"]


def test_the_loss_is_named_unless_it_is_that_of_ratusznik_et_al(make_run):
    both = ["teacher_1", "deep_resnet"]
    frame = rows(
        make_run("a", teachers=["teacher_1"]),
        make_run("b", teachers=both, distillation_loss="kl", label_weight=0.07),
        make_run("c", teachers=both, distillation_loss="logit_mse"),
    )
    assert list(tables.experiments(frame)["trained_on"]) == [
        "teacher_1",
        "teacher_1 + deep_resnet, kl, temperature 4, label weight 0.07",
        "teacher_1 + deep_resnet, logit_mse",
    ]


def test_comparison_has_the_accuracies_of_ratusznik_et_al(make_run):
    small = {"dataset": "shapes"}
    frame = rows(
        make_run("a", "linear_3", 0.5512),
        make_run("b", "teacher_1", 0.9),
        make_run("c", "linear_3", 0.58, teachers=["deep_resnet"]),
        make_run("d", "linear_3", 0.58, teachers=["deep_resnet"], distillation_loss="kl"),
        make_run("e", "linear_3", 0.40, **small),
        make_run("f", "linear_3", 0.40, train_images=20_000),
        make_run("h", "linear_3", 0.40, width=0.125),
        make_run("g", "64fc-10fc", 0.5),
        make_run("i", "linear_3", 0.58, teachers=["teacher_1"], teacher_width=0.25),
    )
    shown = cells(tables.comparison(frame))
    assert [row["model"] for row in shown] == ["linear_3"] * 7 + ["teacher_1", "64fc-10fc"]
    assert [row["Ratusznik et al."] for row in shown] == [
        "55.12%, 75 epochs",
        "58.37%, 300 epochs",
        "",
        "(55.12%, 75 epochs, cifar10)",
        "(55.12%, 75 epochs, 40,000 images)",
        "(55.12%, 75 epochs, width 1)",
        "(58.09%, 300 epochs, teacher of width 1)",
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


def test_an_accuracy_of_hu_is_comparable_with_his_code_on_as_many_images(make_run):
    code = {"train_images": 49_000, "code_variants": list(hu.code_variants("base_c")), "pooling_norm": "inf"}
    frame = rows(
        make_run("a", "base_c", 0.83, **code),
        make_run("b", "base_c", 0.83, **code | {"train_images": 40_000}),
        make_run("c", "base_c", 0.83, **code | {"train_images": 1_000, "width": 0.5}),
        make_run("d", "base_c", 0.83, **code | {"code_variants": ["corner"]}),
        make_run("e", "base_c", 0.83, **code | {"code_variants": []}),
        make_run("f", "base_c", 0.83, **code | {"pooling_norm": 2.0}),
    )
    assert [row["Hu 2018"] for row in cells(tables.comparison(frame))] == [
        "83.18%, 350 epochs",
        "(83.18%, 350 epochs, 49,000 images)",
        "(83.18%, 350 epochs, 49,000 images, width 1)",
        "(83.18%, 350 epochs, its code)",
        "(83.18%, 350 epochs, its code)",
        "(83.18%, 350 epochs, max pooling)",
    ]


def test_comparison_has_table_4_of_hu(make_run):
    class1 = {"dataset": "cifar100:class1", "source": "cifar10", "head": "linear", "train_images": 5_000}
    class1 |= {"code_variants": list(hu.code_variants("all_cnn_c"))}
    class1_alone = {key: class1[key] for key in ("dataset", "train_images", "code_variants")}
    frame = rows(
        make_run("a", "all_cnn_c", 0.69, **class1_alone),
        make_run("b", "all_cnn_c", 0.52, phase="linear_probe", **class1),
        make_run("c", "all_cnn_c", 0.75, phase="fine_tuning", **class1),
        make_run("d", "all_cnn_c", 0.70, phase="fine_tuning", **class1 | {"head": "mlp"}),
        make_run("e", "all_cnn_c", 0.75, phase="fine_tuning", **class1 | {"width": 0.5}),
        make_run("f", "all_cnn_c", 0.60, phase="fine_tuning", **class1 | {"dataset": "npz:far.npz"}),
        make_run("i", "all_cnn_c", 0.75, phase="fine_tuning", **class1 | {"source": "shapes"}),
    )
    shown = cells(tables.comparison(frame))
    assert [row["trained on"] for row in shown] == [
        "labels",
        "cifar10, linear probe",
        "cifar10, fine-tuning",
        "cifar10, fine-tuning, mlp head",
        "cifar10, fine-tuning",
        "cifar10, fine-tuning",
        "shapes, fine-tuning",
    ]
    assert [row["Hu 2018"] for row in shown] == [
        "68.75%, 350 epochs",
        "52.10%, 50 epochs",
        "75.05%, 50 epochs",
        "",
        "(75.05%, 50 epochs, width 1)",
        "",
        "(75.05%, 50 epochs, from cifar10)",
    ]
    distilled = make_run("g", "linear_3", 0.58, teachers=["deep_resnet"])
    both = cells(tables.comparison(rows(make_run("h", "all_cnn_c", 0.83), distilled)))
    assert [row["Hu 2018"] for row in both] == ["(83.28%, 350 epochs, 49,000 images, its code)", ""]
    assert [row["Ratusznik et al."] for row in both] == ["", "58.37%, 300 epochs"]


def test_the_same_run_twice_is_one(make_run):
    probe = {"source": "cifar10", "head": "linear", "phase": "linear_probe"}
    twins = rows(make_run("a", "all_cnn_c", 0.5, **probe), make_run("b", "all_cnn_c", 0.5, **probe))
    assert list(tables.experiments(twins)["n"]) == [1]
    seeds = rows(make_run("c", seed=0), make_run("d", seed=1))  # of equal accuracy, by chance
    assert list(tables.experiments(seeds)["n"]) == [2]


def test_a_run_that_selected_by_nothing_has_no_validation_accuracy(make_run):
    (shown,) = cells(tables.comparison(rows(make_run("a", val_accuracy=None, validation_images=0))))
    assert shown["validation"] == ""


def test_pairs_leave_out_empty_values():
    values = {"learning_rate": 0.001, "rates": (), "seed": 0, "out": None, "milestones": [1, 2], "note": ""}
    assert cells(to_markdown([tables.pairs(values)])) == [
        {"": "learning rate", "value": "0.001"},
        {"": "seed", "value": "0"},
        {"": "milestones", "value": "1 2"},
    ]


def test_numbers_are_written_for_readers():
    assert [tables.format_si(n) for n in (999, 96_200, 10_510_346, 1.24e9)] == [
        "999",
        "96.2k",
        "10.5M",
        "1.2G",
    ]
    assert [tables.format_value(v) for v in (1.0, 0.125, None, math.nan, "x", 40_000)] == (
        ["1", "0.125", "", "", "x", "40000"]
    )


def test_intervals_are_written_in_percent_and_points():
    assert tables.percent(0.5512) == "55.1%"
    assert tables.interval(0.5512, 0.5414, 0.5609) == "55.1% (54.1 to 56.1)"
    assert tables.points(0.031, -0.002, 0.042) == "+3.1 points (-0.2 to +4.2)"


def test_no_rows_are_an_empty_table():
    assert tables.comparison(tables.rows([])) == ""
