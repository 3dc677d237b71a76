"""Writes a data set of kapp's as PNG files: pictures/train, pictures/validation and pictures/test, by class.

    python pictures.py cifar10              # 800, 200 and 200 images per class
    python pictures.py shapes 40 20 20      # other numbers
"""
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from kapp import data

name, *numbers = sys.argv[1:]
train, validation, test = map(int, numbers or (800, 200, 200))
dataset = data.load(name, validation_images=0)
for label, class_name in enumerate(dataset.classes):
    learn, score = (
        np.sort(split.samples[split.labels == label]) for split in (dataset.train, dataset.test)
    )
    parts = {"train": learn[:train], "validation": learn[train : train + validation], "test": score[:test]}
    for part, samples in parts.items():
        folder = Path("pictures") / part / class_name
        folder.mkdir(parents=True)
        for sample in samples:
            Image.fromarray(dataset.images[sample]).save(folder / f"{sample:05d}.png")
