import math

import pytest

from kapp.callbacks import StopOnNonFiniteLoss
from kapp.errors import TrainingFailed
from tests.training.helpers import new_run


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_weights_that_the_last_step_broke_show_in_validation(tmp_path, loss):
    callback = StopOnNonFiniteLoss(new_run(tmp_path / "run"))
    callback.on_epoch_begin(2)
    callback.on_train_batch_end(0, {"loss": 1.0})
    callback.on_epoch_end(1, {"loss": 1.0, "val_loss": 9.0})
    message = "diverged: the loss is (nan|inf) on validation images .* epoch 3"
    with pytest.raises(TrainingFailed, match=message):
        callback.on_epoch_end(2, {"loss": 1.0, "val_loss": loss})
