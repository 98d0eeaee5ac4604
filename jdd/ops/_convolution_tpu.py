"""Convolutions of grey images on a TPU: products of patches.

XLA's own take three to five times as long by its own estimate, as one channel fills one of 128
lanes, and half a minute each to compile, which was most of the compile time of an update.
"""

import jax
import jax.numpy as jnp
from jax import lax

from jdd.ops._convolution_cpu import shifted
from jdd.ops._window import Window


def forward(x: jax.Array, w: jax.Array, window: Window) -> jax.Array:
    """`(n, h, w, 1)`, `(kh, kw, 1, o)` → `(n, oh, ow, o)`; positions along the lanes."""
    patches = jnp.stack([v.reshape(-1) for v in shifted(x, window)])
    kernel = w.reshape(-1, w.shape[3])
    over_entries = (((0,), (0,)), ((), ()))
    y: jax.Array = lax.dot_general(patches, kernel, over_entries, precision=window.precision)
    return y.reshape(x.shape[0], *window.output, w.shape[3])


def kernel_gradient(x: jax.Array, g: jax.Array, window: Window) -> jax.Array:
    """`(n, h, w, 1)`, `(n, oh, ow, o)` → `(kh, kw, 1, o)`."""
    patches = jnp.concatenate(list(shifted(x, window)), axis=-1)
    over_positions = (((0, 1, 2), (0, 1, 2)), ((), ()))
    entries: jax.Array = lax.dot_general(patches, g, over_positions, precision=window.precision)
    return entries.reshape(*window.kernel, 1, g.shape[3])
