"""Each figure is written to one PNG file, for ordinary runs and for extreme ones."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from kapp.errors import KappError
from kapp.reporting import figures, tables
from tests.reporting.helpers import assert_figure, texts


@pytest.mark.parametrize("epochs", [1, 2, 60])
def test_curves_show_training_and_validation(make_run, tmp_path, drawn, epochs):
    metrics = make_run("a", epochs=epochs).metrics()
    figures.curves(metrics, tmp_path / "curves.png", "linear_3")
    assert_figure(tmp_path / "curves.png", (1000, 400))
    loss, accuracy = drawn[0].axes
    assert [line.get_label() for line in loss.lines] == ["training", "validation"]
    assert list(loss.lines[1].get_ydata()) == list(metrics["val_loss"])
    assert list(accuracy.lines[0].get_ydata()) == list(metrics["accuracy"])
    assert list(accuracy.lines[0].get_xdata()) == list(range(1, epochs + 1))


def test_curves_of_a_loss_that_is_not_finite(make_run, tmp_path):
    metrics = make_run("a", epochs=3).metrics()
    metrics["loss"] = [2.0, np.inf, np.nan]
    figures.curves(metrics, tmp_path / "curves.png", "linear_3")
    assert_figure(tmp_path / "curves.png")


def test_losses_side_by_side_have_an_axis_each_and_accuracies_share_one(make_run, tmp_path, drawn):
    distilled = make_run("a", teachers=["teacher_1"], epochs=5).metrics()
    labels = make_run("b", epochs=9).metrics()
    (tmp_path / "figures").mkdir()
    for quantity in ("loss", "accuracy"):
        path = tmp_path / "figures" / "pair.png"
        figures.side_by_side([("left", distilled), ("right", labels)], quantity, path, "linear_3")
        assert_figure(path, (1000, 400))
    (left, right), (left_accuracy, right_accuracy) = (figure.axes for figure in drawn)
    assert [left.get_title(), right.get_title()] == ["left", "right"]
    assert left.get_ylim()[1] < 0.2 < right.get_ylim()[1]
    assert left_accuracy.get_ylim() == right_accuracy.get_ylim()
    assert list(left.lines[0].get_ydata()) == list(distilled["loss"])
    assert list(right.lines[0].get_ydata()) == list(labels["loss"])


def test_curves_of_test_images_are_labeled_so(make_run, tmp_path, drawn):
    metrics = make_run("a", epochs=3).metrics()
    figures.curves(metrics, tmp_path / "curves.png", "all_cnn_c", has_validation=False)
    figures.side_by_side([("a", metrics)] * 3, "accuracy", tmp_path / "phases.png", "all_cnn_c", False)
    labels = [[line.get_label() for line in axes.lines] for figure in drawn for axes in figure.axes]
    assert labels == [["training", figures.TEST_LABEL]] * 5


def test_accuracies_over_epochs_are_the_mean_and_the_range_of_the_seeds(make_run, tmp_path, drawn):
    seeds = [make_run(f"s{seed}", epochs=5, seed=seed).metrics() for seed in range(3)]
    labels = [make_run("b", epochs=9).metrics()]
    path = tmp_path / "seeds.png"
    figures.over_epochs([("on labels", labels), ("from teacher_1", seeds)], path, "linear_3")
    assert_figure(path, (700, 400))
    (axes,) = drawn[0].axes
    assert [line.get_label() for line in axes.lines] == ["on labels", "from teacher_1"]
    accuracies = np.array([each["val_accuracy"] for each in seeds])
    assert list(axes.lines[0].get_ydata()) == list(labels[0]["val_accuracy"])
    np.testing.assert_allclose(axes.lines[1].get_ydata(), accuracies.mean(axis=0))
    band = axes.collections[1].get_paths()[0].vertices
    assert band[:, 1].min() == accuracies.min()
    assert band[:, 1].max() == accuracies.max()
    assert axes.get_ylabel() == "validation accuracy"


def test_accuracies_by_epochs_are_a_line_per_supervision_with_the_intervals_of_its_rows(tmp_path, drawn):
    labels = {"model": "linear_3", "series": "labels", "phase": None, "n": 1}
    distilled = {"model": "linear_3", "series": "teacher_1, kl", "phase": None, "n": 3}
    table = pd.DataFrame(
        [
            {**distilled, "epochs": 300, "test_accuracy": 0.69, "low": 0.68, "high": 0.71},
            {**distilled, "epochs": 30, "test_accuracy": 0.62, "low": 0.61, "high": 0.63},
            {**labels, "epochs": 30, "test_accuracy": 0.61, "low": 0.6, "high": 0.615},
            {**labels, "epochs": 300, "test_accuracy": 0.66, "low": 0.65, "high": 0.67},
            {**labels, "model": "conv_1", "epochs": 30, "test_accuracy": 0.7, "low": 0.69, "high": 0.71},
        ]
    )
    figures.by_quantity(table, "epochs", "epochs of the training", tmp_path / "epochs.png", "cifar10")
    assert_figure(tmp_path / "epochs.png", (1000, 400))
    linear, conv = drawn[0].axes
    assert [linear.get_title(), conv.get_title()] == ["linear_3", "conv_1"]
    line, _, (bars,) = linear.containers[1]  # labels come first
    assert (list(line.get_xdata()), list(line.get_ydata())) == ([30, 300], [0.62, 0.69])
    np.testing.assert_allclose([each[:, 1] for each in bars.get_segments()], [[0.61, 0.63], [0.68, 0.71]])
    assert list(conv.containers[0][0].get_ydata()) == [0.7]
    assert [each.get_text() for each in drawn[0].legends[0].texts] == ["on labels", "from teacher_1, kl"]
    assert [each.get_text() for each in linear.get_xticklabels()] == ["30", "300"]


def test_bars_of_many_experiments_differ_in_color_or_hatch(make_run, tmp_path, drawn):
    runs = [make_run(f"r{epochs}", epochs=epochs) for epochs in range(1, 13)]
    figures.bars(tables.rows(run.folder for run in runs), tmp_path / "bars.png")
    bars = drawn[0].axes[0].patches[:12]
    assert len({(bar.get_facecolor(), bar.get_hatch()) for bar in bars}) == 12


def test_bars_print_each_accuracy_in_the_papers_order(make_run, tmp_path, drawn):
    frame = tables.rows(
        run.folder
        for run in (
            make_run("t", "teacher_1", 0.9),
            make_run("d", "linear_3", 0.581, teachers=["teacher_1"]),
            make_run("b", "linear_3", 0.551),
            make_run("c", "conv_1", 0.743),
        )
    )
    figures.bars(frame, tmp_path / "bars.png", "cifar10")
    assert_figure(tmp_path / "bars.png")
    (axes,) = drawn[0].axes
    assert texts(axes) == ["55.1", "58.1", "74.3", "90.0"]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == [
        "linear_3",
        "conv_1",
        "teacher_1\n(teacher)",
    ]
    assert [text.get_text() for text in drawn[0].legends[0].texts] == ["on labels", "from teacher_1"]
    heights = sorted(bar.get_height() for bar in axes.patches if bar.get_height() > 0)
    assert heights == pytest.approx([0.551, 0.581, 0.743, 0.9])
    intervals = [list(lines.get_segments()[0][:, 1]) for lines in axes.collections]
    first = frame[frame["run"] == "b"].iloc[0]
    assert intervals[0] == pytest.approx([first["low"], first["high"]])
    assert "95% interval" in axes.get_title()


def test_one_bar_is_enough(make_run, tmp_path, drawn):
    figures.bars(tables.rows([make_run("a").folder]), tmp_path / "bars.png", "cifar10")
    assert_figure(tmp_path / "bars.png")
    assert texts(drawn[0].axes[0]) == ["55.0"]
    assert drawn[0].get_suptitle() == "cifar10"


def test_bars_of_several_seeds_say_that_they_are_means(make_run, tmp_path, drawn):
    frame = tables.rows(make_run(f"s{i}", accuracy=0.5 + i / 10, seed=i).folder for i in (0, 1))
    figures.bars(frame, tmp_path / "bars.png")
    assert texts(drawn[0].axes[0]) == ["55.0"]
    assert "standard deviation" in drawn[0].axes[0].get_title()


def test_bars_mark_published_accuracies(make_run, tmp_path, drawn):
    frame = tables.rows(
        run.folder
        for run in (make_run("d", "linear_3", 0.6, teachers=["teacher_1"]), make_run("b", "conv_1"))
    )
    figures.bars(frame, tmp_path / "bars.png", published={("linear_3", "teacher_1"): 0.99})
    (axes,) = drawn[0].axes
    lines = [segment for each in axes.collections for segment in each.get_segments()]
    flat = [segment for segment in lines if segment[0][1] == segment[1][1]]
    assert [segment[0][1] for segment in flat] == [0.99]
    assert axes.get_ylim()[1] > 0.99
    assert "published" in [text.get_text() for text in drawn[0].legends[0].texts]


def test_confusion_is_percent_of_the_true_class(tmp_path, drawn):
    counts = pd.DataFrame([[3, 1, 0], [0, 8, 2], [0, 0, 0]], list("abc"), list("abc"))
    figures.confusion(counts, tmp_path / "confusion.png", "which")
    assert_figure(tmp_path / "confusion.png")
    axes = drawn[0].axes[0]
    assert texts(axes) == ["75", "25", "0", "0", "80", "20"]  # of class c, no image was there
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted class", "true class")


@pytest.mark.parametrize(("classes", "numbers"), [(10, 100), (20, 400), (21, 0)])
def test_confusion_of_many_classes_has_no_numbers(tmp_path, drawn, classes, numbers):
    names = [f"class {i}" for i in range(classes)]
    counts = pd.DataFrame(np.eye(classes, dtype=int) + 1, names, names)
    figures.confusion(counts, tmp_path / "confusion.png", "which")
    assert_figure(tmp_path / "confusion.png")
    assert len(texts(drawn[0].axes[0])) == numbers


def test_a_figure_that_cannot_be_written_raises(make_run, tmp_path):
    with pytest.raises(KappError, match="cannot write"):
        figures.curves(make_run("a").metrics(), tmp_path / "absent" / "curves.png", "linear_3")


def test_reporting_imports_neither_keras_nor_pyplot():
    command = (
        "import sys; from kapp.reporting import run_report, summary, evaluation_report; "
        "print({'keras', 'tensorflow', 'scipy', 'matplotlib.pyplot'} & set(sys.modules))"
    )
    loaded = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "set()"
