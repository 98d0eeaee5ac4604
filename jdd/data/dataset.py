"""A labelled dataset in memory: what every reader returns and `load` hands out."""

import dataclasses

import numpy as np

from jdd.errors import UserError
from jdd.preprocessing import Preprocess


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """Images with their labels, as stored: not preprocessed."""

    images: np.ndarray  # (n, h, w, c) uint8
    labels: np.ndarray  # (n,) int32
    fingerprint: str = ""  # where the reader knows it by the files that the images come from

    def __len__(self) -> int:
        return len(self.labels)


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """A dataset: its two splits, the names of its classes, and how its pixels are preprocessed."""

    name: str
    train: Split
    test: Split
    class_names: tuple[str, ...]
    preprocess: Preprocess
    fingerprint: str = ""
    """`jdd.data.fingerprint` of the training images as stored; empty: not known"""

    def __str__(self) -> str:
        names = ", ".join(self.class_names[:5]) + ", …" * (self.num_classes > 5)
        counts = f"{len(self.train):,} training and {len(self.test):,} test images"
        return f"{self.num_classes:,} classes ({names}), {counts}"

    @property
    def num_classes(self) -> int:
        """How many classes the labels tell apart."""
        return len(self.class_names)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(h, w, c) of every image."""
        return self.preprocess.image_shape


def checked(images: np.ndarray, labels: np.ndarray, num_classes: int, origin: object) -> Split:
    """A `Split` of (n, h, w, c) uint8 images and their labels, as they came from `origin`.

    Raises:
      UserError: images or labels of another kind, none, a different number of labels, or a label
        outside 0 … num_classes − 1.
    """
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3):
        raise UserError(
            f"{origin}: images are {images.dtype} {images.shape}: uint8 (n, h, w, 1 or 3) from 0 to"
            " 255 are needed"
        )
    if labels.dtype.kind not in "iu" or labels.ndim != 1:
        raise UserError(
            f"{origin}: labels are {labels.dtype} {labels.shape}: whole numbers (n,) are needed"
        )
    if len(images) != len(labels):
        raise UserError(f"{origin}: {len(images)} images, but {len(labels)} labels")
    if not images.size:
        raise UserError(f"{origin}: no images in it")
    labels = labels.astype(np.int64)
    if labels.min() < 0 or labels.max() >= num_classes:
        wrong = int(labels.min() if labels.min() < 0 else labels.max())
        raise UserError(
            f"{origin}: label {wrong} is outside 0 to {num_classes - 1}; the file is damaged"
            " or belongs to another dataset"
        )
    return Split(np.ascontiguousarray(images), labels.astype(np.int32))
