"""A dataset of one's own: scikit-learn's digits, told apart into even and odd ones."""

import numpy as np
from sklearn.datasets import load_digits

from jdd import data


def read():
    """Train and test: uint8 images `(n, h, w, c)` and int32 labels."""
    images, digits = load_digits(return_X_y=True)
    images = np.round(images * 255 / 16).astype(np.uint8).reshape(-1, 8, 8, 1)
    labels = (digits % 2).astype(np.int32)
    return data.Split(images[360:], labels[360:]), data.Split(images[:360], labels[:360])


data.register("parity", read, class_names=("even", "odd"))
