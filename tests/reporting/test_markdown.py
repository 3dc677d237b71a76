"""Each block as GitHub's Markdown."""

import pytest

from kapp.reporting.markdown import BulletList, Code, Figure, Heading, Paragraph, Table, to_markdown


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        (Heading("Scores", 1), "# Scores\n"),
        (Heading("Scores"), "## Scores\n"),
        (Paragraph("See [rows](rows.csv)."), "See [rows](rows.csv).\n"),
        (Figure("figures/a.png", "a curve"), "![a curve](figures/a.png)\n"),
        (BulletList(["one", "two"]), "- one\n- two\n"),
        (Code("kapp train", "bash"), "```bash\nkapp train\n```\n"),
    ],
)
def test_a_block_is_written_as_markdown(block, expected):
    assert to_markdown([block]) == expected


def test_a_table_is_padded_and_its_integers_are_aligned_to_the_right():
    rows = [{"model": "conv_1", "n": 3, "score": "55%"}, {"model": "a|b\nc", "n": 1000, "score": "7%"}]
    assert to_markdown([Table(rows)]).splitlines() == [
        "| model  |    n | score |",
        "| ------ | ---: | ----- |",
        "| conv_1 |    3 | 55%   |",
        "| a\\|b c | 1000 | 7%    |",
    ]


def test_blocks_are_separated_by_blank_lines_and_empty_ones_left_out():
    assert to_markdown([Heading("A"), Table([]), BulletList([]), Paragraph("b")]) == "## A\n\nb\n"
