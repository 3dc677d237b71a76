"""The long form of the tests of reliability: `make torture BACKEND=jax MINUTES=10 SEED=0`.

Each case is one of:

- kill: a command is killed (SIGKILL) at a random moment, or at one of its write points: where it opens a file
  to write, renames or removes one. Then it runs again and must leave the same bits as without the kill.
- damage: a file that a command reads is damaged, removed, or exchanged for that of another run: a file of a
  finished run, or of its own run folder after a kill. The command must leave the same bits, or end with
  status 1 or 2 and one line.
- flags: a command line with random flags and values must be accepted, or end with status 1 or 2 and one line;
  with status 2 nothing is written.
- full: no file can become larger than a few bytes. The command ends with one line. Then, without the limit,
  it must leave the same bits.

A case is a child process of one that has imported Keras, which saves the seconds of its start. The cases are
those of the seed; how many there are depends on the time. Write points, file sizes, and files with their
damages come in a fixed mixed order, none a second time before all have come: a run with `--out` continues
where the runs in that report ended. A case that fails is printed, and its folder stays.
"""

import argparse
import csv
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from kapp import cli
from kapp.fileio import PARTIAL
from tests.helpers import DAMAGES, weight_bytes_in, write_tiny_npz

NETWORK = "8c-mp-d0.3-8c1x1-3c1x1-gap"  # dropout draws random numbers; a transfer replaces the last layer
TRAINING = "--batch-size 20 --crop-padding 1 --data-dir data --out out"
DISTILL = "distill --teacher teacher --student 8fc-3fc --no-baseline --dataset npz:tiny.npz --epochs 4"
COMMANDS = {
    "train": f"train --model {NETWORK} --dataset npz:tiny.npz --epochs 4 {TRAINING}",
    "distill, cached": f"{DISTILL} {TRAINING}",
    "distill, live": f"{DISTILL} --teacher-logits live {TRAINING}",
    "transfer": "transfer --source teacher --target npz:target.npz --no-scratch-baseline --probe-epochs 2 "
    f"--epochs 2 --scale small {TRAINING}",
    "sweep": "sweep train --model 8fc-3fc --dataset npz:tiny.npz --epochs 2 --tuner random --trials 2 "
    f"--search learning_rate {TRAINING}",
    "export": "export --run teacher --format onnx --out out",
    "evaluate": "evaluate --run teacher --out out",
    "report": "report --runs teacher --out out",
    "report of a sweep": "report --sweep sweep --out out",
}
# The folders with the files that a command reads, but for `out` of a killed one.
READS = {
    "train": [],
    "distill, cached": ["teacher"],
    "distill, live": ["teacher"],
    "transfer": ["teacher"],
    "sweep": [],
    "export": ["teacher"],
    "evaluate": ["teacher"],
    "report": ["teacher"],
    "report of a sweep": ["sweep"],
}
RESUMED = ("train", "distill, cached", "distill, live", "transfer", "sweep")
AT_ONCE = ("export", "evaluate")  # their folder is complete or absent, and is never replaced
KINDS = {"kill": 2, "damage": 4, "flags": 20, "full": 1}  # cases in turn; most command lines take no time
EVENTS = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir")  # of Python's audit
# By the process that all cases are children of.
IMPORTED = "kapp.training.loop kapp.tuning.search kapp.recipes.settings kapp.reporting.summary tyro".split()
PREPARED = {"teacher": 0, "other": 1}  # runs of NETWORK, by their seeds
# What differs from one execution to the next.
TIMED = {"seconds", "images_per_second", "train_images_per_second", "latency_ms", "created_at", "ended_at"}
TIMED |= {"worker", "checksum", "sha256", "commit"}
OPAQUE = (".png", ".md", ".onnx", ".pb", ".html")  # only their names are compared
# Flags that reach other machines, or start many processes.
NOT_DRAWN = {"coordinator", "process_id", "num_processes", "devices", "scheduler", "workers", "dashboard"}
VALUES = (
    "-1 0 1 2 3 20 0.5 1e-320 nan inf -inf 1e308 99999999999999999999 1e3 true none x linear_3 8fc-3fc "
    "64c^9-10fc npz:tiny.npz npz:gone.npz npz:teacher folder:teacher shapes teacher gone out tiny.npz sgd "
    "adam teacher/config.json cosine kl prob_mse cached live [] {} null ../x ~ * % \\ --epochs -x <b> |x| "
    "été \u202e"
).split(" ")
STRANGE = ["", " ", "a" * 300, "\udcff", "\x1b[2J", "a\nb", *VALUES]
DRAWN = {  # what is drawn for a case
    "kill": ("write points",),
    "damage": ("damages before", "damages after a kill"),
    "full": ("sizes of a full disk",),
}
TIMEOUT = 400.0  # seconds; a command that takes longer fails
PAGE = """# Reliability

Commands of kapp that are killed, read damaged files, get random flags, or find a full disk.
[tests/torture.py](../../tests/torture.py) describes the cases.

- *equal*: the files are those of the same command without harm. Networks, metrics, predictions, cached logits
  and results are compared byte for byte, but for times; figures, pages and exports by name.
- *refused*: status 1 or 2 with a message, no traceback.
- *accepted*: a command line whose training began.
- *failed*: anything else.

Run it again with `make torture BACKEND=tensorflow MINUTES=15 SEED=0`; with `TORTUREFLAGS="--out FOLDER"` the
run is added to the report in that folder. A full disk is a limit of the size of a file (`RLIMIT_FSIZE`).
Networks, images and trainings are tiny. Each case is a child of a process that has imported Keras.

**Of what could be tried, these runs tried a part:** the table [below](#how-much-of-it-was-tried) counts it. A
damage is one file with one kind of damage; a write point is where a command opens a file to write, renames or
removes one."""
ENDS = ("cases", "equal", "accepted", "refused", "failed")
FULL_SIZES = [round(200 * 1.4**i) for i in range(20)]  # bytes, up to 120,000


@dataclass
class Outcome:
    """How a command ended: its status, negative after a signal; its output; how many write points it had."""

    status: int
    output: str
    writes: int = 0

    @property
    def error(self) -> str | None:
        """What is wrong with it, whatever it was to do."""
        lines = self.output.strip().splitlines() or [""]
        if "Traceback" in self.output:
            return "a traceback"
        if self.status == 1 and not lines[-1].startswith("kapp: "):
            return "status 1 without a line of kapp"
        return None if self.status in (0, 1, 2) else f"status {self.status}"


def run(words: list[str], folder: Path, *, kill_at=0, seconds=TIMEOUT, file_size=0, until=None) -> Outcome:
    """Run `kapp WORDS` in `folder`, in a child of this process.

    Args:
        kill_at: kill it at this write point, from 1; 0: never.
        seconds: kill it, and the processes that it started, after that time.
        file_size: the largest size of a file, in bytes; 0: no limit.
        until: kill it when this file exists.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        _become_command(words, folder, writer, kill_at, file_size)
    os.close(writer)
    os.set_blocking(reader, False)
    printed, end, status = b"", time.monotonic() + seconds, None
    while status is None:
        ended, code = os.waitpid(pid, os.WNOHANG)
        if ended:
            status = os.waitstatus_to_exitcode(code)
        elif time.monotonic() > end or (until is not None and until.exists()):
            os.killpg(pid, signal.SIGKILL)
        with suppress(BlockingIOError):
            while part := os.read(reader, 65536):
                printed += part
        time.sleep(0.005)
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)  # the workers of a sweep that was killed
    os.close(reader)
    output, _, writes = printed.decode(errors="replace").partition("\nwrite points: ")
    return Outcome(status, output, int(writes or 0))


def _become_command(words: list[str], folder: Path, writer: int, kill_at: int, file_size: int) -> None:
    """Run the command, and end this process."""
    status, writes = 1, 0
    unlimited, place = resource.getrlimit(resource.RLIMIT_FSIZE), f"{folder}/"

    def count(event: str, arguments: tuple) -> None:
        nonlocal writes
        path, *_, flags = arguments
        is_write = event != "open" or (flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if is_write and not isinstance(path, int) and os.path.abspath(os.fsdecode(path)).startswith(place):
            writes += 1
            if writes == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    try:
        os.setsid()
        os.chdir(folder)
        os.dup2(writer, 1)
        os.dup2(writer, 2)
        sys.argv = ["kapp", *words]
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_size or unlimited[0], unlimited[1]))
        sys.addaudithook(lambda event, arguments: count(event, arguments) if event in EVENTS else None)
        import_module("kapp.recipes.__main__").main()
        status = 0
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os.write(writer, f"\nwrite points: {writes}".encode())
        os._exit(status)


def fingerprint(folder: Path, without: str = "") -> dict[str, Any]:
    """What must be equal of the files in `folder` but `without`: all but times, and of figures and pages the
    names."""
    files = {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {
        name: _content(path)
        for name, path in files.items()
        if name != without and "logs" not in path.parts and not path.name.startswith(".")
    }


def _content(path: Path) -> Any:
    if path.suffix in OPAQUE or path.parent.name == "checkpoints":  # they contain times
        return None
    if path.suffix == ".keras":
        return weight_bytes_in(path)
    if path.suffix == ".json":
        return _untimed(json.loads(path.read_text()))
    if path.suffix == ".csv":
        with open(path, newline="") as file:
            return [_untimed(row) for row in csv.DictReader(file)]
    return path.read_bytes()


def _untimed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _untimed(each) for key, each in value.items() if key not in TIMED}
    return [_untimed(each) for each in value] if isinstance(value, list) else value


def differences(expected: dict[str, Any], found: dict[str, Any]) -> str | None:
    """The names of the files that differ; None: none does."""
    names = [name for name in {**expected, **found} if expected.get(name, 0) != found.get(name, 0)]
    return f"{', '.join(names)} differ" if names else None


@dataclass
class Deck:
    """Items in a fixed mixed order; none comes a second time before all have come.

    Args:
        items: sorted.
        drawn: how many were drawn, by earlier runs as well.
    """

    items: list[Any]
    drawn: int = 0

    def __post_init__(self) -> None:
        random.Random(0).shuffle(self.items)

    def draw(self) -> Any:
        self.drawn += 1
        return self.items[(self.drawn - 1) % len(self.items)]


class Job:
    """A process that tries cases of some commands, one after another.

    Args:
        base: a folder with the data and the prepared runs.
        names: of the commands.
        seed: of the cases.
        tried: by earlier runs, the rows of tried.csv.
    """

    def __init__(self, base: Path, names: list[str], seed: str, tried: list[dict[str, Any]]):
        self._base, self._names, self._random = base, names, random.Random(seed)
        self._tried = {(row["command"], row["what"], int(row["of"])): int(row["tried"]) for row in tried}
        self._whole: dict[str, tuple[dict[str, Any], int, float]] = {}
        self.decks: dict[tuple[str, str], Deck] = {}  # by commands and what is drawn

    def _draw(self, name: str, what: str, items: Callable[[], list[Any]]) -> Any:
        """Draw one of `items` for the command `name`."""
        if (name, what) not in self.decks:
            found = items()
            self.decks[name, what] = Deck(found, self._tried.get((name, what, len(found)), 0))
        return self.decks[name, what].draw()

    def _left(self, name: str, *drawn: str) -> int:
        """How many items of the decks of the command `name` weren't drawn yet; 20 for an unknown deck."""
        known = {what: of - tried for (command, what, of), tried in self._tried.items() if command == name}
        known |= {
            what: len(deck.items) - deck.drawn
            for (command, what), deck in self.decks.items()
            if command == name
        }
        return sum(max(0, known.get(what, 20)) for what in drawn)

    def case(self, kind: str) -> tuple[str, str, str | None]:
        """Try one case; returns the command, how it ended, and what is wrong with that."""
        # A command with more left to try comes more often.
        weights = [1 + self._left(name, *DRAWN.get(kind, ())) for name in self._names]
        [name] = self._random.choices(self._names, weights)
        work = Path(shutil.copytree(self._base, tempfile.mkdtemp(prefix="kapp-") + "/case", symlinks=True))
        try:
            end, what, wrong = getattr(self, f"_{kind}")(name, work)
        except Exception:
            end, what, wrong = "failed", "an error of the test", traceback.format_exc()
        if wrong is None:
            shutil.rmtree(work.parent)
            return name, end, None
        return name, "failed", f"{kind} of {name} ({what}): {wrong}\nfolder: {work}"

    def whole(self, name: str) -> tuple[dict[str, Any], int, float]:
        """What the command leaves without any harm, its number of write points, and its seconds."""
        if name not in self._whole:
            work = Path(shutil.copytree(self._base, tempfile.mkdtemp(prefix="kapp-") + "/whole"))
            start, done = time.monotonic(), run(COMMANDS[name].split(), work)
            if done.status:
                raise RuntimeError(f"{COMMANDS[name]}: {done.output}")
            self._whole[name] = fingerprint(work), done.writes, time.monotonic() - start
            shutil.rmtree(work.parent)
        return self._whole[name]

    def _resumed(self, name: str, work: Path, what: str) -> tuple[str, str, str | None]:
        """The same command must end well, and leave the same files."""
        is_there = name in AT_ONCE and (work / "out").exists()
        done = Outcome(0, "") if is_there else run(COMMANDS[name].split(), work)
        wrong = done.error or (f"status {done.status}" if done.status else None)
        wrong = wrong or differences(self.whole(name)[0], fingerprint(work))
        return "equal", what, wrong and f"{wrong}\n{done.output[-2000:]}"

    def _kill(self, name: str, work: Path) -> tuple[str, str, str | None]:
        _, writes, seconds = self.whole(name)
        kills = []
        for _ in range(self._random.choice((1, 1, 2))):
            if self._random.random() < (0.9 if self._left(name, "write points") else 0.1):
                kills += [{"kill_at": self._draw(name, "write points", lambda: [*range(1, writes + 1)])}]
            else:
                kills += [{"seconds": self._random.uniform(0.1, 1) * seconds}]
            run(COMMANDS[name].split(), work, **kills[-1])
        return self._resumed(name, work, str(kills))

    def _full(self, name: str, work: Path) -> tuple[str, str, str | None]:
        size = self._draw(name, "sizes of a full disk", FULL_SIZES.copy)
        done = run(COMMANDS[name].split(), work, file_size=size)
        if wrong := done.error:
            return "", f"{size} bytes", f"{wrong}\n{done.output[-2000:]}"
        return self._resumed(name, work, f"{size} bytes")

    def _damage(self, name: str, work: Path) -> tuple[str, str, str | None]:
        expected, writes, _ = self.whole(name)
        folders, state = READS[name], "before"
        left = [self._left(name, what) for what in DRAWN["damage"]]
        is_after_a_kill = name in RESUMED and self._random.random() * (sum(left) + 2) < left[1] + 1
        if not folders or is_after_a_kill:
            run(COMMANDS[name].split(), work, kill_at=2 * writes // 3)
            folders, state = ["out", *(["data"] if name == "distill, cached" else [])], "after a kill"
        kept, damage = self._draw(name, f"damages {state}", lambda: _damages(work, folders))
        path = work / kept
        if not path.is_file():
            return self._resumed(name, work, f"without {kept}")
        if damage == "a bit":
            content = bytearray(path.read_bytes() or b"x")
            content[self._random.randrange(len(content))] ^= 1 << self._random.randrange(8)
            path.write_bytes(content)
        elif damage == "exchanged":
            shutil.copyfile(work / kept.replace("teacher/", "other/"), path)
        else:
            DAMAGES[damage](path)
        done = run(COMMANDS[name].split(), work)
        wrong = done.error
        if wrong is None and done.status == 0:
            # Where it isn't read, it may stay as it is.
            wrong = differences({**expected, kept: None}, {**fingerprint(work, without=kept), kept: None})
        what = f"{kept}: {damage}"
        return "refused" if done.status else "equal", what, wrong and f"{wrong}\n{done.output[-2000:]}"

    def _flags(self, name: str, work: Path) -> tuple[str, str, str | None]:
        recipe = COMMANDS[name].split()[0]
        module = import_module(f"kapp.recipes.{recipe}")
        needed = {"out": Path("out")} if recipe == "report" else {}
        config = module.CONFIGS["train"]() if recipe == "sweep" else module.Config(**needed)
        flags = {key: value for key, value in cli.flatten(config).items() if key not in NOT_DRAWN}
        words = COMMANDS[name].split()
        for key in self._random.sample(sorted(flags), self._random.randint(1, 4)):
            flag = key.replace("_", "-")
            if isinstance(flags[key], bool):
                words += [self._random.choice((f"--{flag}", f"--no-{flag}"))]
            else:
                count = self._random.choice((1, 1, 1, 0, 2))
                words += [f"--{flag}", *self._random.choices(STRANGE, k=count)]
        before = _names(work)
        is_long = self._random.random() < 0.05
        done = run(
            words, work, seconds=60 if is_long else 40, until=None if is_long else work / "out/metrics.csv"
        )
        wrong = "a traceback" if done.status == -signal.SIGKILL and "Traceback" in done.output else None
        if done.status != -signal.SIGKILL:
            wrong = done.error
        if wrong is None and done.status == 2 and _names(work) != before:
            wrong = f"it wrote {_names(work) - before}"
        end = "refused" if done.status in (1, 2) else "accepted"
        return end, repr(words), wrong and f"{wrong}\n{done.output[-2000:]}"


def _names(work: Path) -> set[str]:
    """The files in `work`, without the data cache."""
    return {str(path.relative_to(work)) for path in work.rglob("*") if path.parts[len(work.parts)] != "data"}


def _damages(work: Path, folders: list[str]) -> list[tuple[str, str]]:
    """Each file in `folders` of `work` that a command may read, with each damage."""
    files = [path for folder in folders for path in sorted((work / folder).rglob("*"))]
    files = [path for path in files if path.is_file() and path.suffix not in OPAQUE]
    names = [str(path.relative_to(work)) for path in files if not PARTIAL.match(path.name)]
    exchanged = [(name, "exchanged") for name in names if name.startswith("teacher/")]
    return [(name, damage) for name in names for damage in (*DAMAGES, "a bit")] + exchanged


def prepare(base: Path, names: list[str]) -> None:
    """Write the data sets, and train what the commands `names` read."""
    (base / "data").mkdir(parents=True)
    with np.load(write_tiny_npz(base / "tiny.npz")) as held:
        arrays = {name: held[name] for name in held.files}
    arrays |= {name: arrays[name][:, ::-1] for name in ("x_train", "x_test")}
    np.savez(base / "target.npz", **arrays)
    read = {folder for name in names for folder in READS[name]}
    for folder, seed in PREPARED.items() if "teacher" in read else ():
        _must_run(COMMANDS["train"].replace("--out out", f"--out {folder}") + f" --seed {seed}", base)
    if "sweep" in read:
        _must_run(COMMANDS["sweep"].replace("--out out", "--out sweep"), base)


def _must_run(command: str, folder: Path) -> None:
    done = run(command.split(), folder)
    if done.status:
        raise RuntimeError(f"{command}: {done.output}")


def try_cases(job: Job, kinds: list[str], end: float, results: Path) -> None:
    """Try cases of each kind in turn until `end`; write a line of JSON for each, and last what was drawn."""
    with open(results, "a") as file:
        while time.monotonic() < end:
            for kind in (each for each in kinds for _ in range(KINDS[each])):
                if time.monotonic() > end:
                    break
                command, how, wrong = job.case(kind)
                file.write(json.dumps([kind, command, how]) + "\n")
                file.flush()
                if wrong:
                    print(f"FAILED {wrong}\n", flush=True)
    tried = [
        {"command": command, "what": what, "tried": min(deck.drawn, len(deck.items)), "of": len(deck.items)}
        for (command, what), deck in sorted(job.decks.items())
    ]
    results.with_suffix(".tried").write_text(json.dumps(tried))


def write_report(folder: Path, counts: Counter, tried: list[dict[str, Any]], run_row: dict[str, Any]) -> None:
    """Add a run to the report in `folder`: its counts to rows.csv, what was `tried` to tried.csv, `run_row`
    to runs.csv, and all to README.md, with what its author wrote in notes.md. It replaces an earlier run of
    the same backend and seed."""
    key = {name: run_row[name] for name in ("backend", "seed")}
    rows = []
    for kind, command in sorted({each[:2] for each in counts}):
        ends = {end: counts[kind, command, end] for end in ("equal", "accepted", "refused", "failed")}
        rows += [{**key, "kind": kind, "command": command, "cases": sum(ends.values()), **ends}]
    folder.mkdir(parents=True, exist_ok=True)
    rows = _add_rows(folder / "rows.csv", rows, ["backend", "seed"])
    tried = [{"backend": key["backend"], **each} for each in tried]
    tried = _add_rows(folder / "tried.csv", tried, ["backend", "command", "what"])
    runs = _add_rows(folder / "runs.csv", [run_row], ["backend", "seed"])
    notes = folder / "notes.md"
    parts = [
        PAGE,
        *([notes.read_text().strip()] if notes.exists() else []),
        _table(_sums(rows, ["backend", "kind"])),
        "## By command",
    ]
    parts += [_table(_sums(rows, ["backend", "kind", "command"])), "## How much of it was tried"]
    parts += [_table(tried), "## Runs", _table(runs)]
    (folder / "README.md").write_text("\n\n".join(parts) + "\n")


def _read_rows(file: Path) -> list[dict[str, Any]]:
    return list(csv.DictReader(file.read_text().splitlines())) if file.exists() else []


def _add_rows(file: Path, rows: list[dict[str, Any]], key: list[str]) -> list[dict[str, Any]]:
    """Add `rows` to the CSV file, in place of those with the same `key`; returns all of them."""

    def of(row: dict[str, Any]) -> list[str]:
        return [str(row[name]) for name in key]

    new = [of(row) for row in rows]
    rows = sorted([*(row for row in _read_rows(file) if of(row) not in new), *rows], key=of)
    with open(file, "w", newline="") as opened:
        writer = csv.DictWriter(opened, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return rows


def _sums(rows: list[dict[str, Any]], key: list[str]) -> list[dict[str, Any]]:
    """The counts of `rows`, summed over those with the same `key`."""
    sums: dict[tuple, Counter] = {}
    for row in rows:
        place = tuple(row[name] for name in key)
        sums.setdefault(place, Counter()).update({end: int(row[end]) for end in ENDS})
    return [dict(zip(key, place)) | {end: ends[end] for end in ENDS} for place, ends in sums.items()]


def _table(rows: list[dict[str, Any]]) -> str:
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(row.values() for row in rows)]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def main() -> int:
    """Try cases for the time on the command line; returns 1 where one failed."""
    parser = argparse.ArgumentParser(description="Try cases of tests/torture.py.")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2, help="processes that try cases")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument(
        "--commands",
        nargs="+",
        choices=COMMANDS,
        default=[name for name in COMMANDS if name != "export" or cli.backend() == "tensorflow"],
    )
    parser.add_argument("--out", type=Path, help="add the run to the report in this folder")
    arguments = parser.parse_args()
    backend = cli.backend()
    warnings.simplefilter("ignore", RuntimeWarning)  # JAX's of forks: it has no threads yet
    for module in IMPORTED:
        import_module(module)
    root = Path(tempfile.mkdtemp(prefix="kapp-torture-"))
    prepare(base := root / "base", arguments.commands)
    end = time.monotonic() + 60 * arguments.minutes
    tried = _read_rows(arguments.out / "tried.csv") if arguments.out else []
    tried = [row for row in tried if row["backend"] == backend]
    children, results = [], [root / f"{job}.jsonl" for job in range(arguments.jobs)]
    for job, file in enumerate(results):
        if (pid := os.fork()) == 0:
            names = arguments.commands[job :: arguments.jobs]
            try_cases(Job(base, names, f"{arguments.seed}-{job}", tried), arguments.kinds, end, file)
            os._exit(0)
        children += [pid]
    ended_well = {os.waitpid(pid, 0)[1] for pid in children} == {0}
    counts = Counter(tuple(json.loads(line)) for file in results for line in file.read_text().splitlines())
    for key, count in sorted(counts.items()):
        print(*key, count, sep="\t")
    if arguments.out:
        from kapp.training import device

        versions = ", ".join(f"{name} {version(name)}" for name in ("keras", backend, "numpy", "distributed"))
        row = {"backend": backend, "date": time.strftime("%Y-%m-%d"), "seed": arguments.seed}
        row |= {"minutes": arguments.minutes, "commit": device.commit(), "versions": versions}
        tried = [row for file in sorted(root.glob("*.tried")) for row in json.loads(file.read_text())]
        write_report(arguments.out, counts, tried, row)
    failed = sum(count for key, count in counts.items() if key[2] == "failed")
    print(f"{sum(counts.values())} cases, {failed} failed")
    if not failed:
        shutil.rmtree(root)
    return int(failed > 0 or not ended_well)


if __name__ == "__main__":
    sys.exit(main())
