"""Keras callbacks, one a file."""

from kapp.callbacks.dead_loss import DeadLoss
from kapp.callbacks.divergence import Divergence
from kapp.callbacks.epoch_answers import EpochAnswers
from kapp.callbacks.exact_resume import ExactResume
from kapp.callbacks.metrics_file import MetricsFile
from kapp.callbacks.progress import Progress
from kapp.callbacks.speed import Speed

__all__ = ["DeadLoss", "Divergence", "EpochAnswers", "ExactResume", "MetricsFile", "Progress", "Speed"]
