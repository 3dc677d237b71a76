"""The committed results."""

import runpy
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_results_of_the_readme_are_those_of_the_reports():
    """If this fails: python reports/readme_table.py"""
    script = runpy.run_path(str(ROOT / "reports" / "readme_table.py"))
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = text.partition(script["BEGIN"])[2].partition(script["END"])[0].strip()
    assert shown == script["table"]()
    assert len(shown.splitlines()) > 10
