"""SVHN's cropped digits in their published MATLAB files, as torchvision stores them."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jdd.data import files
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
    from scipy.io import loadmat

    file = io.BytesIO(files.read(path))
    try:
        content = loadmat(file, variable_names=["X", "y"])
        images, labels = content["X"], content["y"].reshape(-1).astype(np.int64)
    except Exception as error:  # SciPy raises nearly anything, down to IndexError, on cut files
        raise UserError(f"{path}: not a complete SVHN file ({error}); download it again") from error
    if images.ndim != 4 or images.shape[:3] != (32, 32, 3):
        raise UserError(f"{path}: images of shape {images.shape}, SVHN's are (32, 32, 3, n)")
    labels[labels == 10] = 0  # MATLAB counts from 1, so there the digit 0 has label 10
    return checked(images.transpose(3, 0, 1, 2), labels, 10, path)
