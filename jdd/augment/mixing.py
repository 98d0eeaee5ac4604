"""CutMix: a box of each image replaced by that of another, the labels mixed by its area."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Mixed(NamedTuple):
    """The labels of images that are made of two each."""

    labels: jax.Array  # of the images around the box: (n,) int32, or (n, classes) label logits
    others: jax.Array  # of those inside it, the same
    fraction: jax.Array  # (n,) float32 of the first ones' area, the same for the whole batch


def cutmix(
    key: jax.Array, images: jax.Array, labels: jax.Array, probability: float, beta: float = 1.0
) -> tuple[jax.Array, Mixed]:
    """CutMix with one box and one permutation for the batch.

    With λ ~ Beta(beta, beta), the box has √(1 − λ) of either side, its centre is uniform in the
    image, and it is cut off at the edges: the labels are mixed by the area that is left. With
    chance 1 − probability nothing is mixed.

    Args:
      key: a key for this call alone.
      images: `(n, h, w, c)` float.
      labels: `(n,)` integers or `(n, classes)` label logits.
      probability: that the batch is mixed, in [0, 1].
      beta: both parameters of the distribution, above 0; 1: uniform.

    Returns:
      Images of the same shape and dtype, and their labels.

    References:
      Yun et al., "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable
      Features", ICCV 2019, equations 1 and 2.
    """
    n, height, width, _ = images.shape
    coin, area, row, column, shuffle = jax.random.split(key, 5)
    side = jnp.sqrt(1 - jax.random.beta(area, beta, beta))

    def inside(key: jax.Array, size: int) -> jax.Array:
        half = (size * side).astype(jnp.int32) // 2
        centre = jax.random.randint(key, (), 0, size)
        at = jnp.arange(size)
        return (at >= centre - half) & (at < centre + half)

    box = inside(row, height)[:, None] & inside(column, width)
    box &= jax.random.uniform(coin) < probability
    order = jax.random.permutation(shuffle, n)
    mixed = jnp.where(box[:, :, None], images[order], images)
    fraction = 1 - jnp.mean(box, dtype=jnp.float32)
    return mixed, Mixed(labels, labels[order], jnp.broadcast_to(fraction, (n,)))
