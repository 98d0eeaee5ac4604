"""What settings are chosen by: how large images are, of how many channels and classes."""

from typing import NamedTuple

import numpy as np


class Traits(NamedTuple):
    """A dataset's images as networks see them."""

    side: int
    """pixels, of the shorter side"""
    channels: int
    classes: int
    images: int
    """to train on"""
    smallest: int
    """of these, in the class that has the fewest"""

    @classmethod
    def of(cls, shape: tuple[int, ...], labels: np.ndarray, classes: int) -> "Traits":
        """Of training images `(h, w, c)` with labels int `(n,)`."""
        counts = np.bincount(labels, minlength=classes)
        return cls(min(shape[:2]), shape[2], classes, len(labels), int(counts.min()))

    def __str__(self) -> str:
        kind = "grey" if self.channels == 1 else "RGB"
        return (
            f"{kind}, {self.side} pixels a side or more, {self.classes} classes of {self.smallest} "
            "training images or more"
        )


class Shape(NamedTuple):
    """A dataset that others publish settings for."""

    train: int
    test: int
    side: int
    channels: int
    classes: int


MOST_SIDE = 4096  # of an image, in pixels
IMAGENET = "imagenet"
"""what the subsets of ImageNet are called where settings are published for them"""
SHAPES = {
    "digits": Shape(1437, 360, 8, 1, 10),
    "mnist": Shape(60000, 10000, 28, 1, 10),
    "fashion_mnist": Shape(60000, 10000, 28, 1, 10),
    "svhn": Shape(73257, 26032, 32, 3, 10),
    "cifar10": Shape(50000, 10000, 32, 3, 10),
    "cifar100": Shape(50000, 10000, 32, 3, 100),
    "mhist": Shape(2175, 977, 128, 3, 2),
    "tiny_imagenet": Shape(100000, 10000, 64, 3, 200),
    IMAGENET: Shape(13000, 500, 128, 3, 10),
}
