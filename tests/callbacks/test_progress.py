import io

import pytest

from kapp.callbacks.progress import Progress, duration

LOGS = {
    "loss": 1.25,
    "accuracy": 0.5,
    "val_loss": 1.5,
    "val_accuracy": 0.4,
    "images_per_second": 1234.5,
    "seconds": 2.0,
}


def test_a_line_per_epoch_with_the_time_left():
    stream = io.StringIO()
    progress = Progress(3, 10, "linear_3", stream)
    for epoch in range(1, 3):
        progress.on_epoch_begin(epoch)
        progress.on_train_batch_end(0)
        progress.on_epoch_end(epoch, LOGS)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("linear_3  epoch 2/3  loss 1.2500  accuracy 50.0%  val_loss 1.5000")
    assert "1,234 images/s" in lines[0]
    assert lines[1].endswith("0 s left")


def test_the_time_left_is_that_of_whole_rows_after_a_resume_within_a_row():
    stream = io.StringIO()
    progress = Progress(7, 10, "linear_3", stream)
    progress.on_epoch_begin(4)
    progress.on_epoch_end(4, {**LOGS, "seconds": 30.0})  # of which 29 were before the resume
    progress.on_epoch_end(5, {**LOGS, "seconds": 20.0})
    assert [line.split(", ")[-1] for line in stream.getvalue().splitlines()] == ["60 s left", "25 s left"]


@pytest.mark.parametrize(
    ("seconds", "words"), [(4.4, "4 s"), (99, "99 s"), (120, "2 min"), (3600 * 3 + 300, "3 h 05 min")]
)
def test_durations_read_as_people_say_them(seconds, words):
    assert duration(seconds) == words
