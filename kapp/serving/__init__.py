"""Serving: networks become files that need no kapp, and any such file answers images with probabilities.

Knows nothing of training. Importing this package imports no Keras.
"""
