"""kapp: does an image classifier need depth, convolution, pooling, pre-training? Ask by experiment."""

__version__ = "0.1.0"
