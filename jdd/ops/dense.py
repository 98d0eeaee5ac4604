"""Products of matrices, small ones as sums where launching a kernel takes longer than to run it."""

import jax
import jax.numpy as jnp

from jdd.ops.target import platform

_SMALL = 2**18  # products of two numbers


def dense(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """`(n, in)`, `(in, out)` → `(n, out)`: x @ kernel.

    On a GPU a small one is written as a sum, which joins its neighbours' kernels, and value and
    tangent are one; a library's product is a kernel or two of its own.
    """
    small = x.ndim == 2 and x.size * kernel.shape[1] <= _SMALL
    if platform() == "gpu" and small and x.dtype == jnp.float32:
        return jnp.sum(x[:, None] * kernel.T, axis=2)
    return x @ kernel
