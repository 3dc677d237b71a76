"""Keras callbacks, one per file."""

from kapp.callbacks.constant_output import StopOnConstantOutput
from kapp.callbacks.heartbeat import Heartbeat
from kapp.callbacks.load_teacher_logits import LoadTeacherLogits
from kapp.callbacks.long_training import LongTraining
from kapp.callbacks.metrics_csv import MetricsCSV
from kapp.callbacks.non_finite_loss import StopOnNonFiniteLoss
from kapp.callbacks.progress import Progress
from kapp.callbacks.resume_checkpoint import ResumeCheckpoint
from kapp.callbacks.resumed_row import ResumedRow
from kapp.callbacks.stop_on_interrupt import StopOnInterrupt
from kapp.callbacks.throughput import Throughput

__all__ = [
    "Heartbeat",
    "LoadTeacherLogits",
    "LongTraining",
    "MetricsCSV",
    "Progress",
    "ResumeCheckpoint",
    "ResumedRow",
    "StopOnConstantOutput",
    "StopOnInterrupt",
    "StopOnNonFiniteLoss",
    "Throughput",
]
