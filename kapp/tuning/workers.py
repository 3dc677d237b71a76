"""Worker processes, which train trials, and the server that sends them the trials.

Both sides send JSON, one message per line, over TCP: numbers and names, never code or files. The connection
of a worker ends with its process or its machine; its trial is free again then.

    worker                                  server
    {"hello": NAME, "sweep": DIGEST}        {"welcome": true} or {"refused": WHY}
    {"next": true}                          {"trial": {"number": 4, "values": {...}, ...}} or {"end": true}
    {"result": {...}, "number": 4}          {"saved": true} or {"end": true}
"""

import contextlib
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

from kapp import records
from kapp.errors import ConfigError, KappError
from kapp.fileio import make_folder
from kapp.records import Trial
from kapp.tuning.search import Search, TrialResult

MAX_LINE_BYTES = 1 << 20
CONNECT_SECONDS = 600.0  # that a worker waits for an oracle: its machine may still train the teacher
HELLO_SECONDS = 10.0  # that the server waits for a worker's name


def parse_address(address: str | None, open_to_network: bool) -> tuple[str, int]:
    """The host and port of HOST:PORT; of None, a free port that this machine alone reaches.

    Raises:
        ConfigError: no address, or one that other machines reach although `open_to_network` is false.
    """
    if address is None:
        return "127.0.0.1", 0
    host, colon, port = address.rpartition(":")
    if not (colon and host and port.isdecimal() and 0 < int(port) < 65536):
        raise ConfigError(f"--oracle is {address!r}: it must be HOST:PORT, such as 127.0.0.1:5000.")
    if not (open_to_network or _is_loopback(host.strip("[]"))):
        raise ConfigError(
            f"--oracle {address} is open to other machines, and the oracle does not authenticate workers: "
            "every process that reaches the port can take trials and send scores. In a network you trust, "
            "add --open-to-network; otherwise use 127.0.0.1, and an SSH tunnel between machines."
        )
    return host.strip("[]"), int(port)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Server:
    """Serves the trials of `search` to the workers that connect, one thread each.

    Args:
        at: host and port; port 0 is any free one.
        digest: of the sweep; a worker of another sweep is refused.

    Raises:
        KappError: the address can't be used.
    """

    def __init__(self, search: Search, at: tuple[str, int], digest: str):
        self._search, self._digest = search, digest
        try:
            family = socket.AF_INET6 if ":" in at[0] else socket.AF_INET
            self._socket = socket.create_server(at, family=family)
        except OSError as error:
            raise KappError(f"cannot listen at {at[0]}:{at[1]}: {error.strerror or error}.") from error
        self.address = "{}:{}".format(*self._socket.getsockname()[:2])
        self._current: dict[str, socket.socket] = {}
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Stop listening; wait until the workers have received the end of the search."""
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
        with connection, contextlib.suppress(OSError, ValueError, KeyError, TypeError, EOFError, KappError):
            _enable_keepalive(connection)
            lines = connection.makefile("rb")
            connection.settimeout(HELLO_SECONDS)
            hello = _receive(lines)
            connection.settimeout(None)
            if hello["sweep"] != self._digest:
                why = "the oracle has another sweep: start the worker with the same command, on the same data"
                return _send(connection, {"refused": why})
            name = str(hello["hello"])[:40]
            self._replace(name, connection)
            try:
                _send(connection, {"welcome": True})
                while True:
                    _send(connection, self._reply(name, connection, _receive(lines)))
            finally:
                if self._current.get(name) is connection:
                    del self._current[name]
                    self._search.release(name)

    def _replace(self, name: str, connection: socket.socket) -> None:
        """Make `connection` that of worker `name`, and end an earlier one."""
        before, self._current[name] = self._current.get(name), connection
        if before is not None:
            self._search.release(name)  # also wakes the earlier connection's thread, which ends
            with contextlib.suppress(OSError):
                before.shutdown(socket.SHUT_RDWR)

    def _reply(self, name: str, connection: socket.socket, message: dict[str, Any]) -> dict[str, Any]:
        result = None
        if "result" in message:
            result = records.from_json(TrialResult, message["result"], "the result")
        try:
            if result is not None:
                self._search.end_trial(name, int(message["number"]), result)
                return {"saved": True}
            trial = self._search.next_trial(name, lambda: self._current.get(name) is connection)
        except Exception as error:  # such as a full disk: no worker can continue
            self._search.fail(str(error) or repr(error))
            return {"end": True}
        return {"trial": records.to_json(trial)} if trial else {"end": True}


def work(name: str, at: tuple[str, int], digest: str, train: Callable[[Trial], TrialResult]) -> None:
    """Train the trials of the server at `at` until the search has ended, as worker `name`.

    This process ends with the server, also within a trial; the run folder keeps the epochs so far.

    Raises:
        ConfigError: the server has another sweep than that of `digest`.
        KappError: there is no server, or a trial crashed.
    """
    connection = _connect(at)
    replies: Queue[dict[str, Any]] = Queue()
    threading.Thread(target=_listen, args=(connection, replies), daemon=True).start()

    def send(**message: Any) -> dict[str, Any]:
        with contextlib.suppress(BrokenPipeError, ConnectionError):  # the listener ends the process
            _send(connection, message)
        return replies.get()

    welcome = send(hello=name, sweep=digest)
    if "refused" in welcome:
        raise ConfigError(f"--oracle {at[0]}:{at[1]}: {welcome['refused']}.")
    while "end" not in (reply := send(next=True)):
        trial = records.from_json(Trial, reply["trial"], "the trial")
        result = train(trial)
        if "end" in send(result=records.to_json(result), number=trial.number):
            break  # it couldn't be saved
        if result.status == "crashed":
            raise KappError(f"trial {trial.number}: {result.message}")
    connection.close()


def run_local(command: Sequence[str], count: int, search: Search, logs: Path) -> None:
    """Run `count` workers on this machine until the search has ended, and restart those that end.

    Args:
        command: of a worker, without its `--worker here-N`.
        logs: folder for the workers' output, where there are several.

    Raises:
        KappError: the search can't continue.
    """
    running: dict[str, subprocess.Popen] = {}
    restarts = 0
    try:
        while not search.wait(0.5):
            for name in (f"here-{i}" for i in range(1, count + 1)):
                process = running.get(name)
                if process is not None and process.poll() is None:
                    continue
                if process is not None:
                    if process.returncode == 2:  # its settings are refused, as another worker's would be
                        search.fail(f"worker {name} ended with a wrong value, above.")
                        break
                    restarts += 1
                    if restarts > 10 + 2 * sum(trial.end_order is not None for trial in search.trials):
                        search.fail(f"worker {name} ends repeatedly (status {process.returncode}).")
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
                process.kill()
                process.wait()
    if search.failure:
        raise KappError(search.failure)


def _start(command: Sequence[str], log: Path | None) -> subprocess.Popen:
    if log is None:
        return subprocess.Popen(command)
    make_folder(log.parent)
    with open(log, "a", encoding="utf-8") as file:
        return subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)


def _connect(at: tuple[str, int]) -> socket.socket:
    start, printed = time.monotonic(), False
    while True:
        try:
            connection = socket.create_connection(at, timeout=HELLO_SECONDS)
            connection.settimeout(None)
            _enable_keepalive(connection)
            return connection
        except OSError as error:
            if time.monotonic() - start > CONNECT_SECONDS:
                why = error.strerror or error
                raise KappError(
                    f"there is no oracle at {at[0]}:{at[1]} ({why}). Start its command first."
                ) from error
            if not printed:
                print(f"waiting for the oracle at {at[0]}:{at[1]}", flush=True)
                printed = True
            time.sleep(0.5)


def _listen(connection: socket.socket, replies: Queue) -> None:
    lines = connection.makefile("rb")
    try:
        last = False
        while not last:
            message = _receive(lines)
            last = "end" in message or "refused" in message
            replies.put(message)
    except (OSError, ValueError, EOFError):
        print(
            "kapp: the connection to the oracle ended: its process did, or another worker has this one's "
            "name. The same commands resume.",
            file=sys.stderr,
            flush=True,
        )
        os._exit(1)  # also within a training


def _enable_keepalive(connection: socket.socket) -> None:
    """Make an idle connection end where the other machine is switched off."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, seconds in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, option):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), seconds)


def _send(connection: socket.socket, message: dict[str, Any]) -> None:
    connection.sendall(json.dumps(message).encode() + b"\n")


def _receive(lines: Any) -> dict[str, Any]:
    line = lines.readline(MAX_LINE_BYTES)
    if not line.endswith(b"\n"):
        raise EOFError("the connection ended")
    message = json.loads(line)
    if not isinstance(message, dict):
        raise ValueError("not a message")
    return message
