"""Each figure leaves one real picture, for ordinary runs and at the edges."""

import subprocess
import sys

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from kapp.errors import Failure
from kapp.reporting import figures, tables


@pytest.fixture
def drawn(monkeypatch):
    """The figures saved, to look into."""
    kept: list[Figure] = []
    save = Figure.savefig

    def keep(self, *args, **kwargs):
        kept.append(self)
        save(self, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", keep)
    return kept


def assert_picture(path, least=(400, 400)):
    """A PNG of at least this width and height that isn't blank, and nothing else beside it."""
    pixels = matplotlib.image.imread(path)
    assert pixels.shape[1] >= least[0]
    assert pixels.shape[0] >= least[1]
    assert pixels[..., :3].std() > 0.02
    assert [file.name for file in path.parent.glob("*.png")] == [path.name]
    assert not list(path.parent.glob(".*"))


def texts(axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


@pytest.mark.parametrize("epochs", [1, 2, 60])
def test_curves_show_training_and_validation(make_run, tmp_path, drawn, epochs):
    metrics = make_run("a", epochs=epochs).metrics()
    figures.curves(metrics, tmp_path / "curves.png", "linear_3")
    assert_picture(tmp_path / "curves.png", (1000, 400))
    loss, accuracy = drawn[0].axes
    assert [line.get_label() for line in loss.lines] == ["training", "validation"]
    assert list(loss.lines[1].get_ydata()) == list(metrics["val_loss"])
    assert list(accuracy.lines[0].get_ydata()) == list(metrics["accuracy"])
    assert list(accuracy.lines[0].get_xdata()) == list(range(1, epochs + 1))


def test_curves_bear_a_loss_that_went_astray(make_run, tmp_path):
    metrics = make_run("a", epochs=3).metrics()
    metrics["loss"] = [2.0, np.inf, np.nan]
    figures.curves(metrics, tmp_path / "curves.png", "linear_3")
    assert_picture(tmp_path / "curves.png")


def test_paired_losses_have_their_own_axes_and_accuracies_share_one(make_run, tmp_path, drawn):
    distilled = make_run("a", teachers=["teacher_1"], epochs=5).metrics()
    labels = make_run("b", epochs=9).metrics()
    (tmp_path / "figures").mkdir()
    for quantity in ("loss", "accuracy"):
        path = tmp_path / "figures" / "pair.png"
        figures.paired_curves(distilled, labels, quantity, path, ("left", "right"), "linear_3")
        assert_picture(path, (1000, 400))
    (left, right), (left_share, right_share) = (figure.axes for figure in drawn)
    assert [left.get_title(), right.get_title()] == ["left", "right"]
    assert left.get_ylim()[1] < 0.2 < right.get_ylim()[1]
    assert left_share.get_ylim() == right_share.get_ylim()
    assert list(left.lines[0].get_ydata()) == list(distilled["loss"])
    assert list(right.lines[0].get_ydata()) == list(labels["loss"])


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
    assert_picture(tmp_path / "bars.png")
    (axes,) = drawn[0].axes
    assert texts(axes) == ["55.1", "58.1", "74.3", "90.0"]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == [
        "linear_3",
        "conv_1",
        "teacher_1\n(teacher)",
    ]
    assert [text.get_text() for text in drawn[0].legends[0].texts] == ["no teacher", "from teacher_1"]
    heights = sorted(bar.get_height() for bar in axes.patches if bar.get_height() > 0)
    assert heights == pytest.approx([0.551, 0.581, 0.743, 0.9])
    intervals = [list(lines.get_segments()[0][:, 1]) for lines in axes.collections]
    first = frame[frame["run"] == "b"].iloc[0]
    assert intervals[0] == pytest.approx([first["low"], first["high"]])
    assert "95% interval" in axes.get_title()


def test_one_bar_is_enough_and_its_interval_may_be_missing(make_run, tmp_path, drawn):
    frame = tables.rows([make_run("a", test_interval=None).folder])
    figures.bars(frame, tmp_path / "bars.png")
    assert_picture(tmp_path / "bars.png")
    assert texts(drawn[0].axes[0]) == ["55.0"]


def test_bars_of_several_seeds_say_that_they_are_means(make_run, tmp_path, drawn):
    frame = tables.rows(make_run(f"s{i}", accuracy=0.5 + i / 10, seed=i).folder for i in (0, 1))
    figures.bars(frame, tmp_path / "bars.png")
    assert texts(drawn[0].axes[0]) == ["55.0"]
    assert "standard deviation" in drawn[0].axes[0].get_title()


def test_confusion_is_percent_of_the_true_class(tmp_path, drawn):
    counts = pd.DataFrame([[3, 1, 0], [0, 8, 2], [0, 0, 0]], list("abc"), list("abc"))
    figures.confusion(counts, tmp_path / "confusion.png", "which")
    assert_picture(tmp_path / "confusion.png")
    axes = drawn[0].axes[0]
    assert texts(axes) == ["75", "25", "0", "0", "80", "20"]  # of class c, no image was there
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted class", "true class")


@pytest.mark.parametrize(("classes", "numbers"), [(10, 100), (20, 400), (21, 0)])
def test_confusion_of_many_classes_has_no_numbers(tmp_path, drawn, classes, numbers):
    names = [f"class {i}" for i in range(classes)]
    counts = pd.DataFrame(np.eye(classes, dtype=int) + 1, names, names)
    figures.confusion(counts, tmp_path / "confusion.png", "which")
    assert_picture(tmp_path / "confusion.png")
    assert len(texts(drawn[0].axes[0])) == numbers


def test_a_figure_that_cannot_be_written_is_a_failure(make_run, tmp_path):
    with pytest.raises(Failure, match="cannot write"):
        figures.curves(make_run("a").metrics(), tmp_path / "absent" / "curves.png", "linear_3")


def test_reporting_needs_neither_keras_nor_pyplots_global_state():
    command = (
        "import sys; from kapp.reporting import pages, summary; "
        "print({'keras', 'tensorflow', 'matplotlib.pyplot'} & set(sys.modules))"
    )
    loaded = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "set()"
