"""Labelled images on the device: the one type that training, testing and methods are given."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from jdd.data.dataset import Split
from jdd.ops.target import platform
from jdd.preprocessing import Preprocess, has_room
from jdd.rows import DividedRows
from jdd.sharding import placed

_AT_ONCE = 1000  # images that are whitened in one product


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class ClassIndex:
    """Where each class's images are."""

    positions: jax.Array  # (classes, m) int32: of each class's images, repeated to fill the row
    counts: jax.Array  # (classes,) int32: how many of a row are its own; m is the largest


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class DeviceData:
    """A labelled set on the device, a pytree: passed into compiled steps as an argument.

    Real images stay uint8 and are preprocessed batch by batch, but for those that `to_device`
    whitens; synthetic ones are preprocessed.
    """

    # (n, h, w, c) uint8, or float32 where `preprocess` is None; of synthetic images an array
    images: jax.Array | DividedRows
    labels: jax.Array  # (n,) int32, or (n, classes) float32 label logits
    preprocess: Preprocess | None = None
    index: ClassIndex | None = None  # where images are drawn class by class

    @property
    def num_classes(self) -> int:
        """How many classes are indexed."""
        return self.class_index.positions.shape[0]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """`(h, w, c)`."""
        height, width, channels = self.images.shape[1:]
        return height, width, channels

    def batch(self, positions: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Images `(b, h, w, c)` float32 and labels of the examples at `positions` `(b,)`."""
        images = self.images[positions]
        if self.preprocess is not None:
            images = self.preprocess(images)
        return images, self.labels[positions]

    def sample_positions(self, key: jax.Array, label: jax.Array | int, n: int) -> jax.Array:
        """Positions `(n,)` int32 of random images of one class, without replacement.

        Pure; `n` is static, `label` may be traced, as under `vmap` over classes. Where a class has
        fewer than `n` images, each appears ⌊n/count⌋ or ⌈n/count⌉ times.
        """
        positions, count = self.class_index.positions, self.class_index.counts[label]
        width = positions.shape[1]
        # The largest of as many uniforms as the class has images are a random draw of them, in
        # random order; the row's repeats get −1, so they come last and are never reached.
        draws = jnp.where(jnp.arange(width) < count, jax.random.uniform(key, (width,)), -1.0)
        _, order = jax.lax.top_k(draws, min(n, width))
        return positions[label, order[jnp.arange(n) % jnp.maximum(count, 1)]]

    def sample_class(self, key: jax.Array, label: jax.Array | int, n: int) -> jax.Array:
        """Random images `(n, h, w, c)` of one class, preprocessed; see `sample_positions`.

        They are `n` or, where it has fewer, as many as the largest class has.
        """
        return self.batch(self.sample_positions(key, label, min(n, self.largest_class)))[0]

    @property
    def largest_class(self) -> int:
        """How many images the largest class has."""
        return self.class_index.positions.shape[1]

    @property
    def class_index(self) -> ClassIndex:
        """The class index; raises `ValueError` where the images have none."""
        if self.index is None:
            raise ValueError(
                "these images have no class index: make one with `to_device(…, classes)`"
            )
        return self.index


def to_device(split: Split, preprocess: Preprocess, num_classes: int = 0) -> DeviceData:
    """A split on the device, images still uint8, with a class index for `num_classes` above 0.

    On a CPU they are whitened here, once, where ZCA is asked for and there is room: for each image
    whitening takes about half as long as a small network's training step.
    A class without images gets a row of zeros and count 0; nothing may be sampled from it.
    """
    index = class_index(split.labels, num_classes) if num_classes else None
    images, labels = placed(split.images), jnp.asarray(split.labels)
    arrays = jax.tree.map(jnp.asarray, preprocess)
    whole = platform() == "cpu" and not isinstance(images, DividedRows)
    if preprocess.zca is not None and whole and has_room(images.shape):
        return DeviceData(_preprocessed(arrays, images), labels, None, index)
    return DeviceData(images, labels, arrays, index)


@jax.jit
def _preprocessed(preprocess: Preprocess, images: jax.Array) -> jax.Array:
    """Images `(n, h, w, c)` uint8 as networks see them, float32."""
    of_all: jax.Array = jax.lax.map(preprocess, images, batch_size=_AT_ONCE)
    return of_all


def class_index(labels: np.ndarray, num_classes: int) -> ClassIndex:
    """The index of labels int `(n,)`."""
    rows = [np.flatnonzero(labels == c) for c in range(num_classes)]
    counts = np.array([len(row) for row in rows], np.int32)
    positions = np.zeros((num_classes, max(1, int(counts.max()))), np.int32)
    for c, row in enumerate(rows):
        if len(row):
            positions[c] = np.resize(row, positions.shape[1])
    return ClassIndex(jnp.asarray(positions), jnp.asarray(counts))
