"""The report of kapp reproduce, from runs of which every number is known."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from kapp.papers import hu, ratusznik
from kapp.papers.figure import PublishedFigure
from kapp.reporting import reproduction_report
from kapp.reporting.reproduction_report import ReproducedFigure, ReproducedRow, ReproducedTable, format_hours
from kapp.run_folder import Run
from tests.reporting.helpers import add_predictions, assert_links_exist, cells, fabricate

LABELS, DISTILLED = (0.55, 0.56, 0.575), (0.59, 0.591, 0.604)


def row(name: str, runs=(), **changes) -> ReproducedRow:
    return replace(
        ReproducedRow(
            name=name,
            published=0.5512,
            published_epochs=75,
            reported_parameters="10M",
            compared_with=None,
            seeds=3,
            runs=tuple(runs),
            elsewhere=frozenset(),
            hours=None,
            command=f"kapp reproduce --rows '{name}'",
            errors=(),
        ),
        **changes,
    )


@pytest.fixture
def rows(tmp_path) -> dict[str, ReproducedRow]:
    """Three seeds on labels, three distilled, a row that wasn't run, one that failed."""
    labels = [fabricate(tmp_path / f"labels-{i}", accuracy=a, seed=i) for i, a in enumerate(LABELS)]
    distilled = [
        fabricate(tmp_path / f"distilled-{i}", accuracy=a, seed=i, teachers=["teacher_1"], epochs=60)
        for i, a in enumerate(DISTILLED)
    ]
    named = [
        row("linear_3 on labels", labels),
        row("linear_3 from teacher_1", distilled, published=0.5809, compared_with="linear_3 on labels"),
        row("conv_1 on labels", hours=7.52),
        row("conv_2 on labels", hours=0.5, errors=("the loss is NaN",)),
    ]
    return {each.name: each for each in named}


def write(out: Path, rows: list[ReproducedRow], figures=(), needed=()) -> str:
    table = ReproducedTable("Ratusznik et al., table 3", rows)
    reproduction_report.write(out, "Tables", "A note.", ["epochs: fewer"], [table], figures, needed)
    return (out / "README.md").read_text()


def comparisons(text: str) -> list[dict[str, str]]:
    """The rows of the first table of comparisons."""
    return cells("| comparison" + text.split("| comparison", 1)[1])


def test_published_and_measured_accuracies(tmp_path, rows):
    text = write(tmp_path / "report", list(rows.values()))
    lines = {line["row"]: line for line in cells(text)}
    mean, deviation = np.mean(LABELS), np.std(LABELS, ddof=1)
    low, high = stats.t.interval(0.95, 2, mean, deviation / np.sqrt(3))
    first = lines["linear_3 on labels"]
    assert first["published"] == "55.12%"
    assert first["ours"] == f"{100 * mean:.1f}% ± {100 * deviation:.1f} ({100 * low:.1f} to {100 * high:.1f})"
    assert first["difference"] == f"{100 * (mean - 0.5512):+.1f} points"
    assert (first["n"], first["epochs"], first["published epochs"]) == ("3", "40", "75")
    assert (first["parameters, counted"], first["reported"]) == ("10.5M", "10M")
    assert lines["conv_1 on labels"]["ours"] == "not run (7.5 h here)"
    assert lines["conv_1 on labels"]["n"] == "0 of 3"
    assert lines["conv_2 on labels"]["ours"] == "failed"
    assert "Of 4 published accuracies, 2 are compared with 6 runs, 2 of them with all their seeds." in text
    assert "- epochs: fewer" in text
    assert "- conv_1 on labels (7.5 h here): `kapp reproduce --rows 'conv_1 on labels'`" in text
    assert "- conv_2 on labels (30 min here): failed: the loss is NaN. `kapp reproduce" in text
    assert_links_exist(text, tmp_path / "report")


def test_distilled_and_labels_are_compared_over_the_seeds(tmp_path, rows):
    text = write(tmp_path / "report", list(rows.values()))
    (line,) = comparisons(text)
    differences = np.subtract(DISTILLED, LABELS)
    test = stats.ttest_1samp(differences, 0)
    low, high = test.confidence_interval()
    assert line["comparison"] == "linear_3 from teacher_1 compared with on labels"
    assert line["published"] == "+3.0 points"
    assert line["ours (paired 95% interval)"] == (
        f"{100 * differences.mean():+.1f} points ({100 * low:+.1f} to {100 * high:+.1f})"
    )
    assert (line["seeds"], line["p"]) == ("3", f"{test.pvalue:.2g}")


def test_one_common_seed_is_compared_image_by_image(tmp_path, rows):
    labels, distilled = rows["linear_3 on labels"], rows["linear_3 from teacher_1"]
    for run in (labels.runs[0], distilled.runs[0]):
        add_predictions(run)
    one = [replace(labels, runs=labels.runs[:1], seeds=1), replace(distilled, runs=distilled.runs[:1])]
    text = write(tmp_path / "report", one)
    first, second = (run.predictions() for run in (labels.runs[0], distilled.runs[0]))
    only = [np.sum((a.test_classes == a.test_labels) & (b.test_classes != b.test_labels)) for a, b in
            ((first, second), (second, first))]  # fmt: skip
    expected = stats.binomtest(int(only[0]), int(sum(only))).pvalue
    assert comparisons(text)[0]["p"] == f"{expected:.2g}"
    low, high = labels.runs[0].result.test_interval
    assert cells(text)[0]["ours"] == f"55.0% ({100 * low:.1f} to {100 * high:.1f})"


def test_a_needed_run_may_have_the_name_of_a_merged_one(tmp_path, rows):
    merged = fabricate(tmp_path / "gpu" / "teacher", "teacher_1", 0.9)
    own = fabricate(tmp_path / "runs" / "teacher", "teacher_1", 0.8)
    teacher = row("teacher_1 on labels", [merged], elsewhere=frozenset(["teacher"]), seeds=1)
    write(tmp_path / "report", [rows["linear_3 from teacher_1"], teacher], needed=[own])
    assert Run(tmp_path / "report" / "runs" / "teacher").result.test_accuracy == 0.9


def test_a_row_from_elsewhere_says_so(tmp_path, rows):
    gpu = fabricate(tmp_path / "gpu", accuracy=0.6, seed=1, device="NVIDIA H100", backend="jax")
    labels = rows["linear_3 on labels"]
    mixed = replace(labels, runs=(labels.runs[0], gpu), elsewhere=frozenset(["gpu"]))
    text = write(tmp_path / "report", [mixed])
    assert cells(text)[0]["device"] == ("CPU (tensorflow, float32), NVIDIA H100 (jax, float32, merged)")
    assert "- [gpu](runs/gpu)" in text
    assert "device" not in cells(write(tmp_path / "other", [labels]))[0]  # only one


def test_a_narrower_network_says_its_width(tmp_path):
    run = fabricate(tmp_path / "narrow", width=0.5, parameters=2_800_000)
    text = write(tmp_path / "report", [row("deep_resnet on labels", [run])])
    assert cells(text)[0]["parameters, counted"] == "2.8M at width 0.5"


def test_what_the_rows_need_is_listed(tmp_path, rows):
    teacher = fabricate(tmp_path / "teacher", "teacher_1", 0.9)
    distilled = rows["linear_3 from teacher_1"]
    text = write(tmp_path / "report", [distilled], needed=[teacher, *distilled.runs])
    (line,) = cells(text.split("## Needed by these rows")[1].split("##")[0])
    assert line["network"] == "teacher_1"
    assert line["test accuracy"].startswith("90.0% (89.4 to")
    assert (tmp_path / "report" / "runs" / "teacher" / "result.json").is_file()


def test_the_figures_of_the_papers(tmp_path, rows):
    drawn = [
        ReproducedFigure("ratusznik", "Ratusznik et al.", figure, [rows[n] for n in figure.rows if n in rows])
        for figure in ratusznik.FIGURES
    ]
    probe = fabricate(tmp_path / "probe", "all_cnn_c", 0.5, phase="linear_probe", source="cifar10")
    one = [row("all_cnn_c linear probe, class1", [probe])]
    drawn += [ReproducedFigure("hu", "Hu 2018", hu.FIGURES[0], one)]
    drawn += [ReproducedFigure("hu", "Hu 2018", hu.FIGURES[1], [])]
    out = tmp_path / "report"
    text = write(out, list(rows.values()), drawn)
    assert sorted(path.name for path in (out / "figures").iterdir()) == [
        "hu-figure-1.png",
        "ratusznik-figure-1.png",
        "ratusznik-figure-2.png",
        "ratusznik-figure-3.png",
    ]
    assert "Hu 2018, figure 1: ALL CNN C step1 class1 accuracy on testing dataset." in text
    assert "figure 2: ALL CNN C step2" not in text  # it has no run
    assert_links_exist(text, out, least=4)


def test_the_panels_of_a_figure_are_those_of_the_paper(tmp_path, rows, monkeypatch):
    panels = []
    monkeypatch.setattr(
        reproduction_report.figures,
        "side_by_side",
        lambda parts, quantity, path, title, selects: panels.extend(
            [(name, quantity, len(metrics)) for name, metrics in parts]
        ),
    )
    figure: PublishedFigure = ratusznik.FIGURES[1]
    drawn = ReproducedFigure("ratusznik", "Ratusznik et al.", figure, [rows[name] for name in figure.rows])
    write(tmp_path / "report", list(rows.values()), [drawn])
    assert panels == [("linear_3 from teacher_1", "loss", 60), ("linear_3 on labels", "loss", 40)]


def test_nothing_was_run_yet(tmp_path):
    text = write(tmp_path / "report", [row("conv_1 on labels")])
    assert "Of 1 published accuracies, 0 are compared with 0 runs" in text
    assert cells(text)[0]["ours"] == "not run"


@pytest.mark.parametrize(
    ("hours", "words"),
    [(7.52, "7.5 h"), (0.21, "13 min"), (120.4, "120 h"), (1234.0, "1,234 h"), (0.001, "< 1 min")],
)
def test_hours_in_words(hours, words):
    assert format_hours(hours) == words
