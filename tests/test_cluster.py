"""Tasks run in real processes; workers, drivers and schedulers are killed, and no process is left behind."""

import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from kapp import cluster
from kapp.cluster import Result, Serial, Task
from kapp.errors import ConfigError, KappError
from tests import cluster_tasks
from tests.helpers import accept_interrupts

ROOT = Path(__file__).parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}


def wait_until(condition, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def children() -> list[psutil.Process]:
    """The running child processes of this one, but for Python's own helper, which ends with this process."""
    found = psutil.Process().children(recursive=True)
    running = [each for each in found if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]
    return [each for each in running if "resource_tracker" not in " ".join(each.cmdline())]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("workers")


@pytest.fixture(scope="module")
def workers(folder):
    """Two worker processes, on a machine with two GPUs by its environment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
        for name in ("OMP_NUM_THREADS", "MALLOC_TRIM_THRESHOLD_"):
            patch.delenv(name, raising=False)
        with cluster.local(2, folder) as workers:
            yield workers
    assert children() == []


def test_serial_tasks_run_in_this_process_in_order():
    serial = Serial()
    serial.submit(Task("a", cluster_tasks.describe, {"x": [1]}))
    serial.submit(Task("b", cluster_tasks.fail, {"message": "first line\nsecond line"}))
    results = []
    for result in serial.completed():
        results.append(result)
        if result.task == "a":
            serial.submit(Task("c", cluster_tasks.describe, {}))
    assert [result.task for result in results] == ["a", "b", "c"]
    assert (results[0].value["pid"], results[0].value["x"]) == (os.getpid(), [1])
    assert results[1] == Result("b", error="ValueError: first line")


def test_results_come_as_tasks_end_also_of_tasks_submitted_meanwhile(workers, tmp_path):
    workers.submit(Task("waiting", cluster_tasks.wait_for_files, {"folder": str(tmp_path), "count": 2}))
    workers.submit(Task("failing", cluster_tasks.fail, {"message": "first line\nsecond line"}))
    results = []
    for result in workers.completed():
        results.append(result)
        if result.task == "failing":
            workers.submit(Task("more", cluster_tasks.describe, {"x": {"y": [1, None, 0.1]}}))
        if result.task == "more":
            (tmp_path / "end").touch()
    failing, more, waiting = results
    assert (failing.error, failing.value) == ("ValueError: first line", None)
    assert (more.task, more.value["x"], waiting.task) == ("more", {"y": [1, None, 0.1]}, "waiting")


def test_workers_have_the_commands_environment_and_one_gpu_each(workers, tmp_path):
    for name in ("a", "b"):  # each waits for the other one
        workers.submit(Task(name, cluster_tasks.wait_for_files, {"folder": str(tmp_path), "count": 2}))
    seen = {result.worker: result.value for result in workers.completed()}
    assert {name: value["CUDA_VISIBLE_DEVICES"] for name, value in seen.items()} == {
        "here-1": "4",
        "here-2": "7",
    }
    for value in seen.values():
        assert value["KERAS_BACKEND"] == os.environ["KERAS_BACKEND"]
        assert value["folder"] == os.getcwd()
        assert value["OMP_NUM_THREADS"] is value["MALLOC_TRIM_THRESHOLD_"] is None
    assert len({os.getpid(), *(value["pid"] for value in seen.values())}) == 3


def test_a_task_whose_worker_is_killed_runs_again(workers, tmp_path, capfd):
    arguments = {"path": str(tmp_path / "deaths"), "times": 2}
    workers.submit(Task("trial 4", cluster_tasks.die, arguments))
    [result] = workers.completed()
    assert (result.value, result.error) == (2, None)
    assert capfd.readouterr().err == "trial 4: its worker ended\n" * 2


def test_a_task_whose_worker_is_killed_three_times_fails(workers, tmp_path):
    workers.submit(Task("trial 4", cluster_tasks.die, {"path": str(tmp_path / "deaths"), "times": 9}))
    [result] = workers.completed()
    assert result.error == "its worker ended 3 times"
    assert result.worker in ("here-1", "here-2")
    assert (tmp_path / "deaths").read_text() == "xxx"
    workers.submit(Task("after", cluster_tasks.describe, {}))
    assert [after.error for after in workers.completed()] == [None]


def test_the_output_of_a_task_is_written_to_its_log(workers, folder):
    for text in ("first", "second"):
        workers.submit(Task("trial 7", cluster_tasks.write_lines, {"text": text}))
        list(workers.completed())
    workers.submit(Task("other", cluster_tasks.write_lines, {"text": "third"}))
    list(workers.completed())
    lines = {f"{text} to {to}" for text in ("first", "second") for to in ("stdout", "stderr", "1", "2")}
    assert set((folder / "logs" / "trial-7.log").read_text().splitlines()) == lines


def test_only_this_machine_can_connect(workers):
    sockets = [each for p in (psutil.Process(), *children()) for each in p.net_connections("inet")]
    listening = {each.laddr.ip for each in sockets if each.status == psutil.CONN_LISTEN}
    assert listening == {"127.0.0.1"}


def test_an_error_ends_workers_within_a_task(tmp_path):
    file = tmp_path / "pid"
    with suppress(KeyboardInterrupt), cluster.local(1, tmp_path) as workers:
        workers.submit(Task("endless", cluster_tasks.run_forever, {"path": str(file)}))
        wait_until(lambda: file.is_file() and file.read_text())
        start = time.monotonic()
        raise KeyboardInterrupt
    assert time.monotonic() - start < 5
    assert not psutil.pid_exists(int(file.read_text()))
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    ("kill", "status"),
    [
        (lambda driver: driver.kill(), -signal.SIGKILL),
        (lambda driver: os.killpg(driver.pid, signal.SIGINT), 130),  # Ctrl-C in a terminal
        pytest.param(lambda driver: driver.send_signal(signal.SIGINT), 130, marks=pytest.mark.slow),
        pytest.param(lambda driver: driver.terminate(), -signal.SIGTERM, marks=pytest.mark.slow),
    ],
    ids=["SIGKILL", "Ctrl-C", "SIGINT", "SIGTERM"],
)
def test_workers_end_with_their_driver(tmp_path, kill, status):
    driver = subprocess.Popen(
        [sys.executable, "-m", "tests.cluster_tasks", tmp_path],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=accept_interrupts,
    )
    try:
        wait_until(lambda: len(list(tmp_path.glob("*.pid"))) == 2)
        processes = psutil.Process(driver.pid).children(recursive=True)
        kill(driver)
        _, errors = driver.communicate(timeout=30)
        assert driver.returncode == status
        assert "Traceback" not in errors
        assert psutil.wait_procs(processes, timeout=10)[1] == []
    finally:
        driver.kill()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory) -> Path:
    """PEM files of two authorities, right and wrong, each with a certificate and its key."""
    from distributed import Security

    folder = tmp_path_factory.mktemp("certificates")
    for name in ("right", "wrong"):
        security = Security.temporary()
        (folder / f"{name}-ca.pem").write_text(security.tls_ca_file)
        (folder / f"{name}-cert.pem").write_text(security.tls_client_cert)
        (folder / f"{name}-key.pem").write_text(security.tls_client_key)
    return folder


@contextmanager
def dask_command(certificates: Path, *words: object, before: tuple[str, ...] = ()):
    """`dask scheduler` or `dask worker` as a process."""
    ca, cert, key = (certificates / f"right-{name}.pem" for name in ("ca", "cert", "key"))
    tls = ["--tls-ca-file", ca, "--tls-cert", cert, "--tls-key", key]
    command = [*before, sys.executable, "-m", "dask", *words, *tls]
    process = subprocess.Popen([*map(str, command)], env=ENVIRONMENT, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        workers = []
        with suppress(psutil.NoSuchProcess):  # the test has ended it
            workers = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.wait()
        assert psutil.wait_procs(workers, timeout=10)[1] == []


@contextmanager
def scheduler_command(certificates: Path, folder: Path):
    """`dask scheduler` as a process, and its address."""
    file = folder / "scheduler.json"
    words = "--protocol tls --host 127.0.0.1 --port 0 --no-dashboard --dashboard-address 127.0.0.1:0".split()
    with dask_command(certificates, "scheduler", *words, "--scheduler-file", file) as process:
        wait_until(lambda: file.exists() and file.read_text().endswith("}"))  # it isn't written in one step
        yield process, json.loads(file.read_text())["address"]


@pytest.fixture(scope="module")
def scheduler(certificates, tmp_path_factory) -> str:
    """The address of a scheduler."""
    with scheduler_command(certificates, tmp_path_factory.mktemp("scheduler")) as (_, address):
        yield address


def worker_command(certificates: Path, scheduler: str, threads: int = 1, before: tuple[str, ...] = ()):
    """`dask worker` as a process; its worker is called gpu1."""
    words = ["--nthreads", threads, "--memory-limit", 0, "--no-dashboard", "--death-timeout", 30]
    return dask_command(certificates, "worker", scheduler, "--name", "gpu1", *words, before=before)


def run_task(
    certificates: Path,
    scheduler: str,
    folder: Path,
    size: int | None = None,
    authority: str = "right",
    then: Callable = lambda: None,
) -> Result:
    """The result of one task on the cluster of `scheduler`; `then` is called after it is submitted."""
    tls = tuple(certificates / f"{authority}-{name}.pem" for name in ("ca", "cert", "key"))
    with cluster.connect(scheduler, tls, size, folder) as workers:
        workers.submit(Task("a", cluster_tasks.describe, {"x": 1}))
        then()
        [result] = workers.completed()
        return result


def test_workers_of_other_commands_are_used_and_waited_for(certificates, scheduler, tmp_path, capfd):
    with worker_command(certificates, scheduler):
        result = run_task(certificates, scheduler, tmp_path)
    assert (result.worker, result.value["x"], result.error) == ("gpu1", 1, None)
    assert result.value["folder"] == os.getcwd()
    logs = tmp_path / "logs"
    assert capfd.readouterr().out == f"waiting for workers of {scheduler}\noutput of the workers: {logs}\n"
    assert [path.name for path in tmp_path.rglob("*")] == ["logs", "a.log"]


def test_a_wrong_certificate_is_refused_at_once(certificates, scheduler, tmp_path):
    start = time.monotonic()
    with pytest.raises(KappError, match=r"cannot connect to the scheduler at tls://.*certificate") as error:
        run_task(certificates, scheduler, tmp_path, authority="wrong")
    assert "\n" not in str(error.value)
    assert time.monotonic() - start < cluster.CONNECT_SECONDS + 2


def test_a_scheduler_that_is_not_there_is_named(certificates, monkeypatch, tmp_path):
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 1)
    with pytest.raises(KappError, match=r"cannot connect to the scheduler at tls://127.0.0.1:9: Timed out"):
        run_task(certificates, "tls://127.0.0.1:9", tmp_path)


@pytest.mark.slow
def test_a_worker_with_several_threads_is_refused(certificates, scheduler, tmp_path):
    with (
        worker_command(certificates, scheduler, threads=2),
        pytest.raises(KappError, match="several tasks at a time. Start it with --nthreads 1"),
    ):
        run_task(certificates, scheduler, tmp_path)


@pytest.mark.parametrize("joins_later", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_worker_that_does_not_see_the_folder_is_refused(certificates, scheduler, tmp_path, joins_later):
    """The worker has another file system at `tmp_path`, like a machine without the shared one.

    Only a mount namespace can do that in one machine, and some containers forbid it.
    """
    hide = ("unshare", "-rm", "sh", "-c", f'mount -t tmpfs none "{tmp_path}" && exec "$0" "$@"')
    if shutil.which("unshare") is None or subprocess.run([*hide, "true"], capture_output=True).returncode:
        pytest.skip("this machine doesn't allow mount namespaces")
    message = f"its {tmp_path} is another folder. Work in a folder that all machines share"
    worker = worker_command(certificates, scheduler, before=hide)
    with ExitStack() as stack:

        def start_worker():
            stack.enter_context(worker)

        if not joins_later:
            start_worker()
        size, then = (1, start_worker) if joins_later else (None, lambda: None)
        with pytest.raises(KappError, match=message):
            run_task(certificates, scheduler, tmp_path, size, then=then)


def test_a_scheduler_that_ends_ends_the_command(certificates, tmp_path):
    with (
        scheduler_command(certificates, tmp_path) as (process, address),
        pytest.raises(
            KappError, match=r"the connection to the scheduler ended \(.*\. The same command resumes"
        ),
    ):
        run_task(certificates, address, tmp_path, size=1, then=process.kill)


def test_a_scheduler_that_ends_while_the_command_waits_for_workers_is_reported(certificates, tmp_path):
    folder = tmp_path / "work"
    folder.mkdir()
    with scheduler_command(certificates, tmp_path) as (process, address):

        def kill_once_connected():
            wait_until(lambda: any(folder.iterdir()))
            process.kill()

        killer = threading.Thread(target=kill_once_connected)
        killer.start()
        with pytest.raises(KappError, match="the connection to the scheduler ended"):
            run_task(certificates, address, folder)
        killer.join()


@pytest.mark.slow
def test_a_scheduler_that_ended_between_two_tasks_is_reported(certificates, tmp_path):
    tls = tuple(certificates / f"right-{name}.pem" for name in ("ca", "cert", "key"))
    with (
        scheduler_command(certificates, tmp_path) as (process, address),
        worker_command(certificates, address),
        cluster.connect(address, tls, None, tmp_path) as workers,
    ):
        assert workers.size == 1
        process.kill()
        process.wait()
        with pytest.raises(KappError, match="the connection to the scheduler ended"):
            workers.size  # noqa: B018


def test_a_file_that_is_no_certificate_is_named(tmp_path):
    (tmp_path / "file").write_text("no certificate")
    tls = (tmp_path / "file",) * 3
    message = r"cannot connect to the scheduler at tls://127.0.0.1:9: .*(PEM|certificate)"
    with (
        pytest.raises(KappError, match=message),
        cluster.connect("tls://127.0.0.1:9", tls, None, tmp_path),
    ):
        pass


@pytest.mark.parametrize(
    ("address", "is_encrypted"),
    [
        ("tls://10.0.0.5:8786", True),
        ("tls://login.example:8786", True),
        ("tcp://127.0.0.1:8786", False),
        ("tcp://localhost:8786", False),
        ("tcp://[::1]:8786", False),
    ],
)
def test_addresses(address, is_encrypted):
    assert cluster.check_address(address, insecure=False) == is_encrypted


@pytest.mark.parametrize(
    "address", ["10.0.0.5:8786", "tls://10.0.0.5", "http://a:1", "tls://a:b", "tls://a:1/x"]
)
def test_what_is_no_address(address):
    with pytest.raises(ConfigError, match="it must be like tls://10.0.0.5:8786"):
        cluster.check_address(address, insecure=True)


def test_a_connection_without_encryption_stays_on_this_machine():
    with pytest.raises(ConfigError, match="isn't encrypted .* use tls:// with certificates, or"):
        cluster.check_address("tcp://10.0.0.5:8786", insecure=False)
    assert not cluster.check_address("tcp://10.0.0.5:8786", insecure=True)


def test_two_commands_can_use_one_folder(tmp_path):
    killed = subprocess.Popen([sys.executable, "-c", ""])
    killed.wait()
    name = f".shared-{platform.node()}-{killed.pid}-x"
    for left in (name, f"{name}-trial-1", f".shared-other-machine-{killed.pid}-x"):
        (tmp_path / left).touch()
    with cluster.local(1, tmp_path) as first, cluster.local(1, tmp_path) as second:
        for workers in (first, second):
            workers.submit(Task("a", cluster_tasks.describe, {}))
            assert [result.error for result in workers.completed()] == [None]
    assert [path.name for path in tmp_path.iterdir()] == [f".shared-other-machine-{killed.pid}-x"]


def test_kills_that_left_progress_do_not_count(tmp_path, capfd):
    """The task's worker is killed five times, each time after a step that need not be repeated."""
    deaths = tmp_path / "deaths"
    arguments = {"path": str(deaths), "times": 5}
    with cluster.local(1, tmp_path) as workers:
        workers.submit(
            Task("a", cluster_tasks.die, arguments, lambda: deaths.read_text() if deaths.exists() else "")
        )
        [result] = workers.completed()
    assert (result.value, result.error) == (5, None)
    assert "a: progressed before its workers ended, runs again" in capfd.readouterr().out


def text_of(path: Path) -> str:
    return path.read_text() if path.exists() else ""


@pytest.mark.parametrize(
    ("times", "counts"),
    [(1, False), *(pytest.param(*each, marks=pytest.mark.slow) for each in ((4, True), (9, False)))],
)
def test_the_worker_of_a_task_that_never_ends_is_restarted(tmp_path, capfd, times, counts):
    """Its worker is stopped. `counts`: each attempt makes progress first, so that three don't suffice."""
    stops, before = tmp_path / "stops", children()
    arguments = {"path": str(stops), "times": times}
    with cluster.local(1, tmp_path, stall_seconds=1) as workers:
        workers.submit(Task("a", cluster_tasks.stop, arguments, (lambda: text_of(stops)) if counts else None))
        [result] = workers.completed()
    if times == 9:
        assert (result.error, len(text_of(stops))) == ("it made no progress, 3 times", 3)
    else:
        assert (result.value, result.error) == (times, None)
    printed = capfd.readouterr().out
    assert printed.count("a: no progress for") == min(times, 3 if times == 9 else times)
    assert ("a: progressed before its workers ended, runs again" in printed) == counts
    assert children() == before


def test_a_slow_task_keeps_its_worker(tmp_path, capfd):
    """Its steps take half of the time after which its worker would be restarted."""
    file = tmp_path / "steps"
    arguments = {"path": str(file), "steps": 10, "seconds": 0.5}
    with cluster.local(1, tmp_path, stall_seconds=1) as workers:
        workers.submit(Task("a", cluster_tasks.work_slowly, arguments, lambda: text_of(file)))
        waiting = {"path": str(tmp_path / "2"), "steps": 1, "seconds": 0}
        workers.submit(Task("b", cluster_tasks.work_slowly, waiting, lambda: 0))  # behind the first
        assert [(each.task, each.error) for each in workers.completed()] == [("a", None), ("b", None)]
    assert "no progress" not in capfd.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["steps"]
