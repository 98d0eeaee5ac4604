"""The three products of a convolution on a CPU, each as something that XLA runs fast there.

XLA's CPU convolution is fast only as plain NHWC · HWIO, without dilation or groups: inside a loop
every other form leaves the threaded kernel and is ten times slower. So nothing here asks for one;
what does not fit that form is a matrix product over shifted images. Large kernels of three rows are
taken row by row, with half of the multiplications: `jdd.ops._winograd`.
docs/dev/performance.md has the measurements behind each choice.
"""

from collections.abc import Iterator, Sequence
from functools import reduce

import jax
import jax.numpy as jnp
from jax import lax

from jdd.ops import _winograd as winograd
from jdd.ops._window import Pair, Window

DIMENSIONS = ("NHWC", "HWIO", "NHWC")

# Up to this many input channels (grey and colour images) the kernel entries of all shifts make one
# matrix product: a convolution with one or three outputs takes 16 ms where this takes 0.3.
FEW_CHANNELS = 4

# Outputs of up to this many positions are a product of patches: XLA's convolution of 25 maps of 2×2
# with 256 channels takes 57 ms, the product 2; from 3×3 on they are equal.
_FEW_POSITIONS = 4

# Positions in one product of the kernel gradient: four images of 16×16. Both operands then stay in
# a second-level cache of 1 MiB; a hundred images at once run at half the speed.
_POSITIONS = 1024
_POSITIONS_BY_ROWS = 8192  # with Winograd's planes, which are smaller products


def forward(x: jax.Array, w: jax.Array, window: Window) -> jax.Array:
    """`(n, h, w, c)`, `(kh, kw, c, o)` → `(n, oh, ow, o)`."""
    if w.shape[2] == 1:
        # Three times as fast as XLA's convolution of one channel.
        patches = jnp.concatenate([_plane(v) for v in shifted(x, window)])
        return jnp.einsum("pq,po->qo", patches, w.reshape(-1, w.shape[3])).reshape(
            x.shape[0], *window.output, w.shape[3]
        )
    return _convolve(x, w, window.strides, window.padding)


def input_gradient(g: jax.Array, w: jax.Array, window: Window) -> jax.Array:
    """`(n, oh, ow, o)`, `(kh, kw, c, o)` → `(n, h, w, c)`: the kernel flipped, its ends swapped."""
    if w.shape[2] <= FEW_CHANNELS:
        return _input_gradient_of_few_channels(g, w, window)
    margins = []
    for size, output, kernel, stride, (low, _) in window.axes():
        before = kernel - 1 - low
        margins.append((before, size + kernel - 1 - before - ((output - 1) * stride + 1)))
    flipped = jnp.swapaxes(w[::-1, ::-1], 2, 3)
    if window.strides != (1, 1) or min(min(m) for m in margins) < 0:
        # Dilated and cropped by hand: the convolution's own dilation is one of the slow forms.
        interior = [(*m, s - 1) for m, s in zip(margins, window.strides, strict=True)]
        g = lax.pad(g, jnp.zeros((), g.dtype), [(0, 0, 0), *interior, (0, 0, 0)])
        margins = [(0, 0), (0, 0)]
    return _convolve(g, flipped, (1, 1), margins)


def kernel_gradient(x: jax.Array, g: jax.Array, window: Window) -> jax.Array:
    """`(n, h, w, c)`, `(n, oh, ow, o)` → `(kh, kw, c, o)`, summed over parts of the batch."""
    n, oh, ow, o = g.shape
    if x.shape[3] <= FEW_CHANNELS:
        entries = jnp.concatenate([_plane(v) for v in shifted(x, window)]) @ _rows(g)
        return entries.reshape(*window.kernel, x.shape[3], g.shape[3])
    by_rows = winograd.fits(window.kernel[0], window.strides, oh, x.dtype)
    by_rows = by_rows and winograd.gradient_pays(n * oh * ow, x.shape[3], o)

    def of_part(x: jax.Array, g: jax.Array) -> jax.Array:
        if by_rows:
            return winograd.kernel_gradient(x, g, window.kernel[1], window.padding)
        return _kernel_gradient_of_part(x, g, window)

    # Without Winograd's planes two parts at least, in a loop: what a loop reads lies in memory, and
    # without one XLA would compute the layers before anew for each of the shifts.
    least, positions = (1, _POSITIONS_BY_ROWS) if by_rows else (2, _POSITIONS)
    size = -(-n // max(least, round(n * oh * ow / positions)))
    if size >= n:
        return of_part(x, g)
    count = -(-n // size)

    def part(v: jax.Array, i: jax.Array) -> jax.Array:
        return lax.dynamic_slice_in_dim(v, i * size, size)

    def add(total: jax.Array, i: jax.Array) -> tuple[jax.Array, None]:
        return total + of_part(part(x, i), part(g, i)), None

    if count * size > n:
        edges = [(0, count * size - n, 0), *[(0, 0, 0)] * 3]  # images of zeros add nothing
        x, g = (lax.pad(v, jnp.zeros((), v.dtype), edges) for v in (x, g))
    total = jnp.zeros((*window.kernel, x.shape[3], g.shape[3]), x.dtype)
    axes = jax.typeof(x).mat.varying  # inside `shard_map` the sum varies over the mesh as the parts
    total = lax.pcast(total, tuple(axes), to="varying")
    total, _ = lax.scan(add, total, jnp.arange(count))
    return total


def _convolve(x: jax.Array, w: jax.Array, strides: Pair, margins: Sequence[Pair]) -> jax.Array:
    """Plain convolution, `margins` of zeros (or, below zero, cuts) on both sides of the image."""
    kh, kw, channels, o = w.shape
    height, width = (
        (size + sum(margin) - kernel) // stride + 1
        for size, margin, kernel, stride in zip(
            x.shape[1:3], margins, (kh, kw), strides, strict=True
        )
    )
    positions = x.shape[0] * height * width
    if winograd.fits(kh, strides, height, x.dtype) and winograd.pays(positions, channels, o):
        return winograd.convolve(x, w, margins)
    if height * width > _FEW_POSITIONS:
        return lax.conv_general_dilated(x, w, strides, margins, dimension_numbers=DIMENSIONS)
    edges = [(0, 0, 0), *((*margin, 0) for margin in margins), (0, 0, 0)]
    x = lax.pad(x, jnp.zeros((), x.dtype), edges)
    (sh, sw), rows, columns = strides, (height - 1), (width - 1)
    patches = jnp.concatenate(
        [
            x[:, i : i + rows * sh + 1 : sh, j : j + columns * sw + 1 : sw]
            for i in range(kh)
            for j in range(kw)
        ],
        axis=-1,
    )
    product = patches.reshape(-1, kh * kw * channels) @ w.reshape(-1, o)
    return product.reshape(-1, height, width, o)


def _kernel_gradient_of_part(x: jax.Array, g: jax.Array, window: Window) -> jax.Array:
    # The images as they lie: transposing them costs as much as a third of the products.
    over_positions = (((0,), (0,)), ((), ()))
    entries = [lax.dot_general(_rows(v), _rows(g), over_positions) for v in shifted(x, window)]
    return jnp.stack(entries).reshape(*window.kernel, x.shape[3], g.shape[3])


def _rows(v: jax.Array) -> jax.Array:
    """`(n, h, w, c)` → `(n · h · w, c)`."""
    return v.reshape(-1, v.shape[3])


def _plane(v: jax.Array) -> jax.Array:
    """`(n, h, w, c)` → `(c, n · h · w)`."""
    return _rows(v).T


def _input_gradient_of_few_channels(g: jax.Array, w: jax.Array, window: Window) -> jax.Array:
    kh, kw = window.kernel
    # The images as they lie: with the kernel on the left XLA would transpose them first, computing
    # the layers behind them anew as it goes.
    planes = jnp.einsum("nhwo,ijco->nhwijc", g, w).transpose(3, 4, 5, 0, 1, 2)

    def shifted_back(i: int, j: int) -> jax.Array:
        edges = []
        for (size, output, _, stride, (low, _)), entry in zip(window.axes(), (i, j), strict=True):
            before = entry - low
            edges.append((before, size - before - ((output - 1) * stride + 1), stride - 1))
        return lax.pad(planes[i, j], jnp.zeros((), g.dtype), [(0, 0, 0), (0, 0, 0), *edges])

    total = reduce(jnp.add, (shifted_back(i, j) for i in range(kh) for j in range(kw)))
    return jnp.moveaxis(total, 0, 3)


def rounded(v: jax.Array) -> jax.Array:
    """Rounded to bfloat16, stored as it was: CPUs have no fast products of bfloat16."""
    return lax.reduce_precision(v, exponent_bits=8, mantissa_bits=7)


def shifted(x: jax.Array, window: Window) -> Iterator[jax.Array]:
    """For each kernel entry the pixels it meets: `(n, h, w, c)` → `(n, oh, ow, c)`."""
    x = jnp.pad(x, ((0, 0), *window.padding, (0, 0)))
    (sh, sw), (oh, ow) = window.strides, window.output
    height, width = (oh - 1) * sh + 1, (ow - 1) * sw + 1
    for i in range(window.kernel[0]):
        for j in range(window.kernel[1]):
            yield x[:, i : i + height : sh, j : j + width : sw]
