import csv

from benchmarks import results
from benchmarks.results import Contender, Repetition

CONTENDER = Contender("kapp", "a command, with a comma", "32")
COSTS = {CONTENDER: [Repetition(9.5, 1.25, 64, 1000), *[Repetition(0.1 + 0.2, 0.75, 64, 2000)] * 2]}
CONDITIONS = ["2026-11-24", "c0ffee", "a CPU", "keras 3, numpy 2", "1.50"]


def read(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_each_repetition_is_a_row(tmp_path):
    path = tmp_path / "new" / "rows.csv"
    results.replace(path, "one", COSTS, CONDITIONS)
    rows = read(path)
    assert [row["repetition"] for row in rows] == ["0", "1", "2"]
    assert {(row["benchmark"], row["group"], row["command"], row["x"]) for row in rows} == {
        ("one", *CONTENDER)
    }
    assert float(rows[2]["seconds"]) == 0.1 + 0.2  # to the last digit
    assert [row["peak_bytes"] for row in rows] == ["1000", "2000", "2000"]
    assert list(rows[0].values())[-5:] == CONDITIONS


def test_new_rows_replace_those_of_the_same_benchmark(tmp_path):
    path = tmp_path / "rows.csv"
    for name, load in (("one", "1.00"), ("two", "2.00"), ("one", "3.00")):
        results.replace(path, name, COSTS, [*CONDITIONS[:-1], load])
    rows = [(row["benchmark"], row["repetition"], row["load_average"]) for row in read(path)]
    assert rows == [(name, n, load) for name, load in (("two", "2.00"), ("one", "3.00")) for n in "012"]


def test_conditions_name_the_date_and_the_versions():
    date, _, cpu, versions, load = results.conditions()
    assert len(date) == 10
    assert "cores" in cpu
    assert "keras 3" in versions
    assert float(load) >= 0
