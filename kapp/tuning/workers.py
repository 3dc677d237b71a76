"""The processes that train trials, and how they speak with the one that hands them out.

A line of JSON each way over TCP. What a worker receives are numbers and names: never code, files, or settings
beyond those that its own command line searches. A worker that is killed, or whose machine is gone, ends its
connection, and that is how its trial is known to be free again.

    worker                                  oracle
    {"hello": NAME, "sweep": DIGEST}        {"welcome": true} or {"refused": WHY}
    {"ask": true}                           {"trial": 4, "values": {...}, ...} or {"end": true}
    {"tell": 4, "outcome": {...}}           {"told": true}
"""

import contextlib
import dataclasses
import ipaddress
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import Queue
from typing import Any

from kapp.errors import Failure, WrongValue
from kapp.files import make_folder
from kapp.sweeps import Trial
from kapp.tuning.search import Outcome, Search, outcome_of

LONGEST = 1 << 20  # bytes of a line
PATIENCE = 600.0  # seconds that a worker looks for an oracle whose machine may still train the teacher
HELLO = 10.0  # seconds in which a connection must say who it is
SENT = ("number", "values", "epochs", "run", "default")  # what a worker needs to know of a trial


def address(given: str | None, open_to_network: bool) -> tuple[str, int]:
    """The host and port of `given`, as HOST:PORT; without one, a free port of this machine alone.

    Raises:
        WrongValue: no address, or one that other machines reach and `open_to_network` doesn't allow.
    """
    if given is None:
        return "127.0.0.1", 0
    host, colon, port = given.rpartition(":")
    if not (colon and host and port.isdecimal() and 0 < int(port) < 65536):
        raise WrongValue(f"--oracle is {given!r}: it must be HOST:PORT, such as 127.0.0.1:5000.")
    if not (open_to_network or _loopback(host.strip("[]"))):
        raise WrongValue(
            f"--oracle {given} is open to other machines, and the oracle asks nobody who they are: whoever "
            "reaches the port can take trials and send scores. In a network you trust, add "
            "--open-to-network; otherwise use 127.0.0.1, and an SSH tunnel between machines."
        )
    return host.strip("[]"), int(port)


def _loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Server:
    """Speaks for `search` with every worker that connects, one thread each.

    Args:
        at: host and port; port 0 is any that's free.
        sweep: the digest of what is searched: a worker of another search is refused.

    Raises:
        Failure: nothing can listen there.
    """

    def __init__(self, search: Search, at: tuple[str, int], sweep: str):
        self._search, self._digest = search, sweep
        try:
            family = socket.AF_INET6 if ":" in at[0] else socket.AF_INET
            self._socket = socket.create_server(at, family=family)
        except OSError as error:
            raise Failure(f"cannot listen at {at[0]}:{at[1]}: {error.strerror or error}.") from error
        self.address = "{}:{}".format(*self._socket.getsockname()[:2])
        self._current: dict[str, socket.socket] = {}
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Let the workers hear that the search has ended, and listen no more."""
        self._socket.close()
        until = time.monotonic() + 3
        while self._current and time.monotonic() < until:
            time.sleep(0.05)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return  # closed
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        name = ""
        with connection, contextlib.suppress(OSError, ValueError, KeyError, TypeError, EOFError):
            _notice_death(connection)
            lines = connection.makefile("rb")
            connection.settimeout(HELLO)
            hello = _receive(lines)
            connection.settimeout(None)
            if hello["sweep"] != self._digest:
                why = "the oracle searches another sweep: give the worker the same command, on the same data"
                return _send(connection, {"refused": why})
            name = str(hello["hello"])[:40]
            self._replace(name, connection)
            try:
                _send(connection, {"welcome": True})
                while True:
                    _send(connection, self._answer(name, connection, _receive(lines)))
            finally:
                if self._current.get(name) is connection:
                    del self._current[name]
                    self._search.lost(name)

    def _replace(self, name: str, connection: socket.socket) -> None:
        """A worker that is back under its name takes the place of its dead connection."""
        before, self._current[name] = self._current.get(name), connection
        if before is not None:
            self._search.lost(name)  # wakes a thread that still asks for it, and finds it gone
            with contextlib.suppress(OSError):
                before.shutdown(socket.SHUT_RDWR)

    def _answer(self, name: str, connection: socket.socket, request: dict[str, Any]) -> dict[str, Any]:
        told = (int(request["tell"]), outcome_of(request["outcome"])) if "tell" in request else None
        try:
            if told:
                self._search.tell(name, *told)
                return {"told": True}
            trial = self._search.ask(name, here=lambda: self._current.get(name) is connection)
        except Exception as error:  # the sweep's files can't be written, say: nobody can go on
            self._search.fail(str(error) or repr(error))
            return {"end": True}
        held = trial and {key: value for key, value in dataclasses.asdict(trial).items() if key in SENT}
        return {"trial": held} if held else {"end": True}


def work(name: str, at: tuple[str, int], sweep: str, train: Callable[[Trial], Outcome]) -> None:
    """Train what the oracle at `at` hands out until the search has ended.

    The process ends when the oracle does, in the midst of a trial too: its run folder goes on from there.

    Raises:
        WrongValue: the oracle searches something else.
        Failure: there is no oracle.
    """
    connection = _connect(at)
    answers: Queue[dict[str, Any]] = Queue()
    threading.Thread(target=_listen, args=(connection, answers), daemon=True).start()

    def say(**message: Any) -> dict[str, Any]:
        with contextlib.suppress(BrokenPipeError, ConnectionError):  # the listener ends the process
            _send(connection, message)
        return answers.get()

    welcome = say(hello=name, sweep=sweep)
    if "refused" in welcome:
        raise WrongValue(f"--oracle {at[0]}:{at[1]}: {welcome['refused']}.")
    while "end" not in (job := say(ask=True)):
        trial = Trial(**job["trial"])
        outcome = train(trial)
        told = say(tell=trial.number, outcome=dataclasses.asdict(outcome))
        if "end" in told:  # the oracle couldn't take it down
            break
        if outcome.status == "broken":
            raise Failure(f"trial {trial.number}: {outcome.message}")
    connection.close()


def local(command: Sequence[str], count: int, search: Search, logs: Path) -> None:
    """Keep `count` workers of this machine going, each the process `command --worker here-N`, until the
    search has ended. Where there are several, each writes to a file in `logs`.

    Raises:
        Failure: the search can't go on.
    """
    running: dict[str, subprocess.Popen] = {}
    quick_ends = 0
    try:
        while not search.wait(0.5):
            for name in (f"here-{i}" for i in range(1, count + 1)):
                process = running.get(name)
                if process is not None and process.poll() is None:
                    continue
                if process is not None:
                    if process.returncode == 2:  # refused: nobody will do better
                        search.fail(f"worker {name} ended with a wrong value, above.")
                        break
                    quick_ends += 1
                    if quick_ends > 10 + 2 * sum(trial.place is not None for trial in search.trials):
                        search.fail(f"worker {name} ends again and again (status {process.returncode}).")
                        break
                running[name] = _start(
                    [*command, "--worker", name], logs / f"{name}.log" if count > 1 else None
                )
        until = time.monotonic() + (0 if search.failure else 20)
        for process in running.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=max(0.0, until - time.monotonic()))
    finally:
        for process in running.values():
            if process.poll() is None:
                process.kill()  # a run folder may be left at any moment
                process.wait()
    if search.failure:
        raise Failure(search.failure)


def _start(command: Sequence[str], log: Path | None) -> subprocess.Popen:
    if log is None:
        return subprocess.Popen(command)
    make_folder(log.parent)
    with open(log, "a", encoding="utf-8") as file:
        return subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)


def _connect(at: tuple[str, int]) -> socket.socket:
    began, said = time.monotonic(), False
    while True:
        try:
            connection = socket.create_connection(at, timeout=HELLO)
            connection.settimeout(None)
            _notice_death(connection)
            return connection
        except OSError as error:
            if time.monotonic() - began > PATIENCE:
                why = error.strerror or error
                raise Failure(
                    f"there is no oracle at {at[0]}:{at[1]} ({why}). Start its command first."
                ) from error
            if not said:
                print(f"waiting for the oracle at {at[0]}:{at[1]}", flush=True)
                said = True
            time.sleep(0.5)


def _listen(connection: socket.socket, answers: Queue) -> None:
    lines = connection.makefile("rb")
    try:
        last = False
        while not last:
            message = _receive(lines)
            last = "end" in message or "refused" in message
            answers.put(message)
    except (OSError, ValueError, EOFError):
        print(
            "kapp: the oracle is gone, or another worker has come under this one's name. The same commands "
            "go on from here.",
            file=sys.stderr,
            flush=True,
        )
        os._exit(1)  # also out of the middle of a training


def _notice_death(connection: socket.socket) -> None:
    """Have the system ask an idle connection for signs of life: a machine switched off says no goodbye."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, seconds in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, option):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), seconds)


def _send(connection: socket.socket, message: dict[str, Any]) -> None:
    connection.sendall(json.dumps(message).encode() + b"\n")


def _receive(lines: Any) -> dict[str, Any]:
    line = lines.readline(LONGEST)
    if not line.endswith(b"\n"):
        raise EOFError("the connection ended")
    message = json.loads(line)
    if not isinstance(message, dict):
        raise ValueError("not a message")
    return message
