"""A recipe's command, stopped when its training step --step has ended; answers with a line of JSON, and ends.

python -m benchmarks.ways.start --step 1 train --model linear_3 --dataset shapes --out /tmp/started
"""

import argparse
import json
import os
import runpy
import sys
from typing import Any

from benchmarks.turns import peak_bytes
from kapp import cli


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--step", type=int, default=1)
    parser.add_argument("recipe")
    parser.add_argument("words", nargs=argparse.REMAINDER, help="the recipe's own flags")
    arguments = parser.parse_args()
    start_keras = cli.start_keras

    def start_and_watch(name: str | None = None) -> None:
        start_keras(name)
        stop_after(arguments.step)

    cli.start_keras = start_and_watch  # the recipe decides when Keras is imported, as without us
    sys.argv = ["kapp", *arguments.words]
    runpy.run_module(f"kapp.recipes.{arguments.recipe}", run_name="__main__", alter_sys=True)


def stop_after(steps: int) -> None:
    """End this process when `fit` has done `steps`."""
    import keras
    import numpy as np

    ended = keras.callbacks.CallbackList.on_train_batch_end

    def on_train_batch_end(callbacks: Any, batch: int, logs: Any = None) -> None:
        ended(callbacks, batch, logs)
        if batch + 1 >= steps:
            # Only when its loss is a number has a step ended: JAX and GPUs answer before.
            values = {name: float(np.asarray(value)) for name, value in (logs or {}).items()}
            print(json.dumps({"step": batch + 1, "peak_bytes": peak_bytes(), **values}), flush=True)
            os._exit(0)

    keras.callbacks.CallbackList.on_train_batch_end = on_train_batch_end


if __name__ == "__main__":
    main()
