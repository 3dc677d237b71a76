"""The error of a training that can't continue."""

from kapp.errors import TrainingFailed
from kapp.fileio import is_file
from kapp.run_folder import Run


def training_failed(reason: str, run: Run) -> TrainingFailed:
    """The error with `reason`, the best network of `run` so far, and what to try."""
    kept = f"; the best network so far is {run.model_file}" if is_file(run.model_file) else ""
    return TrainingFailed(
        f"{reason}{kept}. Try a lower --learning-rate, or --schedule cosine with --warmup-epochs."
    )
