"""Bilinear sampling along an affine map that differs from image to image, for accelerators.

Flips, shifts, zooms and rotations are all such maps, so that one draws its kind by choosing numbers
where a CPU chooses a branch: on a GPU the host would have to look at each branch, and on a TPU the
branches took most of a program's compile time. Both the sampling and its transpose are single
kernels on a GPU, each pixel gathering what it is made of, and matrix products on a TPU, which has
no fast gather.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from jdd.augment._sampling import sample
from jdd.ops import folded


class Affine(NamedTuple):
    """Where pixels come from, about the image's centre; each entry `(m,)`.

    Row i and column j, counted from the centre, come from row `yy·i + yx·j + y` and column
    `xy·i + xx·j + x`.
    """

    yy: jax.Array
    yx: jax.Array
    y: jax.Array
    xy: jax.Array
    xx: jax.Array
    x: jax.Array


def matrix_of(affine: Affine) -> jax.Array:
    """The map's entries and those of its inverse, `(m, 12)`: what `sample_affine` takes."""
    yy, yx, y, xy, xx, x = affine
    scale = 1 / (yy * xx - yx * xy)
    back_yy, back_yx, back_xy, back_xx = xx * scale, -yx * scale, -xy * scale, yy * scale
    back_y, back_x = -(back_yy * y + back_yx * x), -(back_xy * y + back_xx * x)
    inverse = Affine(back_yy, back_yx, back_y, back_xy, back_xx, back_x)
    return jnp.stack([*affine, *inverse], axis=-1)


def sample_affine(images: jax.Array, matrix: jax.Array, growth: float) -> jax.Array:
    """Bilinear samples with zeros outside the image; linear in the pixels, no derivative else.

    Args:
      images: `(n, h, w, c)`.
      matrix: `(1, 12)` or `(n, 12)`, of `matrix_of`.
      growth: how far apart, at most, two pixels that one is sampled from come to lie along a row or
        a column: a zoom's factor, √2 for a rotation.

    Returns:
      `(n, h, w, c)` of the same dtype.
    """
    # Pixels that sample a given one lie within `growth` of where it is mapped back to; so many rows
    # and columns about the nearest have them all.
    reach = max(1, int(growth + 0.5 - 1e-6))
    sampled: jax.Array = _sample.bind(images[None], matrix[None], reach=reach)[0]
    return sampled


def _grid(matrix: jax.Array, i: jax.Array, j: jax.Array, size: Any) -> tuple[jax.Array, jax.Array]:
    """Where the pixels at rows i and columns j come from; `matrix` broadcasts, its last axis 6."""
    yy, yx, y, xy, xx, x = jnp.moveaxis(matrix, -1, 0)
    height, width = size
    up, left = (height - 1) / 2, (width - 1) / 2
    i, j = i - up, j - left
    return yy * i + (yx * j + up) + y, xx * j + (xy * i + left) + x


def _positions(matrix: jax.Array, height: int, width: int) -> tuple[jax.Array, jax.Array]:
    """Of every pixel of an image, `(m, 12)` → two of `(m, h, w)`."""
    rows, columns = jnp.arange(height)[:, None], jnp.arange(width)[None]
    return _grid(matrix[:, None, None, :6], rows, columns, (height, width))


def _gather(images: jax.Array, matrix: jax.Array, reach: int) -> jax.Array:
    # In float32 a position is known to 2e-6 of a pixel at best, and differs by so much from what a
    # branch of its own would make of the same numbers.
    del reach
    return sample(images, *_positions(matrix, *images.shape[1:3]))


def _gather_transposed(g: jax.Array, matrix: jax.Array, reach: int) -> jax.Array:
    """Each pixel gathers from those about the place that it is mapped back to."""
    n, height, width, channels = g.shape
    a, b = jnp.arange(height)[:, None], jnp.arange(width)[None]
    matrix, inverse = jnp.split(matrix[:, None, None], 2, axis=-1)
    nearest_row, nearest_column = map(jnp.round, _grid(inverse, a, b, (height, width)))
    flat, total = g.reshape(n, height * width, channels), jnp.zeros_like(g)
    for down in range(-reach, reach + 1):
        for right in range(-reach, reach + 1):
            i, j = nearest_row + down, nearest_column + right
            at_y, at_x = _grid(matrix, i, j, (height, width))
            weight = jnp.maximum(1 - jnp.abs(at_y - a), 0) * jnp.maximum(1 - jnp.abs(at_x - b), 0)
            inside = (i >= 0) & (i < height) & (j >= 0) & (j < width)
            weight = jnp.where(inside, weight, 0).astype(g.dtype)[..., None]
            index = jnp.clip(i, 0, height - 1) * width + jnp.clip(j, 0, width - 1)
            index = jnp.broadcast_to(index.astype(jnp.int32), (n, height, width))
            fetched = jax.vmap(lambda image, at: image[at])(flat, index)
            total += weight * fetched
    return total


def _hats(matrix: jax.Array, images: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The weights of rows `(m, h, w, h)` and of columns `(m, h, w, w)` in every pixel."""
    height, width = images.shape[1:3]
    y, x = _positions(matrix, height, width)

    def hat(position: jax.Array, size: int) -> jax.Array:
        distance = jnp.abs(position[..., None] - jnp.arange(size))
        return jnp.maximum(1 - distance, 0).astype(images.dtype)

    return hat(y, height), hat(x, width)


def _products(images: jax.Array, matrix: jax.Array, reach: int) -> jax.Array:
    del reach
    rows, columns = _hats(matrix, images)
    # Full precision, for an accelerator's default would round pixels that do not even move.
    product = partial(jnp.einsum, precision=lax.Precision.HIGHEST)
    if matrix.shape[0] == 1:
        by_row = product("ija,nabc->nijbc", rows[0], images)
        return product("ijb,nijbc->nijc", columns[0], by_row)
    return product("nijb,nijbc->nijc", columns, product("nija,nabc->nijbc", rows, images))


def _products_transposed(g: jax.Array, matrix: jax.Array, reach: int) -> jax.Array:
    images = jax.ShapeDtypeStruct(g.shape, g.dtype)
    forward = partial(_products, matrix=matrix, reach=reach)
    transposed: jax.Array = jax.linear_transpose(forward, images)(g)[0]
    return transposed


def _primitive(name: str, on_tpu: Any, elsewhere: Any) -> Primitive:
    """Of arrays with a leading axis of groups, `(g, n, h, w, c)`, `(g, m, 12)`: `vmap` adds them.

    The images of a group may have one map between them.
    """
    primitive = Primitive(f"jdd_{name}")

    def apply(
        of_group: Callable[..., jax.Array], images: jax.Array, matrix: jax.Array, *, reach: int
    ) -> jax.Array:
        if images.shape[0] == 1:
            return of_group(images[0], matrix[0], reach)[None]
        if matrix.shape[1] == images.shape[1]:  # no map is shared: all are images of one group
            merged = of_group(*(v.reshape(-1, *v.shape[2:]) for v in (images, matrix)), reach)
            return merged.reshape(images.shape)
        grouped: jax.Array = jax.vmap(partial(of_group, reach=reach))(images, matrix)
        return grouped

    def abstract(images: Any, matrix: Any, *, reach: int) -> Any:
        del matrix, reach
        return images.update(shape=images.shape)

    primitive.def_abstract_eval(abstract)
    primitive.def_impl(jax.jit(primitive.bind, static_argnames="reach"))
    for platform, of_group in ((None, elsewhere), ("tpu", on_tpu)):
        rule = mlir.lower_fun(partial(apply, of_group), multiple_results=False)
        mlir.register_lowering(primitive, rule, platform=platform)
    batching.primitive_batchers[primitive] = partial(_batch, primitive)
    return primitive


def _batch(primitive: Primitive, arrays: Any, axes: Any, *, reach: int) -> tuple[jax.Array, int]:
    both, size = folded(arrays, axes)
    out = primitive.bind(*both, reach=reach)
    return out.reshape(size, -1, *out.shape[1:]), 0


_sample = _primitive("sample_affine", _products, _gather)
_sample_transposed = _primitive(
    "sample_affine_transposed", _products_transposed, _gather_transposed
)


def _differentiate(primitive: Primitive, transposed: Primitive) -> None:
    def along(primals: Any, tangents: Any, *, reach: int) -> tuple[jax.Array, Any]:
        images, matrix = primals
        out = primitive.bind(images, matrix, reach=reach)
        if isinstance(tangents[0], ad.Zero):
            return out, jnp.zeros_like(out)
        return out, primitive.bind(tangents[0], matrix, reach=reach)

    def back(g: Any, images: Any, matrix: Any, *, reach: int) -> tuple[Any, None]:
        if isinstance(g, ad.Zero):
            return ad.Zero(images.aval), None
        return transposed.bind(g, matrix, reach=reach), None

    ad.primitive_jvps[primitive] = along
    ad.primitive_transposes[primitive] = back


_differentiate(_sample, _sample_transposed)
_differentiate(_sample_transposed, _sample)
