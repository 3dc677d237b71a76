"""The rows, figures and the order of value as data."""

from collections import Counter

from kapp.papers import hu, order, ratusznik

NAMES = [row.name for row in (*ratusznik.ROWS, *hu.ROWS)]


def test_every_row_has_a_name_of_its_own():
    assert len(set(NAMES)) == 18 + 14
    assert not any(first != second and first in second for first in NAMES for second in NAMES)


def test_the_tables_have_the_rows_that_the_papers_print():
    counts = {f"ratusznik:{table}": len(ratusznik.rows(table)) for table in ratusznik.TABLES}
    assert counts == {"ratusznik:3": 10, "ratusznik:4": 10, "ratusznik:5": 2, "ratusznik:6": 1}
    assert {table: len(hu.rows(table)) for table in hu.TABLES} == {"3": 8, "4": 6}
    third, fourth = ({row.name: row.accuracy for row in ratusznik.rows(table)} for table in "34")
    assert third["linear_4 from teacher_1"] == 0.5839
    assert fourth["linear_4 from deep_resnet"] == 0.5922
    assert third["shallow_resnet on labels"] == fourth["shallow_resnet on labels"] == 0.8872


def test_figures_draw_rows_of_the_tables():
    assert [figure.number for figure in ratusznik.FIGURES] == ["1", "2", "3"]
    assert [figure.number for figure in hu.FIGURES] == ["1", "2", "3", "4", "5"]
    for figure in (*ratusznik.FIGURES, *hu.FIGURES):
        assert set(figure.rows) <= set(NAMES)
    assert len(ratusznik.FIGURES[0].rows) == 15  # five students, on labels and from two teachers


def test_every_row_has_a_place_in_the_order():
    ordered = [name for group in order.GROUPS for name in group.rows]
    assert Counter(ordered) == Counter(NAMES)


def test_a_row_comes_after_the_rows_that_it_needs():
    pairs = order.by_value(NAMES, 3)
    assert len(pairs) == len(set(pairs)) == 3 * len(NAMES)
    place = {pair: i for i, pair in enumerate(pairs)}
    for row in ratusznik.ROWS:
        if row.teacher:
            assert place[row.name, 0] > place[f"{row.teacher} on labels", 0]
            assert place[row.name, 0] > place[f"{row.model} on labels", 0]
    # The first row of every question before the second seed of an expensive one.
    assert place["all_cnn_c fine-tuning, class2", 2] < place["deep_resnet on labels", 1]
    assert place["conv_2 on labels", 1] < place["teacher_1 on labels", 2]
