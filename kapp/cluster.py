"""Runs tasks in this process, in worker processes of this machine, or on an existing Dask cluster.

A task is the name of a function and JSON values. A worker runs one task at a time, in the folder and with
the Keras backend of the command. A task whose worker is killed runs again, so it must be able to resume.
Dask opens all sockets: those of local workers are on the loopback address, encrypted and authenticated by
temporary TLS certificates. Importing this module imports neither Dask nor Keras.
"""

import importlib
import ipaddress
import logging
import os
import platform
import re
import sys
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import chdir, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from kapp import cli, hardware, progress
from kapp.errors import ConfigError, KappError
from kapp.fileio import is_running, make_folder, write_text

MAX_DEATHS = 3  # of the workers that run a task without progress; on other clusters: Dask's allowed-failures
# The worker of a task without progress is restarted after this time, or ten times the slowest step.
STALL_SECONDS, STALL_FACTOR = 600.0, 10
CONNECT_SECONDS, RESTART_SECONDS = 5, 30
NO_LOGS = logging.CRITICAL + 1
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Task:
    """A call of a function in a worker.

    Args:
        name: unique among the tasks that run; messages begin with it.
        function: of a module; only its name is sent.
        arguments: its keyword arguments, JSON values.
        progress: returns another value after each step that the task need not repeat; called in the driver.
            None: the task repeats everything.
    """

    name: str
    function: Callable[..., Any]
    arguments: Mapping[str, Any]
    progress: Callable[[], Any] | None = None


@dataclass(frozen=True)
class Result:
    """How a task ended.

    Args:
        task: the name of the task.
        worker: the name of the worker.
        value: what the function returned, a JSON value.
        error: why the task failed, one line; None: it didn't.
        is_environment: the cause isn't in the task: a damaged file, a full disk.
    """

    task: str
    worker: str = ""
    value: Any = None
    error: str | None = None
    is_environment: bool = False


class Cluster(Protocol):
    """Something that runs tasks."""

    @property
    def size(self) -> int:
        """How many tasks run at the same time."""

    def submit(self, task: Task) -> None:
        """Run `task` when a worker is free."""

    def completed(self) -> Iterator[Result]:
        """The results of all tasks, in the order in which they end; more tasks can be submitted meanwhile."""


class Serial:
    """Runs tasks in this process, one after another, when their results are requested."""

    size = 1

    def __init__(self) -> None:
        self._waiting: deque[Task] = deque()

    def submit(self, task: Task) -> None:
        self._waiting.append(task)

    def completed(self) -> Iterator[Result]:
        while self._waiting:
            task = self._waiting.popleft()
            yield Result(task.name, **_call(*_reference(task.function), dict(task.arguments)))


@dataclass
class _Running:
    """A task that was submitted to Dask.

    Args:
        task: the task.
        future: Dask's.
        heartbeat: the file that the worker touches in a long computation.
        attempt: 1, 2, ...; how often it was submitted without progress in between.
        worker: the address of the one that has it.
        is_stalled: it is cancelled, because it made no progress for too long.
        changed_at: when it last showed a sign that it works.
    """

    task: Task
    future: Any
    heartbeat: Path
    attempt: int = 1
    worker: str | None = None
    is_stalled: bool = False
    changed_at: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self._first = self._progress()
        self._latest = self._signs()

    def has_progressed(self) -> bool:
        """Whether a step ended that need not be repeated, since the task was submitted."""
        return self._progress() != self._first

    def has_changed(self) -> bool:
        """Whether the progress or the heartbeat changed since the last call."""
        before, self._latest = self._latest, self._signs()
        return self._latest != before

    def _progress(self) -> Any:
        return self.task.progress() if self.task.progress else None

    def _signs(self) -> Any:
        beat = None
        with suppress(OSError):  # there is none yet
            beat = self.heartbeat.stat().st_mtime_ns
        return self._progress(), beat


class Dask:
    """Runs tasks on the workers of a Dask cluster. `local` and `connect` make one.

    Args:
        client: a `distributed.Client`.
        size: how many tasks run at the same time; None: as many as there are workers.
        mark: a file that every worker must see.
        logs: folder for the output of each task; None: the output of this process.
        stall_seconds: after which the worker of a task without progress is restarted.

    Raises:
        KappError: a worker can't run tasks of this command.
    """

    def __init__(
        self,
        client: Any,
        size: int | None,
        mark: Path,
        logs: Path | None,
        stall_seconds: float = STALL_SECONDS,
    ):
        from distributed import as_completed

        if logs is not None:
            make_folder(logs)
            print(f"output of the workers: {logs}", flush=True)
        self._client, self._size, self._mark, self._logs = client, size, mark, logs
        self._stall_seconds, self._slowest_step = stall_seconds, 0.0
        self._place = (os.getcwd(), str(mark), cli.backend())
        self._running: dict[str, _Running] = {}  # by Dask's keys
        self._completed = as_completed([], loop=client.loop)
        client.subscribe_topic("all", self._on_event)
        with _connection():
            misfits = client.run(_misfit, *self._place, on_error="return")
        for address, why in misfits.items():
            if why is not None:
                raise KappError(f"worker {address}: {why}")

    @property
    def size(self) -> int:
        if self._size is not None:
            return self._size
        with _connection():
            return max(1, len(self._client.nthreads()))

    def submit(self, task: Task, attempt: int = 1) -> None:
        key = f"{task.name}-{uuid.uuid4().hex}"
        file_name = re.sub(r"[^a-zA-Z0-9.-]+", "-", task.name)[-100:]
        log = str(self._logs / f"{file_name}.log") if self._logs else None
        heartbeat = self._mark.with_name(f"{self._mark.name}-{file_name}")
        call = (*_reference(task.function), dict(task.arguments))
        with _connection():
            future = self._client.submit(_call_in_worker, self._place, log, str(heartbeat), *call, key=key)
            self._running[key] = _Running(task, future, heartbeat, attempt)
            self._completed.add(future)

    def completed(self) -> Iterator[Result]:
        with self._watched():
            for future in self._completed:
                running = self._running.pop(future.key)
                task, is_stalled = running.task, running.is_stalled
                if is_stalled and running.worker is not None:
                    self._restart_worker(running.worker)
                if (is_stalled or _was_killed(future)) and running.has_progressed():
                    print(f"{task.name}: progressed before its workers ended, runs again", flush=True)
                    self.submit(task)
                elif is_stalled and running.attempt < MAX_DEATHS:
                    self.submit(task, running.attempt + 1)
                elif is_stalled:
                    yield Result(task.name, error=f"it made no progress, {MAX_DEATHS} times")
                else:
                    yield self._result(task.name, future)

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Within the block a thread cancels tasks without progress, whose workers are then restarted."""
        ended = threading.Event()

        def watch() -> None:
            while not ended.wait(min(10.0, self._stall_seconds / 4)):
                with suppress(KappError), _connection():  # `completed` reports a connection that ended
                    self._cancel_stalled()

        threading.Thread(target=watch, daemon=True).start()
        try:
            yield
        finally:
            ended.set()

    def _cancel_stalled(self) -> None:
        """Cancel the tasks of each worker on which none shows a sign that it works."""
        places = {str(key): worker for worker, keys in self._client.processing().items() for key in keys}
        now, by_worker = time.monotonic(), dict[str, list[_Running]]()
        for key, running in list(self._running.items()):
            running.worker = places.get(key)
            if running.worker is None:  # it waits for one
                running.changed_at = now
                continue
            if running.has_changed():
                self._slowest_step = max(self._slowest_step, now - running.changed_at)
                running.changed_at = now
            by_worker.setdefault(running.worker, []).append(running)
        limit = max(self._stall_seconds, STALL_FACTOR * self._slowest_step)
        for group in by_worker.values():  # a worker may have a second task, which waits for the first
            latest = max(running.changed_at for running in group)
            for running in group:
                running.changed_at = latest
                if now - latest > limit and not running.is_stalled:
                    waited = progress.duration(limit)
                    print(f"{running.task.name}: no progress for {waited}, restarting its worker", flush=True)
                    running.is_stalled = True
                    running.future.cancel()

    def _restart_worker(self, address: str) -> None:
        """Restart the worker at `address`, which may have stopped; without a nanny it is only removed."""
        with _connection():
            self._client.restart_workers([address], timeout=RESTART_SECONDS, raise_for_error=False)

    def _result(self, name: str, future: Any) -> Result:
        from distributed import KilledWorker

        if future.status == "error":
            error = future.exception()
            if isinstance(error, KilledWorker):
                why = f"its worker ended {error.allowed_failures + 1} times"
                return Result(name, str(error.last_worker.name), error=why)
            if isinstance(error, BrokenPipeError):  # nobody reads the output any more
                raise error
            raise KappError(f"{name}: {_one_line(error)}")
        with _connection():
            reply = future.result()
        if "misfit" in reply:
            raise KappError(f"worker {reply['worker']}: {reply['misfit']}")
        return Result(name, **reply)

    def _on_event(self, event: tuple[float, dict[str, Any]]) -> None:
        """Report the tasks of a worker that was killed. Called in Dask's thread."""
        _, message = event
        if message.get("action") == "remove-worker" and not message["expected"]:
            for key in message["processing-tasks"]:
                if key in self._running:
                    print(f"{self._running[key].task.name}: its worker ended", file=sys.stderr, flush=True)


def _was_killed(future: Any) -> bool:
    """Whether the task's workers ended too often."""
    from distributed import KilledWorker

    return future.status == "error" and isinstance(future.exception(), KilledWorker)


def check_installed() -> None:
    """Raise a ConfigError if Dask isn't installed."""
    if find_spec("distributed") is None or find_spec("cryptography") is None:
        raise ConfigError("the workers run on Dask, which isn't installed: pip install 'kapp[sweep]'.")


def check_address(address: str, insecure: bool) -> bool:
    """Whether the connection to the scheduler at `address` is encrypted.

    Raises:
        ConfigError: it isn't tls://HOST:PORT or tcp://HOST:PORT, or it isn't encrypted, leaves this machine
            and isn't `insecure`.
    """
    url = urlsplit(address)
    try:
        is_address = url.scheme in ("tls", "tcp") and url.hostname and url.port and not url.path
    except ValueError:  # a port that is no number
        is_address = False
    if not is_address:
        raise ConfigError(f"--scheduler is {address!r}: it must be like tls://10.0.0.5:8786.")
    if url.scheme == "tcp" and not (insecure or _is_loopback(url.hostname or "")):
        raise ConfigError(
            f"--scheduler {address} isn't encrypted and accepts every process, which can run code on its "
            "workers: use tls:// with certificates, or, in a network you trust, add --insecure."
        )
    return url.scheme == "tls"


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@contextmanager
def local(
    workers: int, folder: Path, dashboard: bool = False, stall_seconds: float = STALL_SECONDS
) -> Iterator[Dask]:
    """Worker processes on this machine, which end with the block, or with this process.

    With several workers and GPUs, each worker uses one GPU.

    Args:
        workers: how many.
        folder: for a temporary file and, with several workers, for their output.
        dashboard: open Dask's dashboard on the loopback address, and print where.
        stall_seconds: as for `Dask`.

    Raises:
        KappError: they can't be started.
    """
    import dask.config
    import psutil
    from distributed import Client, Nanny, Scheduler, Security, SpecCluster

    _silence()
    security, gpus = Security.temporary(), hardware.gpus() if workers > 1 else []
    shared = {
        "host": LOOPBACK,
        "protocol": "tls://",
        "security": security,
        "dashboard_address": f"{LOOPBACK}:0",
    }
    process = {**shared, "nthreads": 1, "memory_limit": 0, "silence_logs": NO_LOGS}
    environments = [{"CUDA_VISIBLE_DEVICES": gpus[i % len(gpus)]} if gpus else {} for i in range(workers)]
    settings: dict[str, Any] = {
        "distributed.nanny.pre-spawn-environ": {},  # Dask's default sets one thread for OpenMP
        "distributed.scheduler.allowed-failures": MAX_DEATHS - 1,
        "distributed.scheduler.worker-ttl": None,  # a training may keep Python busy for minutes
        "distributed.deploy.lost-worker-timeout": "1 day",  # a worker that is killed is restarted
        "distributed.worker.profile.enabled": False,
    }
    if not dashboard:
        settings |= {f"distributed.{part}.http.routes": [] for part in ("scheduler", "worker")}
    with dask.config.set(settings):
        try:
            pool = SpecCluster(
                scheduler={"cls": Scheduler, "options": {**shared, "port": 0, "dashboard": dashboard}},
                workers={
                    f"here-{i}": {"cls": Nanny, "options": {**process, "env": environment}}
                    for i, environment in enumerate(environments, start=1)
                },
                security=security,
            )
        except (OSError, RuntimeError, TimeoutError) as error:
            raise KappError(f"the worker processes can't be started: {_one_line(error)}") from error
        try:
            if dashboard:
                print(f"dashboard: {pool.dashboard_link}", flush=True)
            with Client(pool, set_as_default=False) as client, _mark(folder) as mark:
                yield Dask(client, workers, mark, folder / "logs" if workers > 1 else None, stall_seconds)
        except BaseException:
            for nanny in pool.workers.values():
                nanny.close_gracefully()  # it doesn't restart its worker
                if (pid := nanny.pid) is not None:
                    with suppress(psutil.Error):
                        psutil.Process(pid).kill()  # a training doesn't end otherwise
            raise
        finally:
            pool.close()


@contextmanager
def connect(
    address: str, tls: tuple[Path, Path, Path] | None, size: int | None, folder: Path
) -> Iterator[Dask]:
    """The workers of the Dask cluster whose scheduler is at `address`; waits until there is one.

    Args:
        address: tls://HOST:PORT or tcp://HOST:PORT.
        tls: for tls://, the PEM files of the authority, the certificate and its key.
        size: how many tasks run at the same time; None: as many as there are workers.
        folder: that each worker must see under the same path; for the output of the tasks.

    Raises:
        KappError: the scheduler can't be reached, or a worker can't run tasks of this command.
    """
    from distributed import Client, Security

    _silence()
    security = None
    if tls is not None:
        ca, certificate, key = map(str, tls)
        security = Security(
            tls_ca_file=ca, tls_client_cert=certificate, tls_client_key=key, require_encryption=True
        )
    try:
        client = Client(address, security=security, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise KappError(f"cannot connect to the scheduler at {address}: {_first_line(error)}") from error
    with client, _mark(folder) as mark:
        if size is None and not _has_workers(client):
            print(f"waiting for workers of {address}", flush=True)
            while not _has_workers(client):
                time.sleep(1)
        yield Dask(client, size, mark, folder / "logs")


def _has_workers(client: Any) -> bool:
    with _connection():
        return bool(client.nthreads())


@contextmanager
def _connection() -> Iterator[None]:
    """Report the errors of Dask's client, which have no common type, as the end of its connection."""
    from asyncio import CancelledError  # here, because `--help` need not wait for it

    try:
        yield
    except (Exception, CancelledError) as error:
        raise KappError(
            f"the connection to the scheduler ended ({_one_line(error)}). The same command resumes."
        ) from error


def _silence() -> None:
    """Drop Dask's log: errors are reported in one line."""
    for handler in logging.getLogger("distributed").handlers:  # those of its other loggers, too
        handler.setLevel(NO_LOGS)


@contextmanager
def _mark(folder: Path) -> Iterator[Path]:
    """A new file in `folder`, with a name that no other folder has."""
    machine = f".shared-{platform.node()}-"
    name = re.compile(rf"{re.escape(machine)}(\d+)-.+")
    for path in folder.iterdir():  # those of processes of this machine that were killed
        if (match := name.fullmatch(path.name)) and not is_running(int(match[1])):
            path.unlink(missing_ok=True)
    mark = folder.resolve() / f"{machine}{os.getpid()}-{uuid.uuid4().hex}"
    write_text(mark, "")
    try:
        yield mark
    finally:
        for each in folder.glob(f"{mark.name}*"):  # with the heartbeats
            each.unlink(missing_ok=True)


def _reference(function: Callable) -> tuple[str, str]:
    """The names of a function's module and of the function."""
    module = sys.modules[function.__module__]
    return module.__spec__.name if module.__spec__ else module.__name__, function.__name__  # not __main__


def _call_in_worker(
    place: tuple[str, str, str], log: str | None, heartbeat: str, *call: Any
) -> dict[str, Any]:
    """As `_call`, in a worker of Dask: in the folder and with the backend of `place`, with a log and with a
    heartbeat."""
    from distributed import get_worker

    name = str(get_worker().name)
    if why := _misfit(*place, dask_worker=get_worker()):
        return {"worker": name, "misfit": why}
    folder, _, os.environ["KERAS_BACKEND"] = place
    with chdir(folder), _output_to(log) if log else nullcontext(), progress.heartbeat(Path(heartbeat)):
        return {"worker": name, **_call(*call)}


def _call(module: str, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """The value that a function returns, or the error that it raises."""
    try:
        return {"value": getattr(importlib.import_module(module), name)(**arguments)}
    except BrokenPipeError:
        raise
    except Exception as error:
        return {"error": _one_line(error), "is_environment": isinstance(error, KappError)}
    finally:
        if "keras" in sys.modules:  # free the memory of the task's networks
            sys.modules["keras"].backend.clear_session()


def _misfit(folder: str, mark: str, backend: str, dask_worker: Any) -> str | None:
    """Why this worker can't run tasks of the command in `folder`; None: it can."""
    if dask_worker.state.nthreads != 1:
        return "it runs several tasks at a time. Start it with --nthreads 1."
    for path in (folder, str(Path(mark).parent)):
        if not os.path.isdir(path):
            return f"it doesn't see {path}. Work in a folder that all machines share, under the same path."
    if not os.path.exists(mark):
        return f"its {Path(mark).parent} is another folder. Work in a folder that all machines share."
    if find_spec(backend) is None:
        return f"KERAS_BACKEND is {backend}, which isn't installed there."
    used = sys.modules["keras"].backend.backend() if "keras" in sys.modules else backend
    if used != backend:
        return f"it has started Keras on {used}, not on {backend}. Restart it."
    return None


@contextmanager
def _output_to(log: str) -> Iterator[None]:
    """Append the output of this process to the file `log`."""
    with open(log, "a", encoding="utf-8") as file:
        kept = os.dup(1), os.dup(2)
        _redirect_output(file.fileno(), file.fileno())
    try:
        yield
    finally:
        _redirect_output(*kept)
        for each in kept:
            os.close(each)


def _redirect_output(stdout: int, stderr: int) -> None:
    """Send what this process prints to these file descriptors."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)


def _one_line(error: BaseException) -> str:
    """What happened, with the type of an error that isn't kapp's own."""
    message = _first_line(error)
    return message if isinstance(error, KappError | ConfigError) else f"{type(error).__name__}: {message}"


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), repr(error))[:300]
