import sys

from kapp.progress import ProgressLine


def test_on_a_terminal_the_line_has_the_remaining_time(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    show_progress = ProgressLine("teachers", 40_000, "logits")
    show_progress._started -= 10
    show_progress._printed -= 10
    show_progress(10_000)
    assert "teachers  10,000 of 40,000 logits, 30 s left" in capsys.readouterr().err
    show_progress(40_000)
    assert capsys.readouterr().err == "\r\033[K"  # the line disappears


def test_in_a_log_file_there_are_two_lines_per_minute(capsys):
    show_progress = ProgressLine("flowers", 100, "image files")
    show_progress(1)
    assert capsys.readouterr().err == ""
    show_progress._printed -= 31
    show_progress._started -= 31
    show_progress(50)
    assert capsys.readouterr().err == "flowers  50 of 100 image files, 31 s left\n"
