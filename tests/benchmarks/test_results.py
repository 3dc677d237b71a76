from benchmarks import results
from benchmarks.duel import Taken, Turn

SIDE = Taken("a command, with a comma", Turn(9.5, 1.25, 64, 1000), [Turn(0.5, 0.75, 64, 2000)] * 2)


def test_what_is_written_is_read(tmp_path):
    results.replace_row(
        tmp_path / "new" / "rows.csv", "one", results.lines("one", "ours", SIDE, 32), load=1.5
    )
    lines = results.read(tmp_path / "new" / "rows.csv")
    assert results.sides(lines) == [("ours", "32", SIDE)]
    assert {line.load for line in lines} == {1.5}
    assert "keras" in lines[0].versions
    assert lines[0].date


def test_a_row_measured_again_replaces_the_earlier_one_alone(tmp_path):
    path = tmp_path / "rows.csv"
    for name, load in (("one", 1.0), ("two", 2.0), ("one", 3.0)):
        results.replace_row(path, name, results.lines(name, "ours", SIDE), load)
    assert [(line.row, line.turn, line.load) for line in results.read(path)] == [
        ("two", 0, 2.0),
        ("two", 1, 2.0),
        ("two", 2, 2.0),
        ("one", 0, 3.0),
        ("one", 1, 3.0),
        ("one", 2, 3.0),
    ]


def test_no_file_is_no_line(tmp_path):
    assert results.read(tmp_path / "rows.csv") == []
