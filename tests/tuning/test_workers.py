"""Trials are sent to workers: none is lost or counted twice, whatever a worker or a stranger sends."""

import json
import socket
import threading
import time

import pytest

from kapp.errors import ConfigError, KappError
from kapp.records import SweepConfig, Trial
from kapp.sweep_folder import Sweep
from kapp.tuning import workers
from kapp.tuning.search import MAX_ATTEMPTS, MAX_CONSECUTIVE_CRASHES, Search, TrialResult
from kapp.tuning.workers import Server, work

CONFIG = SweepConfig("train", "jax", "0", "random", True, (), None, {})


class FakeOracle:
    """Proposes `max_trials` trials, one after another, and keeps their scores."""

    epochs = 1

    def __init__(self, max_trials: int):
        self.max_trials, self.trials, self.scores = max_trials, [], []

    def create_trial(self):
        number = len(self.trials)
        if number == self.max_trials:
            return "stop"
        self.trials.append(Trial(number, {"learning_rate": 0.1 + number}, epochs=1, run=number))
        return self.trials[-1]

    def end_trial(self, number, score):
        self.scores.append((number, score))

    def restore(self, trials):
        pass


@pytest.fixture
def served(tmp_path):
    """A search of four trials and its server."""
    oracle = FakeOracle(4)
    with Sweep.open(tmp_path / "sweep", CONFIG) as sweep:
        search = Search(sweep, oracle)
        server = Server(search, ("127.0.0.1", 0), "digest")
        yield oracle, sweep, search, server
        server.close()


class RawWorker:
    """A connection to the server, which sends any message."""

    def __init__(self, server: Server, name: str, digest: str = "digest"):
        self.socket = socket.create_connection(address(server), timeout=20)
        self.lines = self.socket.makefile("rb")
        self.welcome = self.send(hello=name, sweep=digest)

    def post(self, **message) -> None:
        self.socket.sendall(json.dumps(message).encode() + b"\n")

    def receive(self):
        return json.loads(self.lines.readline())

    def send(self, **message):
        self.post(**message)
        return self.receive()

    def next_trial(self) -> int:
        return self.send(next=True)["trial"]["number"]

    def end_trial(self, number: int, score: float = 0.5):
        return self.send(number=number, result={"status": "finished", "score": score})

    def disconnect(self) -> None:
        self.lines.close()
        self.socket.close()


def address(server: Server) -> tuple[str, int]:
    host, _, port = server.address.rpartition(":")
    return host, int(port)


def wait_until(condition) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_workers_share_the_trials(served):
    oracle, sweep, search, server = served

    def train(trial: Trial) -> TrialResult:
        return TrialResult("finished", score=trial.number / 10)

    threads = [threading.Thread(target=work, args=(n, address(server), "digest", train)) for n in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    assert search.ended
    assert sorted(oracle.scores) == [(0, 0.0), (1, 0.1), (2, 0.2), (3, 0.3)]
    assert sorted(trial.end_order for trial in sweep.trials()) == [0, 1, 2, 3]


def test_the_trial_of_a_lost_worker_goes_to_the_next(served):
    oracle, sweep, _, server = served
    first, second = RawWorker(server, "first"), RawWorker(server, "second")
    assert (first.next_trial(), second.next_trial()) == (0, 1)
    assert [trial.status for trial in sweep.trials()] == ["running", "running"]
    first.disconnect()
    second.end_trial(1)
    wait_until(lambda: second.next_trial() == 0 if not oracle.scores[1:] else True)
    second.end_trial(0)
    assert sorted(oracle.scores) == [(0, 0.5), (1, 0.5)]


def test_a_worker_that_reconnects_gets_its_trial_again(served):
    oracle, _, _, server = served
    before = RawWorker(server, "gpu")
    assert before.next_trial() == 0
    again = RawWorker(server, "gpu")  # while the server regards the first connection as alive
    assert again.next_trial() == 0
    with pytest.raises((OSError, ValueError)):
        before.end_trial(0, 0.9)
    again.end_trial(0, 0.4)
    again.end_trial(0, 0.8)
    assert oracle.scores == [(0, 0.4)]  # the first result counts, once


def test_no_trial_is_lost_to_an_idle_worker_that_reconnects(served):
    oracle, _, search, server = served
    oracle.max_trials = 1
    busy, idle = RawWorker(server, "busy"), RawWorker(server, "idle")
    assert busy.next_trial() == 0
    idle.post(next=True)  # waits, as there is no other trial
    wait_until(lambda: len(search._changed._waiters) == 1)
    again = RawWorker(server, "idle")
    again.post(next=True)
    wait_until(lambda: len(search._changed._waiters) == 1)  # the first wait has ended
    busy.disconnect()
    assert again.receive()["trial"]["number"] == 0
    again.end_trial(0)
    assert oracle.scores == [(0, 0.5)]


def test_another_sweep_is_refused_and_strangers_change_nothing(served):
    oracle, sweep, _, server = served
    assert "another sweep" in RawWorker(server, "a", digest="other").welcome["refused"]
    with pytest.raises(ConfigError, match="the oracle has another sweep"):
        work("b", address(server), "other", lambda trial: TrialResult("finished", score=1.0))
    for noise in (b"GET / HTTP/1.1\r\n\r\n", b"[1]\n", b'{"hello": 1}\n', b"\x00" * 100):
        with socket.create_connection(address(server), timeout=20) as stranger:
            stranger.sendall(noise)
            stranger.shutdown(socket.SHUT_WR)
            stranger.recv(100)
    for result in ({"status": "finished"}, {"status": "won", "score": 1}):
        worker = RawWorker(server, "c")
        number = worker.next_trial()
        with pytest.raises(json.JSONDecodeError):  # the server ends the connection
            worker.send(number=number, result=result)
    assert oracle.scores == []
    assert {trial.status for trial in sweep.trials()} == {"running"}


def test_a_worker_waits_for_the_oracle_but_not_forever(monkeypatch, capsys):
    monkeypatch.setattr(workers, "CONNECT_SECONDS", 1.0)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # without listening
        host, port = closed.getsockname()
        with pytest.raises(KappError, match=f"there is no oracle at {host}:{port} .*Start its command first"):
            work("a", (host, port), "digest", lambda trial: TrialResult("finished", score=1.0))
    assert capsys.readouterr().out == f"waiting for the oracle at {host}:{port}\n"


def test_a_trial_that_crashes_is_run_again_and_then_fails(served):
    oracle, sweep, search, server = served
    for _ in range(MAX_ATTEMPTS):
        worker = RawWorker(server, "a")
        assert worker.next_trial() == 0
        worker.send(number=0, result={"status": "crashed", "message": "out of memory"})
        worker.disconnect()
    wait_until(lambda: oracle.scores)
    assert oracle.scores == [(0, None)]
    [trial] = sweep.trials()
    assert (trial.status, trial.message) == ("failed", "out of memory")
    assert search.failure is None


def test_the_search_stops_when_every_trial_crashes(served):
    _, _, search, server = served
    worker = RawWorker(server, "a")
    for number in range(MAX_CONSECUTIVE_CRASHES):
        for _ in range(MAX_ATTEMPTS):
            assert worker.next_trial() == number
            worker.send(number=number, result={"status": "crashed", "message": "no space left."})
    assert worker.send(next=True) == {"end": True}
    assert "3 trials in a row crashed, the last: no space left. See" in search.failure
