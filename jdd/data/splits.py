"""Parts of a split, stratified by class, and a split on the device with its classes indexed."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from jdd.data.dataset import Split
from jdd.errors import UserError
from jdd.preprocessing import Preprocess


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class RealData:
    """A split on the device, a pytree: passed into compiled steps as an argument."""

    images: jax.Array  # (n, h, w, c) uint8
    labels: jax.Array  # (n,) int32
    index: jax.Array  # (classes, m) int32: the positions of each class's images, repeated to fill
    counts: jax.Array  # (classes,) int32: how many of a row are its own; m is the largest
    preprocess: Preprocess

    @property
    def num_classes(self) -> int:
        """How many classes are indexed."""
        return self.index.shape[0]


def hold_out(split: Split, share_or_count: float | int, seed: int) -> tuple[Split, Split]:
    """(train, validation): a part of the split held out, stratified by class.

    Args:
      split: what is divided; both parts keep its order.
      share_or_count: a share in (0, 1), or a whole number of images.
      seed: the same one gives the same division.

    Raises:
      UserError: nothing, or every image of a class, would be held out.
    """
    if isinstance(share_or_count, float):
        if not 0.0 < share_or_count < 1.0:
            raise UserError(f"validation share {share_or_count}: give one between 0 and 1")
        count = max(1, round(share_or_count * len(split)))
    else:
        count = share_or_count
    present = np.bincount(split.labels)
    most = int(np.maximum(present - 1, 0).sum())
    if not 1 <= count <= most:
        raise UserError(
            f"cannot hold out {count} of {len(split)} images: "
            + (f"1 to {most} leave one of each class" if most else "there is one of each class")
        )
    chosen = _stratified(split.labels, count, seed, keep=1)
    return _part(split, ~chosen), _part(split, chosen)


def subset(split: Split, count: int, seed: int) -> Split:
    """`count` images of a split, stratified by class, in its order.

    Raises:
      UserError: fewer than one, or more than there are.
    """
    if not 1 <= count <= len(split):
        raise UserError(f"cannot take {count} images: there are {len(split)}")
    return _part(split, _stratified(split.labels, count, seed, keep=0))


def to_device(split: Split, preprocess: Preprocess, num_classes: int) -> RealData:
    """The split as `RealData`, images still uint8 (they become float32 batch by batch).

    A class without images gets a row of zeros and count 0; nothing may be sampled from it.
    """
    rows = [np.flatnonzero(split.labels == c) for c in range(num_classes)]
    counts = np.array([len(row) for row in rows], np.int32)
    index = np.zeros((num_classes, max(1, int(counts.max()))), np.int32)
    for c, row in enumerate(rows):
        if len(row):
            index[c] = np.resize(row, index.shape[1])
    return RealData(
        jnp.asarray(split.images),
        jnp.asarray(split.labels),
        jnp.asarray(index),
        jnp.asarray(counts),
        jax.tree.map(jnp.asarray, preprocess),
    )


def sample_positions(key: jax.Array, data: RealData, label: jax.Array | int, n: int) -> jax.Array:
    """Positions (n,) int32 of random images of one class, without replacement.

    Pure; `n` is static, `label` may be traced, as under `vmap` over classes. Where a class has
    fewer than `n` images, each appears ⌊n/count⌋ or ⌈n/count⌉ times.
    """
    width = data.index.shape[1]
    count = data.counts[label]
    # The largest of as many uniforms as the class has images are a random draw of them, in random
    # order; the row's repeats get −1, so they come last and are never reached.
    draws = jnp.where(jnp.arange(width) < count, jax.random.uniform(key, (width,)), -1.0)
    _, order = jax.lax.top_k(draws, min(n, width))
    return data.index[label, order[jnp.arange(n) % jnp.maximum(count, 1)]]


def sample_class(key: jax.Array, data: RealData, label: jax.Array | int, n: int) -> jax.Array:
    """Random images (n, h, w, c) uint8 of one class; see `sample_positions`."""
    return data.images[sample_positions(key, data, label, n)]


def _part(split: Split, mask: np.ndarray) -> Split:
    return Split(split.images[mask], split.labels[mask])


def _stratified(labels: np.ndarray, count: int, seed: int, keep: int) -> np.ndarray:
    """A mask (n,) over `count` images, spread over the classes as all are.

    At least `keep` of each class stay out and, where `count` allows, at least one comes in.
    """
    sizes = np.bincount(labels)
    most = np.maximum(sizes - keep, 0)
    least = np.minimum(most, 1) if count >= np.count_nonzero(most) else np.zeros_like(sizes)
    quota = count * sizes / sizes.sum()
    take = np.clip(np.floor(quota).astype(np.int64), least, most)
    # Rounding down leaves some over, the limits can add some: settle them one by one where a
    # class is furthest from its quota.
    while (difference := count - int(take.sum())) != 0:
        step = 1 if difference > 0 else -1
        movable = take < most if step > 0 else take > least
        take[np.argmax(np.where(movable, step * (quota - take), -np.inf))] += step
    generator = np.random.default_rng(seed)
    mask = np.zeros(len(labels), bool)
    for label, wanted in enumerate(take):
        mask[generator.permutation(np.flatnonzero(labels == label))[:wanted]] = True
    return mask
