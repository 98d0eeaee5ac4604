"""Convolution by a kernel of three rows with half of the multiplications: Winograd's F(4, 3).

Four rows of a result are a bilinear form of six rows of the image and three of the kernel. Taken as
it stands it has twelve products; Winograd's has six, of combinations of rows:

    y = Aᵀ [(G w) ⊙ (Bᵀ x)]        and so        ∂w = Gᵀ Σ [(A ∂y) ⊙ (Bᵀ x)]

Each product is that of two planes, one row high a tile, and what is left of the convolution inside
a plane, along its rows and over channels, is one that XLA runs fast. Along one axis alone the
planes are half as large again as the image; along both they would be two and a quarter times as
large and their products too small for the machine (docs/dev/performance.md).

S. Winograd, "Arithmetic Complexity of Computations" (1980); A. Lavin and S. Gray, "Fast Algorithms
for Convolutional Neural Networks", CVPR 2016. In float32 results are about 8e-7 away from exact
ones where the direct sum is 3.5e-7 away. The usual points 0, ±1, ±2 would make that 1.2e-6. That
is relative to the largest of a tile's rows: a row far smaller than its neighbours loses more.
"""

from collections.abc import Sequence
from functools import reduce

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jdd.ops._window import Pair

_TILE = 4  # rows of the result in a tile
_TAPS = 3  # rows of the kernel
_ROWS = _TILE + _TAPS - 1  # rows of the image that a tile meets, and products
_POINTS = (0.0, 0.5**0.5, -(0.5**0.5), 2**0.5, -(2**0.5))  # and infinity
_MOST_IN_VAIN = 1.4  # rows computed for a row wanted, where the last tile is not full

# Below, planes are too small, or products too short, to gain what sums of rows and of kernels cost.
_LEAST_CHANNELS = 64
_LEAST_POSITIONS = 512
_LEAST_PLANES = 2**16  # positions times channels
_LEAST_GRADIENT_POSITIONS = 128
_LEAST_GRADIENT = 2**17  # positions times channels times channels: below, the gain is too small


def _matrices() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A `(6, 4)`, G `(6, 3)` and Bᵀ `(6, 6)`: Toom and Cook's product of two polynomials, by its
    values at `_POINTS`, transposed."""
    a, g, b = np.zeros((_ROWS, _TILE)), np.zeros((_ROWS, _TAPS)), np.zeros((_ROWS, _ROWS))
    for i, point in enumerate(_POINTS):
        others = [p for p in _POINTS if p != point]
        a[i] = point ** np.arange(_TILE)
        g[i] = point ** np.arange(_TAPS) / np.prod([point - p for p in others])
        b[i, :-1] = np.poly(others)[::-1]
    a[-1, -1] = g[-1, -1] = 1
    b[-1] = np.poly(_POINTS)[::-1]
    return a, g, b


_A, _G, _BT = (np.where(np.abs(m) < 1e-12, 0, m) for m in _matrices())


def fits(kernel_rows: int, strides: Pair, rows: int, dtype: np.dtype) -> bool:
    """Whether a convolution is one of three rows whose `rows` of results fill the tiles well.

    Not of 16-bit arrays: sums of rows that are rounded so are no longer those of the formula.
    """
    filled = -(-rows // _TILE) * _TILE <= _MOST_IN_VAIN * rows
    return kernel_rows == _TAPS and strides == (1, 1) and filled and dtype.itemsize >= 4


def pays(positions: int, c: int, o: int) -> bool:
    """Whether `convolve` is faster than the direct sum, at so many positions of all results."""
    channels = min(c, o)
    enough = channels >= _LEAST_CHANNELS and positions >= _LEAST_POSITIONS
    return enough and positions * channels >= _LEAST_PLANES


def gradient_pays(positions: int, c: int, o: int) -> bool:
    """Whether `kernel_gradient` is: wherever there is enough of it to be worth compiling."""
    return positions >= _LEAST_GRADIENT_POSITIONS and positions * c * o >= _LEAST_GRADIENT


def convolve(x: jax.Array, w: jax.Array, margins: Sequence[Pair]) -> jax.Array:
    """`(n, h, w, c)`, `(3, kw, c, o)` → `(n, oh, ow, o)`, `margins` of zeros (or cuts) around."""
    height = x.shape[1] + sum(margins[0]) - _TAPS + 1
    planes = _planes(x, margins, height)
    # As a product: one operation, where sums of rows would be six to compile.
    kernels = jnp.tensordot(jnp.asarray(_G, w.dtype), w, 1)
    products = [
        lax.conv_general_dilated(
            plane, kernel[None], (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        for plane, kernel in zip(planes, kernels, strict=True)
    ]
    y = jnp.stack(_combined(_A.T, products), axis=2)
    return y.reshape(y.shape[0], -1, *y.shape[3:])[:, :height]


def kernel_gradient(x: jax.Array, g: jax.Array, width: int, padding: Sequence[Pair]) -> jax.Array:
    """`(n, h, w, c)`, `(n, oh, ow, o)` → `(3, width, c, o)`, for images padded by `padding`."""
    _, height, ow, o = g.shape
    planes = _planes(x, padding, height)
    g = jnp.pad(g, ((0, 0), (0, -height % _TILE), (0, 0), (0, 0)))
    rows = _combined(_A, [g[:, i::_TILE] for i in range(_TILE)])
    over_positions = (((0,), (0,)), ((), ()))
    products = []
    for plane, row in zip(planes, rows, strict=True):
        patches = jnp.concatenate([plane[:, :, j : j + ow] for j in range(width)], axis=-1)
        product = lax.dot_general(
            patches.reshape(-1, width * x.shape[3]), row.reshape(-1, o), over_positions
        )
        products.append(product.reshape(width, x.shape[3], o))
    return jnp.stack(_combined(_G.T, products))


def _planes(x: jax.Array, margins: Sequence[Pair], height: int) -> list[jax.Array]:
    """Bᵀ of each tile's six rows: six of `(n, tiles, w, c)`, for `height` rows of results."""
    tiles = -(-height // _TILE)
    above = margins[0][0]
    below = _TILE * tiles + _TAPS - 1 - x.shape[1] - above
    edges = [(0, 0, 0), (above, below, 0), (*margins[1], 0), (0, 0, 0)]
    x = lax.pad(x, jnp.zeros((), x.dtype), edges)
    last = _TILE * (tiles - 1) + 1
    return _combined(_BT, [x[:, i : i + last : _TILE] for i in range(_ROWS)])


def _combined(matrix: np.ndarray, parts: Sequence[jax.Array]) -> list[jax.Array]:
    """Each row of the matrix as a sum of parts."""
    return [
        reduce(
            jnp.add,
            (
                part if factor == 1 else part * factor
                for factor, part in zip(row.tolist(), parts, strict=True)
                if factor
            ),
        )
        for row in matrix
    ]
