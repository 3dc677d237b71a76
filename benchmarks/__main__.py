"""Measure kapp beside its peers, and write the page of it.

    python -m benchmarks                     all, about 25 minutes on two idle cores
    python -m benchmarks linear_3 memory     these; a row measured again replaces the earlier one
    python -m benchmarks --page              only write the page from rows.csv

What is measured is in rows.csv as soon as a row is done.
"""

import argparse
import sys
import time
from pathlib import Path

from benchmarks import experiments, results
from kapp.errors import Failure, WrongValue
from kapp.words import duration


def main() -> int:
    names = ", ".join(experiment.name for experiment in experiments.ALL)
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=f"{__doc__}\nnames: {names}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="what to measure (default: all)")
    parser.add_argument("--turns", type=int, default=5, help="of each side, after the first (default: 5)")
    parser.add_argument("--out", type=Path, default=Path("reports/performance"), metavar="FOLDER")
    parser.add_argument("--page", action="store_true", help="measure nothing")
    arguments = parser.parse_args()
    try:
        if arguments.turns < 1:
            raise WrongValue(f"--turns is {arguments.turns}: it must be at least 1.")
        failed = 0 if arguments.page else measure(arguments.names, arguments.turns, arguments.out)
        from benchmarks import page  # after the measuring, which its libraries' memory has no part in

        print(page.write(arguments.out), flush=True)
        return 1 if failed else 0
    except (WrongValue, Failure) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2 if isinstance(error, WrongValue) else 1
    except KeyboardInterrupt:
        print(f"\nbenchmarks: interrupted. {arguments.out} holds the rows that were done.", file=sys.stderr)
        return 130


def measure(names: list[str], turns: int, out: Path) -> int:
    """Measure what is called `names` and keep each row as soon as it is done; how many of them failed."""
    asked = experiments.chosen(names)
    started, failed, done, of = time.perf_counter(), 0, 0, sum(each.sides for each in asked)
    for number, each in enumerate(asked, start=1):
        spent = time.perf_counter() - started
        left = f", about {duration(spent / done * (of - done))} left" if done else ""
        print(f"[{number}/{len(asked)}] {each.name}{left}", flush=True)
        load = results.load()
        try:
            lines = each.measure(turns, lambda line: print(f"    {line}", flush=True))
            results.replace_row(out / "rows.csv", each.name, lines, load)
        except Failure as error:  # the others can still be measured
            print(f"benchmarks: {each.name} failed: {error}", file=sys.stderr, flush=True)
            failed += 1
        done += each.sides
    print(f"measured in {duration(time.perf_counter() - started)}", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
