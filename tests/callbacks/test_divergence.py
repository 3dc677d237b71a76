import math

import pytest

from kapp.callbacks import Divergence
from kapp.errors import Untrainable
from kapp.runs import Run


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_last_step_that_breaks_the_weights_is_seen_in_validation(tmp_path, loss):
    callback = Divergence(Run.start(tmp_path / "run", {"recipe": "train"}))
    callback.on_epoch_begin(2)
    callback.on_train_batch_end(0, {"loss": 1.0})
    callback.on_epoch_end(1, {"loss": 1.0, "val_loss": 9.0})
    with pytest.raises(Untrainable, match="diverged: the loss is (nan|inf) on validation images .* epoch 3"):
        callback.on_epoch_end(2, {"loss": 1.0, "val_loss": loss})
