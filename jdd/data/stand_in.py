"""Datasets of the right shape with nothing in them: to compile for, where no files are at hand."""

import jax.numpy as jnp
import numpy as np

from jdd.data.class_names import imagenet_subset
from jdd.data.dataset import Dataset, Split
from jdd.data.registry import FOLDER, check_name
from jdd.data.shapes import IMAGENET, SHAPES
from jdd.errors import SettingError
from jdd.preprocessing import KINDS, Preprocess, Zca


def has_stand_in(name: str) -> bool:
    """Whether the dataset's shape is known without its files."""
    return (name in SHAPES and name != IMAGENET) or bool(imagenet_subset(name))


def stand_in(name: str, image_size: int | None = None, preprocessing: str = "standard") -> Dataset:
    """A dataset of black images, in the shape and the classes of the one named.

    Args:
      name: one of the datasets that come with jdd, or `folder:PATH#SUBSET` for a subset of
        ImageNet.
      image_size: side that its images are resized to; None: as `jdd.data.load` has it, of ImageNet
        128.
      preprocessing: one of `jdd.preprocessing.KINDS`.

    Raises:
      SettingError: a dataset of the user's own, whose shape only its files tell.
    """
    check_name(name)
    if not has_stand_in(name):
        raise SettingError("dataset", name, "its shape is not known without its files")
    subset = name.startswith(FOLDER)
    train, test, side, channels, classes = SHAPES[IMAGENET if subset else name]
    side = image_size or side
    shape = (side, side, channels)

    def split(count: int) -> Split:
        images = np.broadcast_to(np.zeros((), np.uint8), (count, *shape))
        return Split(images, np.arange(count, dtype=np.int32) % classes)

    zeros, ones = jnp.zeros(channels), jnp.ones(channels)
    kind = next((each for each in KINDS if each == preprocessing), KINDS[0])
    preprocess = Preprocess(zeros, ones, _zca(shape) if kind != "standard" else None, kind, shape)
    names = tuple(str(label) for label in range(classes))
    return Dataset(name, split(train), split(test), names, preprocess)


def _zca(shape: tuple[int, int, int]) -> Zca:
    size = int(np.prod(shape))
    square = jnp.zeros((size, size))
    return Zca(jnp.zeros(size), square, square)
