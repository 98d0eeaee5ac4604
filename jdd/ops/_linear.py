"""Linear maps whose transpose is written by hand too, and not left to autodiff.

What autodiff makes of a few strided slices is as many paddings, which a CPU takes several times as
long for as for the one pass over the array that the transpose can be.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from jdd.ops.target import platform

Shape = tuple[int, ...]

_LARGE = 2**17  # entries of a map
_JOINED = 2**21  # entries of a map whose sums are taken together with another's


def linear_pair(
    name: str,
    forward: Callable[..., jax.Array],
    transpose: Callable[..., jax.Array],
) -> Callable[..., jax.Array]:
    """`forward` as a function of one array whose transpose is `transpose`, and the other way round.

    Args:
      name: of the primitives.
      forward: `(x, shape)` → an array; linear in x, whose shape `shape` is. The leading axis is one
        of examples that do not meet.
      transpose: `(g, shape)` → an array of that shape, for g like what `forward` gives.

    Returns:
      `x → forward(x, x.shape)`, differentiable any number of times in either mode, also under
      `vmap`.
    """
    functions = {"": forward, "_transpose": transpose}
    direct, back = (Primitive(f"jdd_{name}{suffix}") for suffix in functions)
    for primitive, function in zip((direct, back), functions.values(), strict=True):
        _define(primitive, function)
    ad.deflinear2(direct, lambda g, _, shape: [back.bind(g, shape=shape)])
    ad.deflinear2(back, lambda g, _, shape: [direct.bind(g, shape=shape)])
    return lambda x: direct.bind(x, shape=x.shape[1:])


def folded(arrays: Sequence[Any], axes: Sequence[Any]) -> tuple[list[jax.Array], int]:
    """Arrays under `vmap`, their new axis folded into the leading one; and the size of that axis.

    Args:
      arrays: each with a leading axis of examples.
      axes: each one's new axis; None where it has none and is the same for all.
    """
    size = next(v.shape[d] for v, d in zip(arrays, axes, strict=True) if d is not None)
    stacked = (
        jnp.broadcast_to(v, (size, *v.shape)) if d is None else jnp.moveaxis(v, d, 0)
        for v, d in zip(arrays, axes, strict=True)
    )
    return [v.reshape(-1, *v.shape[2:]) for v in stacked], size


def _define(primitive: Primitive, function: Callable[..., jax.Array]) -> None:
    def apply(v: jax.Array, *, shape: Shape) -> jax.Array:
        return function(v, (v.shape[0], *shape))

    def abstract(v: Any, *, shape: Shape) -> jax.core.ShapedArray:
        plain = jax.ShapeDtypeStruct(v.shape, v.dtype)
        out: jax.core.ShapedArray = v.update(
            shape=jax.eval_shape(lambda u: apply(u, shape=shape), plain).shape
        )
        return out

    def batch(arrays: Any, axes: Any, *, shape: Shape) -> tuple[jax.Array, int]:
        (v,), size = folded(arrays, axes)
        out = primitive.bind(v, shape=shape)
        return out.reshape(size, -1, *out.shape[1:]), 0

    primitive.def_abstract_eval(abstract)
    primitive.def_impl(jax.jit(primitive.bind, static_argnames="shape"))
    mlir.register_lowering(primitive, mlir.lower_fun(apply, multiple_results=False))
    batching.primitive_batchers[primitive] = batch


def _copied(v: jax.Array, shape: Shape) -> jax.Array:
    """v, half after half in a loop, which XLA can neither leave out nor join to what reads it."""
    del shape
    half = -(-v.shape[0] // 2)

    def copy(copied: jax.Array, i: jax.Array) -> tuple[jax.Array, None]:
        part = lax.dynamic_slice_in_dim(v, i * half, half)
        return lax.dynamic_update_slice_in_dim(copied, part, i * half, 0), None

    return lax.scan(copy, v, jnp.arange(2))[0]


def _as_it_is(v: jax.Array, shape: Shape) -> jax.Array:
    del shape
    return v


def _apart(v: jax.Array, shape: Shape) -> jax.Array:
    del shape
    apart: jax.Array = lax.optimization_barrier(v)
    return apart


_in_memory = linear_pair("in_memory", _copied, _as_it_is)
_cotangent_in_memory = linear_pair("cotangent_in_memory", _as_it_is, _copied)
_cotangent_apart = linear_pair("cotangent_apart", _as_it_is, _apart)
_written = linear_pair("written", _apart, _as_it_is)


def in_memory(v: jax.Array) -> jax.Array:
    """v, and its tangents, computed before what reads them: for factors of large maps.

    XLA's CPU compiler joins a few dozen products of small arrays to the loop over a map that they
    are factors in, and computes all of them for each of its entries.
    """
    return _in_memory(v)


def cotangent_in_memory(v: jax.Array) -> jax.Array:
    """v; its cotangents are computed before what reads them, as by `in_memory`."""
    return _cotangent_in_memory(v)


def cotangent_apart(v: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """v broadcast to a shape; the sum that is its cotangent is taken of an array that is there.

    XLA joins sums of sums, so that one over images, of sums over their pixels that are at hand,
    became one over all images' pixels in a kernel of its own.
    """
    return _cotangent_apart(jnp.broadcast_to(v, shape))


def written(v: jax.Array) -> jax.Array:
    """v; a GPU writes it to memory once, and does not compute it anew in all that reads it."""
    return _written(v) if platform() == "gpu" else v


@jax.custom_jvp
def product_with_written(a: jax.Array, b: jax.Array) -> jax.Array:
    """a · b, whose derivative to a reads b from memory.

    A sum over pixels, which the cotangent of an a that is one number a map becomes, would compute b
    anew in a kernel of its own.
    """
    return a * b


@product_with_written.defjvp
def _tangent_of_product(
    primals: tuple[jax.Array, jax.Array], tangents: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array]:
    (a, b), (a_dot, b_dot) = primals, tangents
    return a * b, a_dot * lax.optimization_barrier(b) + a * b_dot


def pixel_sums(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The sums over the pixels of two maps `(n, h, w, c)`, `(n, c)` each, of float32 or more.

    On a GPU those of small maps are one sum of the two joined: of two sums and their tangents XLA
    makes three kernels, and writes a map for one of them to memory. In larger maps joining costs
    more than that.
    """
    sums: tuple[jax.Array, jax.Array] = tuple(_pixel_sums.bind(a, b))
    return sums


def _sums(a: jax.Array, b: jax.Array) -> list[jax.Array]:
    return [jnp.sum(v, (1, 2), _of_sums(v)) for v in (a, b)]


def _sums_on_a_gpu(a: jax.Array, b: jax.Array) -> list[jax.Array]:
    if a.size > _JOINED:
        return _sums(a, b)
    return list(jnp.sum(jnp.stack([a, b]), (2, 3), _of_sums(a)))


def _of_sums(v: Any) -> Any:
    """The type of sums of many entries: those of float16 would overflow."""
    return jnp.promote_types(v.dtype, jnp.float32)


def _tangents_of_sums(primals: Any, tangents: Any) -> Any:
    return _pixel_sums.bind(*primals), _pixel_sums.bind(*map(ad.instantiate_zeros, tangents))


def _cotangents_of_sums(sums: Any, *maps: Any) -> list[jax.Array]:
    spread = (ad.instantiate_zeros(g)[:, None, None] for g in sums)
    return [
        jnp.broadcast_to(g.astype(v.aval.dtype), v.aval.shape)
        for g, v in zip(spread, maps, strict=True)
    ]


def _batch_sums(arrays: Any, axes: Any) -> tuple[list[jax.Array], list[int]]:
    maps, size = folded(arrays, axes)
    sums = _pixel_sums.bind(*maps)
    return [v.reshape(size, -1, v.shape[1]) for v in sums], [0, 0]


_pixel_sums = Primitive("jdd_pixel_sums")
_pixel_sums.multiple_results = True
_pixel_sums.def_abstract_eval(
    lambda *maps: [v.update(shape=(v.shape[0], v.shape[3]), dtype=_of_sums(v)) for v in maps]
)
_pixel_sums.def_impl(jax.jit(_pixel_sums.bind))
mlir.register_lowering(_pixel_sums, mlir.lower_fun(_sums, multiple_results=True))
mlir.register_lowering(
    _pixel_sums, mlir.lower_fun(_sums_on_a_gpu, multiple_results=True), platform="cuda"
)
ad.primitive_jvps[_pixel_sums] = _tangents_of_sums
ad.primitive_transposes[_pixel_sums] = _cotangents_of_sums
batching.primitive_batchers[_pixel_sums] = _batch_sums


def pays_in_memory(entries: int) -> bool:
    """Whether factors of a map of so many entries should be in memory; it costs compile time."""
    return platform() == "cpu" and entries >= _LARGE
