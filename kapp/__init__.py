"""kapp: do image classifiers need depth, convolution, pooling, pretraining? Experiments with Keras 3."""

__version__ = "0.1.0"
