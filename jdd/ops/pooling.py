"""Pooling over windows of an image; as in PyTorch, windows that do not fit are left out."""

from collections.abc import Callable
from functools import cache

import jax
import jax.numpy as jnp
from jax import lax

from jdd.ops._linear import linear_pair, product_with_written
from jdd.ops.normalization import Affine, apply
from jdd.ops.target import platform


def avg_pool(x: jax.Array, window: int, stride: int) -> jax.Array:
    """The mean of every window.

    Args:
      x: `(n, h, w, c)`.
      window: height and width of a window.
      stride: distance between windows.

    Returns:
      `(n, oh, ow, c)` of the same dtype (float32 for integers), with
      `oh = (h - window) // stride + 1`.

    Raises:
      ValueError: where not one window fits.
    """
    if not jnp.issubdtype(x.dtype, jnp.inexact):
        x = x.astype(jnp.float32)
    if window == stride and min(x.shape[1:3]) >= window:
        return _mean_of_tiles(window)(x)
    parts = _window_entries(x, window, stride)
    return sum(parts[1:], parts[0]) / len(parts)


@cache
def _mean_of_tiles(size: int) -> Callable[[jax.Array], jax.Array]:
    """The mean of each tile of `size` by `size` pixels; what is left at the margin is left out."""

    def mean(x: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        del shape
        parts = _window_entries(x, size, size)
        return sum(parts[1:], parts[0]) / len(parts)

    def transpose(g: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        n, h, w, c = g.shape
        tiles = jnp.broadcast_to((g / size**2)[:, :, None, :, None], (n, h, size, w, size, c))
        left = [(0, 0), *((0, shape[i] - g.shape[i] * size) for i in (1, 2)), (0, 0)]
        return jnp.pad(tiles.reshape(n, h * size, w * size, c), left)

    return linear_pair(f"mean_of_tiles_{size}", mean, transpose)


def relu_avg_pool(x: jax.Array, affine: Affine, window: int, stride: int) -> jax.Array:
    """`avg_pool(relu(y))` of what a norm makes of x, y = (x − point) · factor + summand.

    With m = 1 where y is positive, which no derivative flows through, that is

        factor · avg_pool(m · (x − point)) + summand · avg_pool(m)

    so that of factor and summand all derivatives are taken on the pooled maps, and a tangent or a
    cotangent passes over a map of x's size once. Written as three layers each of them does.

    Args:
      x: `(n, h, w, c)`.
      affine: each of its entries `(n, c)`.
      window: height and width of a window.
      stride: distance between windows.

    Returns:
      `(n, oh, ow, c)`, as `avg_pool`.

    Raises:
      ValueError: where not one window fits.
    """
    point, factor, summand = (v[:, None, None] for v in affine)
    fixed = apply(lax.stop_gradient(x), Affine(*map(lax.stop_gradient, affine)))
    positive = fixed > 0
    passed = avg_pool(jnp.where(positive, x - point, 0), window, stride)
    fraction = avg_pool(positive.astype(x.dtype), window, stride)
    product = product_with_written if platform() == "gpu" else jnp.multiply
    return product(factor, passed) + product(summand, fraction)


def max_pool(x: jax.Array, window: int, stride: int, padding: int = 0) -> jax.Array:
    """The maximum of every window; of equal entries the first takes the gradient.

    Args:
      x: `(n, h, w, c)`.
      window: height and width of a window.
      stride: distance between windows.
      padding: rows and columns of minus infinity around the image.

    Returns:
      `(n, oh, ow, c)` of the same dtype, with `oh = (h + 2 padding - window) // stride + 1`.

    Raises:
      ValueError: where not one window fits.
    """
    pads = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    x = jnp.pad(x, pads, constant_values=-jnp.inf)
    first, *others = _window_entries(x, window, stride)
    for entry in others:
        first = jnp.where((entry <= first) | jnp.isnan(first), first, entry)
    return first


def _window_entries(x: jax.Array, window: int, stride: int) -> list[jax.Array]:
    height, width = ((size - window) // stride * stride + 1 for size in x.shape[1:3])
    if min(height, width) < 1:
        raise ValueError(f"a window of {window} does not fit an image of {x.shape[1:3]}")
    return [
        x[:, i : i + height : stride, j : j + width : stride]
        for i in range(window)
        for j in range(window)
    ]
