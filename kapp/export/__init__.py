"""Export trained networks to other formats, and run a model of any format.

Importing this package imports neither Keras nor anything of kapp's training.
"""
