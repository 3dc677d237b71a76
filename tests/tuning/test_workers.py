"""How trials are handed out: none is lost, none counted twice, whatever a worker or a stranger does."""

import json
import socket
import threading
import time

import pytest

from kapp.errors import Failure, WrongValue
from kapp.sweeps import Sweep
from kapp.tuning import workers
from kapp.tuning.oracle import Proposal
from kapp.tuning.search import BROKEN_IN_A_ROW, TRIES, Outcome, Search
from kapp.tuning.workers import Server, work


class Countdown:
    """An oracle that proposes so many trials, one after another."""

    def __init__(self, trials: int):
        self.left, self.told = trials, []

    def ask(self):
        self.left -= 1
        return Proposal({"learning_rate": 0.1 + self.left}) if self.left >= 0 else "stop"

    def tell(self, number, score):
        self.told.append((number, score))

    def restore(self, trials):
        return []


@pytest.fixture
def opened(tmp_path):
    """A search of four trials and its server."""
    oracle = Countdown(4)
    sweep = Sweep.start(tmp_path / "sweep", {"recipe": "train"})
    search = Search(sweep, oracle, epochs=1, trials=4, include_default=True)
    server = Server(search, ("127.0.0.1", 0), "digest")
    yield oracle, sweep, search, server
    server.close()


class Speaker:
    """A worker that says what it's told to."""

    def __init__(self, server: Server, name: str, sweep: str = "digest"):
        host, _, port = server.address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), timeout=20)
        self.lines = self.socket.makefile("rb")
        self.welcome = self.say(hello=name, sweep=sweep)

    def send(self, **message) -> None:
        self.socket.sendall(json.dumps(message).encode() + b"\n")

    def hear(self):
        return json.loads(self.lines.readline())

    def say(self, **message):
        self.send(**message)
        return self.hear()

    def ask(self) -> int:
        return self.say(ask=True)["trial"]["number"]

    def tell(self, number: int, score: float = 0.5):
        return self.say(tell=number, outcome={"status": "finished", "score": score})

    def die(self) -> None:
        self.lines.close()
        self.socket.close()


def until(true) -> None:
    end = time.monotonic() + 10
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_workers_share_the_trials(opened):
    oracle, sweep, search, server = opened
    host, _, port = server.address.rpartition(":")
    threads = [
        threading.Thread(
            target=work,
            args=(
                name,
                (host, int(port)),
                "digest",
                lambda trial: Outcome("finished", score=trial.number / 10),
            ),
        )
        for name in ("a", "b")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    assert search.ended
    assert sorted(oracle.told) == [(0, 0.0), (1, 0.1), (2, 0.2), (3, 0.3)]
    assert [trial.default for trial in sweep.trials()] == [True, False, False, False]
    assert sorted(trial.place for trial in sweep.trials()) == [0, 1, 2, 3]


def test_what_a_dead_worker_trained_goes_to_the_next(opened):
    oracle, sweep, _, server = opened
    first, second = Speaker(server, "first"), Speaker(server, "second")
    assert (first.ask(), second.ask()) == (0, 1)
    assert [trial.status for trial in sweep.trials()] == ["running", "running"]
    first.die()
    second.tell(1)
    until(lambda: second.ask() == 0 if not oracle.told[1:] else True)
    second.tell(0)
    assert sorted(oracle.told) == [(0, 0.5), (1, 0.5)]


def test_a_worker_that_is_back_under_its_name_takes_its_trial_up_again(opened):
    oracle, _, _, server = opened
    before = Speaker(server, "gpu")
    assert before.ask() == 0
    again = Speaker(server, "gpu")  # its first connection isn't known to be dead
    assert again.ask() == 0
    with pytest.raises((OSError, ValueError)):
        before.tell(0, 0.9)
    again.tell(0, 0.4)
    again.tell(0, 0.8)
    assert oracle.told == [(0, 0.4)]  # the first answer of who has it counts, once


def test_no_trial_is_lost_to_an_idle_worker_that_died_and_came_back(opened):
    oracle, _, search, server = opened
    oracle.left = 0  # beyond the first, which is waiting
    busy, idle = Speaker(server, "busy"), Speaker(server, "idle")
    assert busy.ask() == 0
    idle.send(ask=True)  # and waits, as there's no other trial
    until(lambda: len(search._changed._waiters) == 1)
    again = Speaker(server, "idle")
    again.send(ask=True)
    until(lambda: len(search._changed._waiters) == 1)  # the first one's wait has ended
    busy.die()
    assert again.hear()["trial"]["number"] == 0
    again.tell(0)
    assert oracle.told == [(0, 0.5)]


def test_another_search_is_refused_and_a_stranger_changes_nothing(opened):
    oracle, sweep, _, server = opened
    assert "another sweep" in Speaker(server, "a", sweep="other").welcome["refused"]
    host, _, port = server.address.rpartition(":")
    with pytest.raises(WrongValue, match="the oracle searches another sweep"):
        work("b", (host, int(port)), "other", lambda trial: Outcome("finished", score=1.0))
    for noise in (b"GET / HTTP/1.1\r\n\r\n", b"[1]\n", b'{"hello": 1}\n', b"\x00" * 100):
        with socket.create_connection((host, int(port)), timeout=20) as stranger:
            stranger.sendall(noise)
            stranger.shutdown(socket.SHUT_WR)
            stranger.recv(100)
    for outcome in ({"status": "finished"}, {"status": "won", "score": 1}):
        speaker = Speaker(server, "c")
        number = speaker.ask()
        with pytest.raises(json.JSONDecodeError):  # it is hung up on
            speaker.say(tell=number, outcome=outcome)
    assert oracle.told == []
    assert {trial.status for trial in sweep.trials()} == {"running"}


def test_a_worker_waits_for_the_oracle_and_not_for_ever(monkeypatch, capsys):
    monkeypatch.setattr(workers, "PATIENCE", 1.0)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and doesn't listen
        at = nobody.getsockname()
        with pytest.raises(Failure, match=f"there is no oracle at {at[0]}:{at[1]} .*Start its command first"):
            work("a", at, "digest", lambda trial: Outcome("finished", score=1.0))
    assert capsys.readouterr().out == f"waiting for the oracle at {at[0]}:{at[1]}\n"


def test_a_trial_that_breaks_is_run_again_and_then_failed(opened):
    oracle, sweep, search, server = opened
    for _ in range(TRIES):
        worker = Speaker(server, "a")
        assert worker.ask() == 0
        worker.say(tell=0, outcome={"status": "broken", "message": "out of memory"})
        worker.die()
    until(lambda: oracle.told)
    assert oracle.told == [(0, None)]
    [trial] = sweep.trials()
    assert (trial.status, trial.message) == ("failed", "out of memory")
    assert search.failure is None


def test_when_every_trial_breaks_the_search_stops(opened):
    _, _, search, server = opened
    worker = Speaker(server, "a")
    for number in range(BROKEN_IN_A_ROW):
        for _ in range(TRIES):
            assert worker.ask() == number
            worker.say(tell=number, outcome={"status": "broken", "message": "no space left."})
    assert worker.say(ask=True) == {"end": True}
    assert "3 trials in a row broke, the last: no space left. See" in search.failure
