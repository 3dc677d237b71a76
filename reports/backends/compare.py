"""Compares the backends seed by seed: prints the tables of README.md and draws its figure.

    python reports/backends/compare.py runs/*    # collects rows.csv from run folders first
    python reports/backends/compare.py
"""

import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import t

from kapp.metrics import significance
from kapp.reporting import figures
from kapp.reporting.markdown import Table, to_markdown
from kapp.run_folder import Run

HERE = Path(__file__).parent
BACKENDS = ("tensorflow", "jax", "torch")
COLORS = dict(zip(BACKENDS, (figures.BLUE, figures.ORANGE, "#009E73")))
SHORT = {"d0.2-16c-mp-32c-mp-d0.5-64fc-10fc": "with dropout"}
LOSSES = {"loss": "training loss", "val_loss": "validation loss"}


def collect(folders: list[str]) -> pd.DataFrame:
    """One row per run: its circumstances, its accuracies and the losses of each epoch."""
    rows = []
    for run in map(Run, folders):
        result = run.result
        row = {
            name: getattr(result, name)
            for name in "model backend seed precision device commit val_accuracy test_accuracy".split()
        }
        for epoch, metrics in enumerate(run.metrics_rows(), start=1):
            row |= {f"{loss}_{epoch}": metrics[loss] for loss in LOSSES}
        rows += [row]
    return pd.DataFrame(rows).sort_values(["model", "backend", "seed"])


def paired_tests(rows: pd.DataFrame, epochs: int) -> list[dict[str, str | int]]:
    """The paired t-test of each pair of backends on the losses of the last epoch, corrected by Holm's method
    over all tests."""
    tests = []
    for model, runs in rows.groupby("model", sort=False):
        for loss, name in LOSSES.items():
            table = runs.pivot(index="seed", columns="backend", values=f"{loss}_{epochs}")
            for one, other in combinations(BACKENDS, 2):
                found = significance.compare_seeds(table[one], table[other])
                half = (found.interval[1] - found.interval[0]) / 2
                tests += [(found.p_value, model, name, one, other, found, half, table[other].mean())]
    adjusted = significance.holm([test[0] for test in tests])
    return [
        {
            "network": model,
            "last epoch": name,
            "difference": f"{one} - {other}",
            "seeds": found.seeds,
            "mean": f"{found.difference:+.4f}",
            "standard error": f"{half / t.ppf(0.975, found.seeds - 1):.4f}",
            "of the loss": f"{found.difference / level:+.1%}",
            "p": f"{p:.2f}",
            "p, Holm": f"{corrected:.2f}",
        }
        for (p, model, name, one, other, found, half, level), corrected in zip(tests, adjusted)
    ]


def losses_by_epoch(rows: pd.DataFrame, epochs: int) -> list[dict[str, str]]:
    """Mean and standard deviation over the seeds, and the mean absolute difference of a seed's backends."""
    lines = []
    for model, runs in rows.groupby("model", sort=False):
        for epoch in range(1, epochs + 1):
            column = runs.groupby("backend")[f"loss_{epoch}"]
            means = {name: f"{column.mean()[name]:.4f} ± {column.std()[name]:.4f}" for name in BACKENDS}
            spread = runs.groupby("seed")[f"loss_{epoch}"].agg(lambda each: each.max() - each.min())
            words = {"range within a seed, mean": f"{spread.mean():.4f}"}
            lines += [{"network": model, "epoch": epoch, **means, **words}]
    return lines


def accuracies(rows: pd.DataFrame) -> list[dict[str, str]]:
    lines = []
    for (model, backend), runs in rows.groupby(["model", "backend"], sort=False):
        percent = 100 * runs["test_accuracy"]
        accuracy = f"{percent.mean():.1f}% ± {percent.std():.1f}"
        lines += [
            {"network": model, "backend": backend, "n": len(runs), "test accuracy": accuracy,
             "least": f"{percent.min():.1f}%", "greatest": f"{percent.max():.1f}%"}
        ]
    return lines


def draw(rows: pd.DataFrame, epochs: int) -> None:
    """A row of panels per network: both losses by epoch, a line per seed; differences from TensorFlow."""
    models = rows["model"].drop_duplicates().tolist()
    figure = figures.wide_figure(12)
    figure.set_figheight(3.6 * len(models))
    panels = figure.subplots(len(models), 3, squeeze=False)
    x = np.arange(1, epochs + 1)
    for line, model in zip(panels, models):
        runs = rows[rows["model"] == model].set_index(["backend", "seed"])
        values = {loss: runs[[f"{loss}_{epoch}" for epoch in x]] for loss in LOSSES}
        for axes, (loss, name) in zip(line, LOSSES.items()):
            for backend in BACKENDS:
                style = {"color": COLORS[backend], "alpha": 0.4, "linewidth": 1}
                lines = axes.plot(x, values[loss].loc[backend].T, **style)
                lines[0].set_label(backend)
            axes.set(title=f"{SHORT.get(model, model)}: {name}", xlabel="epoch")
            axes.set_ylim(top=3.0)
        reference = values["loss"].loc["tensorflow"]
        for shift, backend in ((-0.06, "jax"), (0.06, "torch")):
            difference = values["loss"].loc[backend] - reference
            error = difference.sem() * t.ppf(0.975, len(difference) - 1)
            line[2].errorbar(
                x + shift, difference.mean(), error, color=COLORS[backend], marker="o", ms=4, capsize=3,
                label=f"{backend} - tensorflow",
            )
        line[2].axhline(0, color="black", linewidth=0.8)
        line[2].set(title=f"{SHORT.get(model, model)}: mean difference", xlabel="epoch")
        for axes in line:
            axes.set_xticks(x)
            figures.simplify(axes)
            axes.legend(frameon=False)
    figures.save(figure, HERE / "figures" / "losses.png")


def main(folders: list[str]) -> None:
    file = HERE / "rows.csv"
    if folders:
        collect(folders).to_csv(file, index=False)
    rows = pd.read_csv(file)
    epochs = sum(column.startswith("val_loss_") for column in rows)
    for lines in (paired_tests(rows, epochs), losses_by_epoch(rows, epochs), accuracies(rows)):
        print(to_markdown([Table(lines)]))
    (HERE / "figures").mkdir(exist_ok=True)
    draw(rows, epochs)


if __name__ == "__main__":
    main(sys.argv[1:])
