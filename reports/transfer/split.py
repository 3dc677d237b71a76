"""Splits a data set of ten classes anew: of each class 200 training, 50 validation and 300 test images.

    python split.py imagenet32_near.npz imagenet32_near_resplit.npz
"""

import sys

import numpy as np

source, out = sys.argv[1:]
data = np.load(source)
images = np.concatenate([data["x_train"], data["x_test"]])
labels = np.concatenate([data["y_train"], data["y_test"]])
order = np.random.default_rng(0).permutation(len(labels))
parts = {"train": slice(0, 200), "validation": slice(200, 250), "test": slice(250, None)}
arrays = {"classes": data["classes"]}
for part, places in parts.items():
    of_classes = [order[labels[order] == number][places] for number in range(len(data["classes"]))]
    chosen = np.sort(np.concatenate(of_classes))
    arrays |= {f"x_{part}": images[chosen], f"y_{part}": labels[chosen]}
np.savez(out, **arrays)
