"""Convolution without memory reordering on PyTorch."""

from typing import Any

import keras
from keras import ops

from kapp.keras_internals import saved_as_keras


@saved_as_keras
class Conv2D(keras.layers.Conv2D):
    """Same results and saved format as `keras.layers.Conv2D`; no copies between memory orders on PyTorch.

    There, Keras copies inputs to channels first and back before it convolves them channels last.

    Example:

    >>> Conv2D(4, 3, padding="same")(ops.ones((2, 8, 8, 3))).shape == (2, 8, 8, 4)
    True
    """

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        plain = self.groups == 1 and self.dilation_rate == (1, 1) and self.data_format == "channels_last"
        if keras.backend.backend() != "torch" or not plain:
            return super().convolution_op(inputs, kernel)
        from torch.nn.functional import conv2d, pad

        x = inputs.movedim(-1, 1)
        padding = [0, 0]
        if self.padding == "same":
            sides = zip(inputs.shape[1:3], self.kernel_size, self.strides)
            padding = [max(0, (-(-n // stride) - 1) * stride + size - n) for n, size, stride in sides]
        if any(pixels % 2 for pixels in padding):  # the odd pixel comes last
            height, width = padding
            x = pad(x, (width // 2, width - width // 2, height // 2, height - height // 2))
            padding = [0, 0]
        kernel = ops.convert_to_tensor(kernel).permute(3, 2, 0, 1)
        return conv2d(x, kernel, None, self.strides, [pixels // 2 for pixels in padding]).movedim(1, -1)
