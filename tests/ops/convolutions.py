"""Convolutions of all kinds, and what they come to by XLA's own."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

# n, h, w, c, kernel, o, padding, stride
CASES = {
    "3x3": (3, 8, 8, 4, 3, 5, 1, 1),
    "3x3 odd": (2, 7, 5, 3, 3, 2, 1, 1),
    "first layer of a grey image": (2, 8, 8, 1, 3, 4, 3, 1),
    "no padding": (2, 9, 9, 2, 5, 3, 0, 1),
    "1x1 stride 2": (2, 7, 7, 3, 1, 2, 0, 2),
    "3x3 stride 2": (2, 8, 9, 3, 3, 2, 1, 2),
    "5x5": (2, 8, 6, 2, 5, 2, 2, 1),
    "11x11 stride 4": (1, 19, 21, 2, 11, 2, 2, 4),
    "1x1": (2, 5, 5, 6, 1, 3, 0, 1),
    "parts of the batch": (23, 16, 16, 5, 5, 6, 2, 1),
    "parts of the batch, by rows": (85, 16, 16, 5, 3, 6, 1, 1),
    "wide, by rows": (11, 8, 12, 64, 3, 64, 1, 1),
    "one image": (1, 6, 6, 5, 3, 4, 1, 1),
    "many channels, stride 2": (2, 9, 8, 6, 3, 4, 1, 2),
    "many channels, much padding": (2, 5, 6, 6, 3, 4, 3, 1),
    "many channels, uneven": (2, 6, 7, 5, 3, 2, ((0, 2), (1, 0)), (2, 1)),
    "few positions": (3, 2, 2, 6, 3, 5, 1, 1),
    "few positions, stride 2": (2, 4, 3, 6, 3, 4, 1, 2),
    "few positions, cropped back": (2, 2, 2, 5, 1, 4, ((1, 1), (0, 2)), 1),
    "uneven": (2, 6, 7, 2, 3, 2, ((0, 2), (1, 0)), (2, 1)),
}


def reference(x, w, padding=1, stride=1):
    pads = [(padding, padding)] * 2 if isinstance(padding, int) else padding
    strides = (stride, stride) if isinstance(stride, int) else stride
    return lax.conv_general_dilated(x, w, strides, pads, dimension_numbers=("NHWC", "HWIO", "NHWC"))


def arrays(case):
    n, h, w, c, kernel, o, padding, stride = CASES[case]
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(n, h, w, c)))
    k = jnp.asarray(rng.normal(size=(kernel, kernel, c, o)) / (kernel * c**0.5))  # results near 1
    dx, dk = (jnp.asarray(rng.normal(size=v.shape)) for v in (x, k))
    return (x, k), (dx, dk), (padding, stride)


def energy(conv, options):
    """A scalar whose second derivatives hold every mixed term."""
    return lambda x, w: jnp.sum(jnp.sin(conv(x, w, *options)) ** 2)


def agree(ours, theirs):
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert a.dtype == jnp.float64
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)
