"""Convolutions of few grey images on a GPU: sums that join the kernels around them.

With one channel a result is a sum of as many products as the kernel has entries. A library's
convolution is a kernel of its own, with the kernel's transpose in front of it; written as a sum it
is part of whatever reads it, and value and tangent are one kernel. XLA's kernel gradient stays.
"""

from collections.abc import Iterator

import jax
import jax.numpy as jnp

from jdd.ops._window import Pair, Window

_MOST = 2**21  # entries of the large map
_WIDEST = 5  # of a kernel


def takes(images: jax.Array, w: jax.Array, window: Window) -> bool:
    """Whether a convolution is computed here; `images` are x or g."""
    entries = images.shape[0] * window.output[0] * window.output[1] * w.shape[3]
    few = w.shape[2] == 1 and entries <= _MOST and max(window.kernel) <= _WIDEST
    return few and window.strides == (1, 1) and images.dtype == jnp.float32


def forward(x: jax.Array, w: jax.Array, window: Window) -> jax.Array:
    """`(n, h, w, 1)`, `(kh, kw, 1, o)` → `(n, oh, ow, o)`."""
    height, width = window.output
    x = _padded(x, *window.padding)
    return sum(
        (x[:, i : i + height, j : j + width] * w[i, j, 0] for i, j in _entries(window)),
        start=jnp.zeros((), x.dtype),
    )


def input_gradient(g: jax.Array, w: jax.Array, window: Window) -> jax.Array:
    """`(n, oh, ow, o)`, `(kh, kw, 1, o)` → `(n, h, w, 1)`."""
    (height, width), kernel = window.image, window.kernel
    pads = zip(kernel, window.padding, strict=True)
    g = _padded(g, *((k - 1 - before, k - 1 - after) for k, (before, after) in pads))
    total = jnp.zeros((), g.dtype)
    for i, j in _entries(window):
        down, right = kernel[0] - 1 - i, kernel[1] - 1 - j
        total = total + g[:, down : down + height, right : right + width] * w[i, j, 0]
    return jnp.sum(total, axis=3, keepdims=True)


def _padded(v: jax.Array, *pads: Pair) -> jax.Array:
    """Zeros around the image; less than none cuts off."""
    sides = [(0, 0, 0), *((*pair, 0) for pair in pads), (0, 0, 0)]
    return jax.lax.pad(v, jnp.zeros((), v.dtype), sides)


def _entries(window: Window) -> Iterator[tuple[int, int]]:
    return ((i, j) for i in range(window.kernel[0]) for j in range(window.kernel[1]))
