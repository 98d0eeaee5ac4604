"""Resizing a split's images."""

import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from jdd.data.dataset import Split

if TYPE_CHECKING:
    from PIL import Image


def resize(split: Split, size: int) -> Split:
    """The split with its images (n, h, w, c) resized to (n, size, size, c), bilinear.

    Pillow averages over the pixels that a smaller one covers, as torchvision's resize does.
    """
    if split.images.shape[1:3] == (size, size):
        return split
    from PIL import Image

    resized = np.empty((len(split), size, size, split.images.shape[-1]), np.uint8)

    def one(i: int) -> None:
        pixels = split.images[i]
        image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
        scaled = np.asarray(squeezed(image, size))
        resized[i] = scaled.reshape(resized.shape[1:])

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        # Exhausting the results is what raises an error of a worker here.
        for _ in pool.map(one, range(len(split)), chunksize=256):
            pass
    return Split(resized, split.labels)


def squeezed(picture: "Image.Image", size: int) -> "Image.Image":
    """The picture as a square of so many pixels, bilinear; see `resize`."""
    from PIL import Image

    if picture.size == (size, size):
        return picture
    return picture.resize((size, size), Image.Resampling.BILINEAR)
