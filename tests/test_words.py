import sys

from kapp.words import Countdown


def test_a_count_is_told_on_a_terminal_with_the_time_left(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    say = Countdown("teachers", 40_000, "answers")
    say._start -= 10
    say._said -= 10
    say(10_000)
    assert "teachers  10,000 of 40,000 answers, 30 s left" in capsys.readouterr().err
    say(40_000)
    assert capsys.readouterr().err == "\r\033[K"  # the line is gone


def test_elsewhere_a_line_twice_a_minute(capsys):
    say = Countdown("pictures", 100, "pictures")
    say(1)
    assert capsys.readouterr().err == ""
    say._said -= 31
    say._start -= 31
    say(50)
    assert capsys.readouterr().err == "pictures  50 of 100 pictures, 31 s left\n"
