"""SVHN's cropped digits in their published MATLAB files, as torchvision stores them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jdd.data import files, mat
from jdd.data.dataset import Split, checked
from jdd.errors import UserError

FILES = ("train_32x32.mat", "test_32x32.mat")


def read(directories: Sequence[Path]) -> tuple[Split, Split] | None:
    """Train and test from the first directory that holds both files; None where none does.

    Raises:
      UserError: one of the two is missing, or damaged.
    """
    paths = files.find_all(directories, FILES)
    return None if paths is None else (_read_split(paths[0]), _read_split(paths[1]))


def _read_split(path: Path) -> Split:
    try:
        content = mat.read_arrays(files.read(path), ("X", "y"))
    except ValueError as error:
        raise UserError(f"{path}: not a complete SVHN file ({error}); download it again") from error
    images, labels = content["X"], content["y"].reshape(-1)
    if not ((labels >= 0) & (labels <= 255) & (labels == labels.astype(np.int64))).all():
        raise UserError(f"{path}: labels that are no small whole numbers; download it again")
    labels = labels.astype(np.int64)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[:3] != (32, 32, 3):
        raise UserError(f"{path}: images of shape {images.shape}, SVHN's are (32, 32, 3, n)")
    labels[labels == 10] = 0  # MATLAB counts from 1, so there the digit 0 has label 10
    return checked(images.transpose(3, 0, 1, 2), labels, 10, path)
