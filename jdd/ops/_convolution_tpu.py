"""Convolutions on a TPU: passes in a loop, and products of patches for grey images.

XLA's own convolutions of grey images take three to five times as long by its own estimate, as one
channel fills one of 128 lanes.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import lax

from jdd.ops._convolution_cpu import rounded, shifted
from jdd.ops._window import Window

# By JAX's name of a precision: for each pass which part of either factor it takes, small products
# first. Part 0 is a factor rounded to bfloat16, part 1 what that lacks, and part 2 what both lack.
_THREE = ((1, 0), (0, 1), (0, 0))
_SIX = ((2, 0), (0, 2), (1, 1), *_THREE)
_PASSES = {
    **dict.fromkeys(("high", "bfloat16_3x", "tensorfloat32"), _THREE),
    **dict.fromkeys(("highest", "float32"), _SIX),
}


# Numbers of both factors and the result together: what a loop keeps of larger ones goes through the
# chip's memory at each turn, and takes half as many cycles again.
_MOST = 2**21


def in_passes(product: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """A product of float32 arrays; where they are small its passes are a loop over one of them.

    XLA takes its time to compile a convolution of several passes: an update of `mtt` takes 17 s of
    a processor's time instead of 72, for 5 % more cycles (docs/dev/performance.md).
    """

    def apply(a: jax.Array, b: jax.Array, window: Window) -> jax.Array:
        passes = _PASSES.get(window.precision or "")
        one = window._replace(precision="default")
        out = jax.eval_shape(lambda a, b: product(a, b, one), a, b)
        if passes is None or a.dtype != jnp.float32 or a.size + b.size + out.size > _MOST:
            return product(a, b, window)

        def add(i: jax.Array, total: jax.Array) -> jax.Array:
            # Made here, not in front of the loop, so that they are never stored.
            factors = [_part(v, i, [both[k] for both in passes]) for k, v in enumerate((a, b))]
            return total + product(*factors, one)

        total: jax.Array = lax.fori_loop(0, len(passes), add, jnp.zeros(out.shape, out.dtype))
        return total

    return apply


def _part(v: jax.Array, i: jax.Array, of_passes: Sequence[int]) -> jax.Array:
    """What pass i takes of a factor, before it rounds it: v, or what rounding has left of it."""
    chosen, left = v, v
    for part in range(1, 1 + max(of_passes)):
        left = left - rounded(left)
        for number in (n for n, of_pass in enumerate(of_passes) if of_pass == part):
            chosen = jnp.where(i == number, left, chosen)
    return chosen


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
