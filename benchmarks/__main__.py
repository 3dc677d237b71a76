"""Measure kapp and its peers, and write reports/performance.

    python -m benchmarks                     all but the times to an accuracy, half an hour on two idle cores
    python -m benchmarks linear_3 memory     these benchmarks; their new rows replace the old ones
    python -m benchmarks --page              only write the page from rows.csv

rows.csv has the rows of a benchmark when it has ended, and those of a training or a curve before.
"""

import argparse
import sys
import time
from pathlib import Path

from benchmarks import results, suite
from kapp.errors import ConfigError, KappError, unknown
from kapp.progress import duration


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=f"{__doc__}\nnames: {', '.join(suite.BY_NAME)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="what to measure")
    parser.add_argument("--repetitions", type=int, default=5, help="after the warm-up (default: 5)")
    parser.add_argument("--out", type=Path, default=Path("reports/performance"), metavar="FOLDER")
    parser.add_argument("--page", action="store_true", help="measure nothing")
    arguments = parser.parse_args()
    try:
        if arguments.repetitions < 1:
            raise ConfigError(f"--repetitions is {arguments.repetitions}: it must be at least 1.")
        for name in arguments.names:
            if name not in suite.BY_NAME:
                raise unknown("benchmark", name, suite.BY_NAME)
        named = [suite.BY_NAME[name] for name in arguments.names]
        selected = [] if arguments.page else named or list(suite.SHORT)
        failed = measure(selected, arguments.repetitions, arguments.out / "rows.csv")
        from benchmarks import page  # only now: its libraries take memory

        print(page.write(arguments.out), flush=True)
        return 1 if failed else 0
    except (ConfigError, KappError) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    except KeyboardInterrupt:
        print(f"\nbenchmarks: interrupted. {arguments.out} has the rows of what had ended.", file=sys.stderr)
        return 130


def measure(benchmarks: list[suite.Benchmark], repetitions: int, path: Path) -> int:
    """Measure `benchmarks`, write the rows of each to the file `path`, and return how many failed."""
    started, failed = time.perf_counter(), 0
    for number, benchmark in enumerate(benchmarks):
        left = (time.perf_counter() - started) / max(1, number) * (len(benchmarks) - number)
        estimate = f", about {duration(left)} left" if number else ""
        print(f"[{number + 1}/{len(benchmarks)}] {benchmark.name}{estimate}", flush=True)
        conditions = results.conditions()
        try:
            costs: results.Costs = {}
            for more in benchmark.measure(repetitions, lambda line: print(f"    {line}", flush=True)):
                costs |= more
                results.replace(path, benchmark.name, costs, conditions)
        except KappError as error:  # the others can still be measured
            print(f"benchmarks: {benchmark.name} failed: {error}", file=sys.stderr, flush=True)
            failed += 1
    return failed


if __name__ == "__main__":
    sys.exit(main())
