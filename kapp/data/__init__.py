"""Data sets by name: images, labels and seeded splits. Importing this package imports no Keras."""

from kapp.data.dataset import Dataset, Split, load
from kapp.data.sampling import Augmentation

__all__ = ["Augmentation", "Dataset", "Split", "load"]
