"""CIFAR-10 and CIFAR-100 in their binary versions.

The Python versions are pickles, which can run any code when opened, so they are never read.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jdd.data import files
from jdd.data.dataset import Split, checked
from jdd.errors import UserError

_PIXELS = 3 * 32 * 32

# Per set: the training files, the test files, and how many label bytes lead a record.
# CIFAR-100 has two, the coarse label and then the fine one, which is the class.
_LAYOUTS = {
    "cifar10": (tuple(f"data_batch_{i}.bin" for i in range(1, 6)), ("test_batch.bin",), 1),
    "cifar100": (("train.bin",), ("test.bin",), 2),
}
_CLASSES = {"cifar10": 10, "cifar100": 100}
_PICKLED = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}
_ARCHIVES = {"cifar10": "cifar-10-binary.tar.gz", "cifar100": "cifar-100-binary.tar.gz"}


def read(name: str, directories: Sequence[Path]) -> tuple[Split, Split] | None:
    """Train and test of `cifar10` or `cifar100` from the first directory that holds its files.

    Returns None where none does.

    Raises:
      UserError: files are missing or damaged, or only the pickled Python version is there.
    """
    train_names, test_names, label_bytes = _LAYOUTS[name]
    paths = files.find_all(directories, train_names + test_names)
    if paths is None:
        _refuse_pickles(name, directories)
        return None
    splits = [
        checked(*read_records(group, label_bytes), _CLASSES[name], group[0].parent)
        for group in (paths[: len(train_names)], paths[len(train_names) :])
    ]
    return splits[0], splits[1]


def read_records(paths: Sequence[Path], label_bytes: int) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, 32, 32, 3) uint8 and the last label byte of each record, over all files.

    Raises:
      UserError: a file whose length is no multiple of a record's.
    """
    length = label_bytes + _PIXELS
    parts = []
    for path in paths:
        content = files.read(path)
        if not content or len(content) % length:
            raise UserError(
                f"{path}: {len(content)} bytes is no multiple of a {length}-byte record;"
                " the file is damaged, download it again"
            )
        parts.append(np.frombuffer(content, np.uint8).reshape(-1, length))
    records = np.concatenate(parts)
    # A record holds all red pixels, then all green, then all blue.
    images = records[:, label_bytes:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return images, records[:, label_bytes - 1]


def _refuse_pickles(name: str, directories: Sequence[Path]) -> None:
    folder = _PICKLED[name]
    for directory in directories:
        for place in (directory, directory / folder):
            if place.name == folder and place.is_dir():
                raise UserError(
                    f"{place}: this is the pickled Python version of {name}, which is not read;"
                    f" get the binary version ({_ARCHIVES[name]}) and unpack it there"
                )
