"""Convolution: Keras's own layer, its maps left where they are."""

from typing import Any

import keras
from keras import ops


class Conv2D(keras.layers.Conv2D):
    """Keras's layer, and Keras's own in a file. On PyTorch Keras copies the maps to channels first, and back
    again, before it convolves them channels last."""

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        simple = self.groups == 1 and self.dilation_rate == (1, 1) and self.data_format == "channels_last"
        if keras.backend.backend() != "torch" or not simple:
            return super().convolution_op(inputs, kernel)
        from torch.nn.functional import conv2d, pad

        maps = inputs.movedim(-1, 1)
        sides = list(zip(inputs.shape[1:3], self.kernel_size, self.strides))
        short = [max(0, (-(-n // step) - 1) * step + size - n) for n, size, step in sides]
        if self.padding == "valid":
            short = [0, 0]
        if any(missing % 2 for missing in short):  # the odd one comes last
            height, width = short
            maps = pad(maps, (width // 2, width - width // 2, height // 2, height - height // 2))
            short = [0, 0]
        half = [missing // 2 for missing in short]
        kernel = ops.convert_to_tensor(kernel).permute(3, 2, 0, 1)
        return conv2d(maps, kernel, None, self.strides, half).movedim(1, -1)


Conv2D.__module__ = "keras.layers"  # by that name a file finds Keras's
