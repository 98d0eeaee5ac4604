"""The IDX files of MNIST and Fashion-MNIST."""

import math
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jdd.data import files
from jdd.data.dataset import Split, checked
from jdd.errors import UserError

FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)

# The two sets use the same file names, so a file in the wrong folder would pass for the other set
# without a word. Their first training labels tell them apart.
_FIRST_LABELS = {
    "mnist": (5, 0, 4, 1, 9, 2, 1, 3, 1, 4),
    "fashion_mnist": (9, 0, 0, 3, 0, 2, 7, 2, 5, 5),
}


def read(name: str, directories: Sequence[Path]) -> tuple[Split, Split] | None:
    """Train and test of `mnist` or `fashion_mnist` from the first directory that holds its files.

    Returns None where none does.

    Raises:
      UserError: files are missing, damaged, or the other set's.
    """
    paths = files.find_all(directories, FILES)
    if paths is None:
        return None
    train_images, train_labels, test_images, test_labels = (
        read_array(path, dimensions) for path, dimensions in zip(paths, (3, 1, 3, 1), strict=True)
    )
    for other, first in _FIRST_LABELS.items():
        if other != name and tuple(train_labels[: len(first)].tolist()) == first:
            raise UserError(f"{paths[0].parent}: these files are {other}, not {name}")
    train = checked(train_images[..., np.newaxis], train_labels, 10, paths[0])
    test = checked(test_images[..., np.newaxis], test_labels, 10, paths[2])
    if train.images.shape[1:] != test.images.shape[1:]:
        raise UserError(
            f"{paths[2]}: images of {test.images.shape[1:3]}, but those of {paths[0].name}"
            f" are {train.images.shape[1:3]}"
        )
    return train, test


def read_array(path: Path, dimensions: int) -> np.ndarray:
    """The uint8 array of an IDX file with that many dimensions.

    Raises:
      UserError: wrong magic number, or a length that does not fit the dimensions in the header.
    """
    content = files.read(path)
    header = 4 + 4 * dimensions
    magic = (0x08 << 8) | dimensions  # two zero bytes, 8 for unsigned bytes, the dimensions
    if len(content) < header:
        raise UserError(f"{path}: {len(content)} bytes is too short for an IDX file")
    (stored,) = struct.unpack_from(">I", content)
    if stored != magic:
        raise UserError(f"{path}: magic number {stored:#010x} instead of {magic:#010x}: not IDX")
    shape = struct.unpack_from(f">{dimensions}I", content, 4)
    expected = header + math.prod(shape)
    if len(content) != expected:
        sizes = "×".join(map(str, shape))
        raise UserError(
            f"{path}: {len(content)} bytes, but its header says {sizes}, which is {expected};"
            " the file is damaged, download it again"
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)
