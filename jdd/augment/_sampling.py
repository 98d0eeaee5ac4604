"""What the augmentations share: their kinds by name, where a pixel comes from, fetching it."""

from collections.abc import Callable, Collection

import jax
import jax.numpy as jnp
from jax import lax

from jdd.errors import unknown_value


def kinds_of(strategy: str, available: Collection[str]) -> tuple[str, ...]:
    """The kinds that a strategy names; raises `UserError` for one that is not available."""
    if strategy == "none":
        return ()
    kinds = tuple(strategy.split("_"))
    for kind in kinds:
        if kind not in available:
            alone = [] if len(kinds) > 1 else ["none"]
            raise unknown_value("augmentation", kind, [*available, *alone])
    return kinds


def zoomed(position: jax.Array, factor: jax.Array, size: int) -> jax.Array:
    """Positions along a side of `size` pixels, moved away from its centre by a factor."""
    centre = (size - 1) / 2
    return centre + factor * (position - centre)


def rotated_grid(angle: jax.Array, height: int, width: int) -> tuple[jax.Array, jax.Array]:
    """Angles `(m,)` in radians → where every pixel comes from: rows and columns, `(m, h, w)`.

    The released code turns coordinates that run from −1 to 1 on both axes, which shears what is not
    square; this turns pixels. On square images it is the same.
    """
    y = jnp.arange(height)[:, None] - (height - 1) / 2
    x = jnp.arange(width)[None, :] - (width - 1) / 2
    cos, sin = jnp.cos(angle)[:, None, None], jnp.sin(angle)[:, None, None]
    return sin * x + cos * y + (height - 1) / 2, cos * x - sin * y + (width - 1) / 2


def sample_separably(images: jax.Array, rows: jax.Array, columns: jax.Array) -> jax.Array:
    """Bilinear samples where `rows` `(m, h)` and `columns` `(m, w)` cross, m being 1 or n."""

    def weights(positions: jax.Array, size: int) -> jax.Array:
        hats = 1 - jnp.abs(positions[:, :, None] - jnp.arange(size))
        return jnp.maximum(hats, 0).astype(images.dtype)

    by_row, by_column = weights(rows, images.shape[1]), weights(columns, images.shape[2])
    # Full precision, for an accelerator's default would round pixels that do not even move.
    if by_row.shape[0] == 1:
        return jnp.einsum(
            "ih,jw,nhwc->nijc", by_row[0], by_column[0], images, precision=lax.Precision.HIGHEST
        )
    return jnp.einsum(
        "nih,njw,nhwc->nijc", by_row, by_column, images, precision=lax.Precision.HIGHEST
    )


def sample(images: jax.Array, y: jax.Array, x: jax.Array) -> jax.Array:
    """Bilinear samples at `(y, x)`, each `(m, h, w)`, m being 1 or n."""
    n, height, width, channels = images.shape
    flat = images.reshape(n, height * width, channels)
    fetch: Callable[..., jax.Array] = jax.vmap(
        lambda image, index: jnp.take(image, index, axis=0, mode="clip"),
        in_axes=(0, None if y.shape[0] == 1 else 0),
    )
    top, left = jnp.floor(y), jnp.floor(x)
    sampled = jnp.zeros_like(flat)
    for row in (top, top + 1):
        for column in (left, left + 1):
            weight = (1 - jnp.abs(y - row)) * (1 - jnp.abs(x - column))
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            weight = (
                jnp.where(inside, weight, 0).astype(images.dtype).reshape(-1, height * width, 1)
            )
            index = jnp.clip(row, 0, height - 1) * width + jnp.clip(column, 0, width - 1)
            index = index.astype(jnp.int32).reshape(-1, height * width)
            sampled += weight * fetch(flat, index if index.shape[0] > 1 else index[0])
    return sampled.reshape(images.shape)
