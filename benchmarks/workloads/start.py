"""`python -m benchmarks.workloads.start STEP RECIPE ...` runs a recipe until training step STEP has ended."""

import json
import os
import runpy
import shutil
import sys
import tempfile
from typing import Any

from benchmarks.workloads import peak_bytes
from kapp import cli


def main(step: int, recipe: str, *flags: str) -> None:
    start_keras, out = cli.start_keras, tempfile.mkdtemp()

    def start_and_stop(name: str | None = None) -> None:
        start_keras(name)
        from keras.callbacks import CallbackList

        on_train_batch_end = CallbackList.on_train_batch_end

        def stop(callbacks: Any, batch: int, logs: Any = None) -> None:
            on_train_batch_end(callbacks, batch, logs)
            if batch + 1 >= step:
                loss = float(
                    logs["loss"]
                )  # waits for JAX and GPUs: the step has ended when its loss is known
                print(json.dumps({"step": batch + 1, "loss": loss, "peak_bytes": peak_bytes()}), flush=True)
                shutil.rmtree(out)
                os._exit(0)

        CallbackList.on_train_batch_end = stop

    cli.start_keras = start_and_stop  # the recipe decides when it imports Keras
    sys.argv = ["kapp", *flags, "--out", f"{out}/run"]
    runpy.run_module(f"kapp.recipes.{recipe}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
