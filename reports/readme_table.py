"""Writes the table of results in the top README from the rows of the reports: python reports/readme_table.py

`readme_table.txt` has a line for each of its rows: the question, the network and its
training, the report, and a pattern for the names of its runs, one per seed.
"""

from fnmatch import fnmatchcase
from pathlib import Path
from statistics import mean, stdev

import pandas as pd

from kapp.fileio import write_text
from kapp.reporting.tables import interval, percent

HERE = Path(__file__).parent
README = HERE.parent / "README.md"
BEGIN, END = "<!-- results, by python reports/readme_table.py -->", "<!-- end of the results -->"


def table() -> str:
    """The table, in Markdown. Accuracies are of the test images: the mean and the standard deviation over n
    seeds, or with one seed Wilson's interval."""
    lines = ["| question | network and training | test accuracy | n | report |", "|---|---|---|---|---|"]
    linked = ""
    for line in (HERE / "readme_table.txt").read_text(encoding="utf-8").splitlines()[1:]:
        question, training, report, pattern = (word.strip() for word in line.split("|"))
        rows = pd.read_csv(HERE / report / "rows.csv")
        rows = rows[[fnmatchcase(name, pattern) for name in rows["run"]]]
        if rows.empty or rows["seed"].duplicated().any():
            raise SystemExit(f"{pattern!r} must match one run per seed of {report}: it matches {len(rows)}.")
        link = "" if report == linked else f"[{report}](reports/{report}/README.md)"
        linked = report
        cells = [question, training, _accuracy(rows), str(len(rows)), link]
        lines += ["| " + " | ".join(cells) + " |"]
    return "\n".join(lines)


def _accuracy(rows: pd.DataFrame) -> str:
    accuracies = list(rows["test_accuracy"])
    if len(accuracies) > 1:
        return f"{percent(mean(accuracies))} ± {100 * stdev(accuracies):.1f}"
    (row,) = rows.to_dict("records")
    return interval(row["test_accuracy"], row["low"], row["high"])


def main() -> None:
    before, _, rest = README.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    write_text(README, f"{before}{BEGIN}\n\n{table()}\n\n{END}{after}")


if __name__ == "__main__":
    main()
