"""The page over many runs: its rows, its figures and its paired tests."""

import pandas as pd
import pytest

from kapp.errors import ConfigError
from kapp.metrics import significance
from kapp.reporting import differences, summary, tables
from tests.reporting.helpers import add_predictions, assert_links_exist, cells


def write(runs, out, reference=None) -> str:
    summary.write(runs, out, reference=reference)
    text = (out / "README.md").read_text(encoding="utf-8")
    assert_links_exist(text, out, 3)
    return text


def test_the_summary_has_every_finished_run_and_pairs_the_curves(make_run, tmp_path):
    runs = [
        make_run("d", "linear_3", 0.582, teachers=["deep_resnet"]),
        make_run("b", "linear_3", 0.551),
        make_run("t", "deep_resnet", 0.902),
        make_run("b1", "linear_3", 0.561, seed=1),
        make_run("o", "linear_3", 0.3, teachers=["deep_resnet"], dataset="shapes:near", width=0.125),
        make_run("u"),
    ]
    (runs[-1].folder / "result.json").unlink()
    out = tmp_path / "reports" / "first"
    text = write(runs, out)
    frame = tables.rows(run.folder for run in runs)
    assert tables.comparison(frame) in text
    read = pd.read_csv(out / "rows.csv", keep_default_na=False)
    assert list(read["run"]) == ["d", "b", "t", "b1", "o"]
    assert list(read["test_accuracy"]) == list(frame["test_accuracy"])
    assert sorted(path.name for path in (out / "figures").iterdir()) == [
        "accuracies-cifar10.png",
        "accuracies-shapes_near.png",
        "accuracy-linear_3-cifar10-1-deep_resnet-prob_mse.png",
        "loss-linear_3-cifar10-1-deep_resnet-prob_mse.png",
    ]
    settings = {row[""]: row["value"] for row in cells(text.split("## Settings\n")[1])}
    assert (settings["seed"], settings["dataset"]) == ("0, 1", "cifar10, shapes:near")


def test_teachers_that_know_validation_images_are_listed_once(make_run, tmp_path):
    runs = [
        make_run("d0", "linear_3", 0.58, teachers=["a"], validation_overlap=(9000,)),
        make_run("d1", "linear_3", 0.58, teachers=["a"], validation_overlap=(9000,), seed=1),
        make_run("e", "linear_3", 0.58, teachers=["b"], validation_overlap=(0,)),
    ]
    text = write(runs, tmp_path / "out")
    assert text.count("The teacher a was trained on 9,000 of the 10,000 validation images.") == 1
    assert "teacher b" not in text
    assert "No teacher" not in text


def test_no_finished_run_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no finished run"):
        summary.write([], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_same_run_twice_is_one(make_run, tmp_path):
    run = make_run("a")
    assert "Finished runs: 1." in write([run, run], tmp_path / "out")


def test_two_runs_of_one_name_are_refused(make_run, tmp_path):
    runs = [make_run("laptop/a"), make_run("server/a", accuracy=0.6)]
    with pytest.raises(ConfigError, match="two runs are called a: rename the folder of one of them"):
        summary.write(runs, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_figures_of_data_with_similar_or_long_paths_have_names_of_their_own(make_run, tmp_path):
    names = ["npz:data/a.npz", "npz:data_a.npz", f"npz:{'deep/' * 100}a.npz", f"npz:{'e' * 245}.npz"]
    runs = [make_run(f"r{i}", dataset=name, data_sha256=f"{i}" * 64) for i, name in enumerate(names)]
    write(runs, tmp_path / "out")
    assert len(list((tmp_path / "out" / "figures").iterdir())) == len(names)


def test_one_common_seed_is_compared_image_by_image(make_run, tmp_path):
    run, baseline = make_run("d", accuracy=0.57, teachers=["deep_resnet"]), make_run("b", accuracy=0.55)
    for each in (run, baseline):
        add_predictions(each)
    found = differences.compare_runs(run, baseline)
    (row,) = cells(write([run, baseline], tmp_path / "out").split("## Differences\n")[1])
    assert row == {
        "comparison": "linear_3: deep_resnet compared with labels",
        "seeds": "1",
        "difference (paired 95% interval)": tables.points(found.difference, *found.interval),
        "p": f"{found.p_value:.2g}",
        "smallest significant": f"{100 * differences.smallest_significant(found):.1f} points",
    }


def test_a_student_of_few_labels_is_compared_with_the_baseline_of_as_many(make_run, tmp_path):
    """Also where the baseline of all labels shares more of its settings."""
    runs = [
        make_run("d", accuracy=0.50, teachers=["deep_resnet"], labeled=4000),
        make_run("few", accuracy=0.40, labeled=4000, train_images=4000, epochs=400, validate_every=40_000),
        make_run("all", accuracy=0.60),
    ]
    for each in runs:
        add_predictions(each)
    text = write(runs, tmp_path / "out")
    (row,) = cells(text.partition("## Differences")[2])
    assert row["difference (paired 95% interval)"].startswith("+10.0 points")
    alone = write([runs[0], runs[2]], tmp_path / "alone")
    assert "## Differences" not in alone


def test_several_common_seeds_are_compared_by_the_paired_t_test(make_run, tmp_path):
    distilled, labels = [0.57, 0.58, 0.585], [0.55, 0.55, 0.56]
    runs = [make_run(f"d{i}", accuracy=x, seed=i, teachers=["deep_resnet"]) for i, x in enumerate(distilled)]
    runs += [make_run(f"b{i}", accuracy=x, seed=i) for i, x in enumerate(labels)]
    runs += [make_run("b9", accuracy=0.9, seed=9), make_run("other", accuracy=0.1, learning_rate=0.1)]
    found = significance.compare_seeds(distilled, labels)
    (row,) = cells(write(runs, tmp_path / "out").split("## Differences\n")[1])
    assert row["comparison"] == "linear_3: deep_resnet compared with labels"
    assert (row["seeds"], row["p"]) == ("3", f"{found.p_value:.2g}")
    assert row["difference (paired 95% interval)"] == tables.points(found.difference, *found.interval)


def test_of_equally_similar_baselines_the_one_with_more_common_seeds_is_compared(make_run, tmp_path):
    """Also where another one is listed first."""
    runs = [make_run("a_long", accuracy=0.5, epochs=30)]
    runs += [make_run(f"b{i}", accuracy=0.51 + i / 100, epochs=6, seed=i) for i in (0, 1)]
    students = {"epochs": 3, "teachers": ["deep_resnet"]}
    runs += [make_run(f"d{i}", accuracy=0.52 + i / 50, seed=i, **students) for i in (0, 1)]
    (row,) = cells(write(runs, tmp_path / "out").split("## Differences\n")[1])
    assert (row["seeds"], row["difference (paired 95% interval)"][:4]) == ("2", "+1.5")


def test_lengths_of_training_are_drawn_on_labels_and_distilled(make_run, tmp_path, drawn):
    accuracies = {(3, ""): 0.5, (6, ""): 0.52, (3, "teacher_1"): 0.51, (6, "teacher_1"): 0.56}
    runs = [
        make_run(f"{teacher}{epochs}-{seed}", accuracy=accuracy + seed / 100, seed=seed, epochs=epochs)
        if not teacher
        else make_run(
            f"{teacher}{epochs}-{seed}",
            accuracy=accuracy + seed / 100,
            seed=seed,
            epochs=epochs,
            teachers=[teacher],
        )
        for (epochs, teacher), accuracy in accuracies.items()
        for seed in range(2)
    ]
    runs += [make_run(f"conv{epochs}", "conv_1", epochs=epochs) for epochs in (3, 6)]  # on labels alone
    text = write(runs, tmp_path / "out")
    assert "(figures/epochs-cifar10-1.png)" in text
    figure = next(each for each in drawn if each.axes[0].get_xlabel() == "epochs of the training")
    (axes,) = figure.axes
    assert axes.get_title() == "linear_3"
    lines = [(list(each[0].get_xdata()), list(each[0].get_ydata())) for each in axes.containers]
    assert lines == [([3, 6], pytest.approx([0.505, 0.525])), ([3, 6], pytest.approx([0.515, 0.565]))]
    assert [text.get_text() for text in figure.legends[0].texts] == ["on labels", "from teacher_1"]
    assert "![Accuracy of linear_3 from teacher_1 (prob_mse), 2 seeds: mean, lowest and highest]" in text
    curves = next(each for each in drawn if each.axes[0].get_ylabel() == "validation accuracy")
    assert list(curves.axes[0].lines[1].get_xdata()) == list(range(1, 7))  # of the longest


def test_numbers_of_labels_are_drawn_from_scratch_and_transferred(make_run, tmp_path, drawn):
    """A line has one point per number, whatever else follows from it."""
    shared = {"source": "cifar10", "head": "linear", "phase": "fine_tuning"}
    runs = [
        make_run(f"{name}{labels}", accuracy=accuracy, train_images=labels, epochs=9000 // labels, **settings)
        for name, accuracy, settings in (("scratch", 0.4, {}), ("tuned", 0.6, shared))
        for labels in (250, 1000)
    ]
    runs += [make_run("few", accuracy=0.3, train_images=500, labeled=50, epochs=1)]
    runs += [make_run("short", accuracy=0.2, train_images=250, epochs=2)]  # less accurate in validation, too
    text = write(runs, tmp_path / "out")
    assert "Test accuracy by the training images with a label, cifar10](figures/labels-cifar10-1.png)" in text
    figure = next(each for each in drawn if each.axes[0].get_xlabel() == "training images with a label")
    lines = [(list(each[0].get_xdata()), list(each[0].get_ydata())) for each in figure.axes[0].containers]
    assert lines == [([50, 250, 1000], [0.3, 0.4, 0.4]), ([250, 1000], [0.6, 0.6])]
    names = [each.get_text() for each in figure.legends[0].texts]
    assert names == ["from scratch", "from cifar10, fine-tuning"]


def test_images_without_a_label_are_no_labels(make_run, tmp_path, drawn):
    """40,000 images with labels, and 100,000 that --unlabeled adds, next to 1,000 labels of these."""
    student = {"teachers": ["airbench"], "unlabeled": "npz:more.npz", "train_images": 140_000}
    runs = [
        make_run("all", accuracy=0.6, labeled_images=40_000, unlabeled_images=100_000, **student),
        make_run("few", accuracy=0.5, labeled_images=1000, unlabeled_images=100_000, labeled=1000, **student),
    ]
    text = write(runs, tmp_path / "out")
    assert "airbench, all labels" in text
    figure = next(each for each in drawn if each.axes[0].get_xlabel() == "training images with a label")
    (line,) = figure.axes[0].containers
    assert list(line[0].get_xdata()) == [1000, 40_000]


def test_equal_differences_of_all_seeds_are_compared_on_the_images_of_the_first(make_run, tmp_path):
    """The t-test would give p = 0 for any difference."""
    runs = [make_run(f"d{i}", accuracy=0.551 + i / 8, seed=i, teachers=["deep_resnet"]) for i in (0, 1)]
    runs += [make_run(f"b{i}", accuracy=0.55 + i / 8, seed=i) for i in (0, 1)]
    for each in runs:
        add_predictions(each)
    found = differences.compare_runs(runs[0], runs[2])
    (row,) = cells(write(runs, tmp_path / "out").split("## Differences\n")[1])
    assert (row["seeds"], row["p"]) == ("1", f"{found.p_value:.2g}")
    assert found.p_value > 0.05
    assert row["smallest significant"] == differences.format_smallest(differences.smallest_significant(found))


def test_all_are_compared_with_a_reference_and_named_by_what_they_change(make_run, tmp_path, drawn):
    runs = [
        make_run("mine", accuracy=0.6, crop_padding=4, flip=True),
        make_run("no_views", accuracy=0.55, crop_padding=0, flip=False),
        make_run("student", accuracy=0.64, crop_padding=4, flip=True, teachers=["teacher_1"]),
        make_run("conv", "conv_1", accuracy=0.7, crop_padding=4, flip=True),
        make_run("other_seed", accuracy=0.62, crop_padding=4, flip=True, learning_rate=0.1, seed=1),
    ]
    for each in runs:
        add_predictions(each)
    text = write(runs, tmp_path / "out", runs[0])
    rows = {row["comparison"]: row for row in cells(text.split("## Differences\n")[1])}
    assert list(rows) == ["crop padding 0, no flips", "teacher_1", "conv_1"]
    assert "because they have no seed of `mine` or other data: learning rate 0.1." in text
    assert "Each experiment minus that of `mine`" in text
    (axes,) = next(each.axes for each in drawn if "difference" in each.axes[0].get_xlabel())
    assert [each.get_text() for each in axes.get_yticklabels()] == [
        "conv_1",
        "teacher_1",
        "crop padding 0, no flips",
    ]
    assert list(axes.containers[0][0].get_xdata()) == pytest.approx([10, 4, -5])
    for other in ("teacher_1", "conv_1"):
        assert rows[other]["difference (paired 95% interval)"].startswith("+")
    assert "Differences of the test accuracy to mine](figures/differences.png)" in text
    found = [differences.compare_runs(each, runs[0]).p_value for each in runs[1:4]]
    adjusted = [f"{each:.2g}" for each in significance.holm(found)]
    assert [row["p, Holm"] for row in rows.values()] == adjusted


def test_the_seeds_of_a_reference_are_compared_by_the_paired_t_test(make_run, tmp_path):
    accuracies = {0.1: [0.57, 0.58, 0.585], 0.001: [0.55, 0.55, 0.56]}
    runs = [
        make_run(f"r{rate}-{seed}", accuracy=accuracy, learning_rate=rate, seed=seed)
        for rate, seeds in accuracies.items()
        for seed, accuracy in enumerate(seeds)
    ]
    (row,) = cells(write(runs, tmp_path / "out", runs[4]).split("## Differences\n")[1])
    found = significance.compare_seeds(*accuracies.values())
    assert (row["comparison"], row["seeds"]) == ("learning rate 0.1", "3")
    assert row["difference (paired 95% interval)"] == tables.points(found.difference, *found.interval)


def test_students_of_two_networks_of_one_name_have_two_names(make_run, tmp_path):
    runs = [make_run("labels")]
    runs += [make_run(name, teachers=["airbench"], teacher=[f"runs/{name}"]) for name in "ab"]
    for each in runs:
        add_predictions(each)
    rows = cells(write(runs, tmp_path / "out", runs[0]).split("## Differences\n")[1])
    assert [row["comparison"] for row in rows] == [
        "airbench (airbench, teacher runs/a)",
        "airbench (airbench, teacher runs/b)",
    ]


def test_students_of_two_widths_and_two_networks_of_one_name_have_four_names(make_run, tmp_path):
    runs = [make_run("labels")]
    for name in "ab":
        for width in (0.5, 1.0):
            student = {"teachers": ["airbench"], "teacher": [f"runs/{name}"], "width": width}
            runs += [make_run(f"{name}{width}", **student)]
    for each in runs:
        add_predictions(each)
    rows = cells(write(runs, tmp_path / "out", runs[0]).split("## Differences\n")[1])
    assert len({row["comparison"] for row in rows}) == 4


def test_of_two_runs_of_a_seed_the_reference_is_compared(make_run, tmp_path):
    runs = [
        make_run("a", accuracy=0.5),
        make_run("b", accuracy=0.6),
        make_run("c", accuracy=0.7, momentum=0.5),
    ]
    for each in runs:
        add_predictions(each)
    (row,) = cells(write(runs, tmp_path / "out", runs[1]).split("## Differences\n")[1])
    assert row["difference (paired 95% interval)"].startswith("+10.0 points")


def test_runs_on_other_data_are_not_compared_with_the_reference(make_run, tmp_path):
    runs = [make_run("mine"), make_run("other", dataset="shapes", data_sha256="1" * 64)]
    text = write(runs, tmp_path / "out", runs[0])
    assert "because they have no seed of `mine` or other data: dataset shapes" in text
    assert "points" not in text


def test_a_long_name_takes_several_lines_in_the_figure(make_run, tmp_path, drawn):
    others = {"learning_rate": 0.1, "crop_padding": 0, "flip": False, "optimizer": "muon", "momentum": 0.5}
    runs = [make_run("mine", crop_padding=4, flip=True), make_run("other", **others, schedule="cosine")]
    for each in runs:
        add_predictions(each)
    write(runs, tmp_path / "out", runs[0])
    (axes,) = next(each.axes for each in drawn if "difference" in each.axes[0].get_xlabel())
    (label,) = [each.get_text() for each in axes.get_yticklabels()]
    assert max(map(len, label.split("\n"))) <= 60 < len(label)


def test_the_name_of_a_reference_is_shown_as_it_is(make_run, tmp_path):
    runs = [make_run("x` <img src=q> `y"), make_run("other", learning_rate=0.1)]
    for each in runs:
        add_predictions(each)
    assert "minus that of `` x` <img src=q> `y ``, on" in write(runs, tmp_path / "out", runs[0])


def test_a_reference_that_is_not_one_of_the_runs_is_refused(make_run, tmp_path):
    runs = [make_run("a"), make_run("unfinished")]
    (runs[1].folder / "result.json").unlink()
    for reference in (runs[1], make_run("elsewhere")):
        with pytest.raises(ConfigError, match=f"reference .*{reference.name} isn't one of the finished runs"):
            summary.write(runs, tmp_path / "out", reference=reference)
    assert not (tmp_path / "out").exists()


def test_one_seed_without_predictions_is_not_compared(make_run, tmp_path):
    runs = [make_run("d", accuracy=0.57, teachers=["deep_resnet"]), make_run("b", accuracy=0.55)]
    text = write(runs, tmp_path / "out")
    assert f"linear_3: deep_resnet compared with labels: {differences.NO_TEST}" in text
    assert "points" not in text


def test_runs_without_a_baseline_or_a_common_seed_have_no_section_of_differences(make_run, tmp_path):
    runs = [make_run("d", teachers=["deep_resnet"]), make_run("b", seed=1), make_run("c", "conv_1")]
    assert "## Differences" not in write(runs, tmp_path / "out")


def test_each_transfer_is_drawn_and_compared_with_scratch(make_run, tmp_path):
    runs = []
    for name in ("near", "far"):
        target = {"dataset": f"npz:{name}", "epochs": 20}
        from_source = {**target, "recipe": "transfer", "source": "cifar10", "head": "linear"}
        runs += [
            make_run(f"{name}-2", "all_cnn_c", 0.75, phase="fine_tuning", **from_source),
            make_run(f"{name}-2-linear_probe", "all_cnn_c", 0.52, phase="linear_probe", **from_source),
            make_run(f"{name}-0", "all_cnn_c", 0.69, **target),
        ]
    for run in runs:
        add_predictions(run)
    text = write(runs, tmp_path / "out")
    names = {path.name for path in (tmp_path / "out" / "figures").iterdir()}
    assert {f"phases-all_cnn_c-cifar10-npz_{name}-linear.png" for name in ("near", "far")} <= names
    rows = cells(text.split("## Differences\n")[1])
    assert [row["comparison"] for row in rows] == [
        "all_cnn_c: cifar10, fine-tuning compared with scratch"
    ] * 2


def test_a_transfer_is_drawn_with_its_own_probe(make_run, tmp_path, drawn):
    """Not with that of a transfer between the same data sets, with other settings."""
    shared = {"dataset": "npz:near", "recipe": "transfer", "source": "cifar10", "head": "linear"}
    runs = []
    for name, epochs in (("other", 3), ("mine", 5)):
        probe = make_run(f"{name}-linear_probe", "all_cnn_c", phase="linear_probe", epochs=epochs, **shared)
        tuned = make_run(name, "all_cnn_c", phase="fine_tuning", epochs=epochs, **shared)
        runs += [[probe, tuned]]
    (other_probe, _), (probe, tuned) = runs
    write([other_probe, probe, tuned], tmp_path / "out")
    (panels,) = [figure.axes for figure in drawn if len(figure.axes) == 2]
    assert [len(axes.lines[0].get_xdata()) for axes in panels] == [5, 5]
