"""Two-dimensional convolution whose derivatives of every order stay fast on a CPU.

A convolution y = x ∗ w and its two gradients are the three partial derivatives of one trilinear
form Σ g · (x ∗ w). Here each is its own primitive, and the transposes of each are the other
two, so autodiff never leaves the three: forward, reverse, or one over the other. On a CPU they are
computed as `jdd.ops._convolution_cpu` says, on a TPU as `_convolution_tpu`, on a GPU few grey
images as `_convolution_gpu`; else XLA's own convolution is the best there is.

Arrays inside carry a leading axis of models: `vmap` over images alone makes a larger batch,
`vmap` over kernels makes more models, which a CPU computes one after another (a grouped convolution
is four times slower there) and a GPU at once.

Within `jax.default_matmul_precision("bfloat16")` the factors of all three products, and what they
give, are rounded to bfloat16, on every platform alike; sums inside a product are float32. JAX's
other precisions mean what they do for `jax.lax.conv_general_dilated`.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from jdd.ops import _convolution_cpu as cpu
from jdd.ops import _convolution_gpu as gpu
from jdd.ops import _convolution_tpu as tpu
from jdd.ops._linear import folded
from jdd.ops._window import Pair, Window


def conv2d(
    x: jax.Array,
    w: jax.Array,
    padding: int | tuple[Pair, Pair] = 1,
    stride: int | Pair = 1,
) -> jax.Array:
    """Convolves images with a kernel; differentiable any number of times in either mode.

    Args:
      x: `(n, h, w, c)` of any float dtype.
      w: `(kh, kw, c, o)`.
      padding: zeros around the image, one number or `((above, below), (left, right))`.
      stride: one number or `(vertical, horizontal)`.

    Returns:
      `(n, oh, ow, o)` of the promoted dtype, with `oh = (h + above + below - kh) // stride + 1`.

    Raises:
      ValueError: where the shapes do not fit each other or the kernel does not fit the image.
    """
    if x.ndim != 4 or w.ndim != 4 or x.shape[3] != w.shape[2]:
        raise ValueError(
            f"conv2d wants images (n, h, w, c) and a kernel (kh, kw, c, o): {x.shape}, {w.shape}"
        )
    pads = ((padding, padding), (padding, padding)) if isinstance(padding, int) else padding
    strides = (stride, stride) if isinstance(stride, int) else stride
    dtype = jnp.promote_types(x.dtype, w.dtype)
    # Here, not where the products are lowered: by then a context that this is traced in has ended.
    precision = jax.config.jax_default_matmul_precision  # type: ignore[attr-defined, unused-ignore]
    window = Window((x.shape[1], x.shape[2]), (w.shape[0], w.shape[1]), pads, strides, precision)
    if min(window.output) < 1:
        raise ValueError(
            f"a {w.shape[:2]} kernel does not fit an image of {x.shape[1:3]} padded by {pads}"
        )
    x, w = _over_the_same_axes(x.astype(dtype), w.astype(dtype))
    y: jax.Array = _forward.bind(x[None], w[None], window=window)[0]
    return y


def _over_the_same_axes(*arrays: jax.Array) -> list[jax.Array]:
    """Inside `shard_map`, marks each array as varying over every mesh axis that any of them does.

    JAX does this itself for its own operations; it is how a kernel that all devices share gets the
    sum of their gradients.
    """
    varying = [jax.typeof(v).mat.varying for v in arrays]
    everywhere = frozenset[Any]().union(*varying)
    return [
        lax.pcast(v, tuple(everywhere - axes), to="varying") if everywhere - axes else v
        for v, axes in zip(arrays, varying, strict=True)
    ]


def _native_forward(x: jax.Array, w: jax.Array, window: Window) -> jax.Array:
    return lax.conv_general_dilated(
        x,
        w,
        window.strides,
        window.padding,
        dimension_numbers=cpu.DIMENSIONS,
        precision=window.precision,
    )


def _native_input_gradient(g: jax.Array, w: jax.Array, window: Window) -> jax.Array:
    x = jax.ShapeDtypeStruct((g.shape[0], *window.image, w.shape[2]), g.dtype)
    gradient: jax.Array = jax.linear_transpose(lambda x: _native_forward(x, w, window), x)(g)[0]
    return gradient


def _gpu_forward(x: jax.Array, w: jax.Array, window: Window) -> jax.Array:
    return (gpu.forward if gpu.takes(x, w, window) else _native_forward)(x, w, window)


def _gpu_input_gradient(g: jax.Array, w: jax.Array, window: Window) -> jax.Array:
    taken = gpu.takes(g, w, window)
    return (gpu.input_gradient if taken else _native_input_gradient)(g, w, window)


def _gpu_kernel_gradient(x: jax.Array, g: jax.Array, window: Window) -> jax.Array:
    return _native_kernel_gradient(_as_it_is(x), g, window)


def _gpu_kernel_gradients(x: jax.Array, g: jax.Array, window: Window) -> jax.Array:
    """Of several models. XLA takes groups of batches for cuDNN's gradient of a kernel, and groups
    of channels, which `vmap` of the one above makes, for a convolution as wide as the image."""
    x = _as_it_is(x)
    w = jax.ShapeDtypeStruct((x.shape[0], *window.kernel, x.shape[4], g.shape[4]), x.dtype)

    def forward(w: jax.Array) -> jax.Array:
        return jax.vmap(lambda x, w: _native_forward(x, w, window))(x, w)

    gradient: jax.Array = jax.linear_transpose(forward, w)(g)[0]
    return gradient


def _as_it_is(x: jax.Array) -> jax.Array:
    """Grey and colour images with the zeros around them, hidden from XLA.

    As zeros that it knows of, those of MNIST's would become more padding than the kernel is wide.
    No library has that, and it was made a convolution whose window is the whole image, of
    transposed arrays.
    """
    return lax.optimization_barrier(x) if x.shape[-1] <= cpu.FEW_CHANNELS else x


def _tpu_forward(x: jax.Array, w: jax.Array, window: Window) -> jax.Array:
    return (tpu.forward if x.shape[3] == 1 else _native_forward)(x, w, window)


def _tpu_kernel_gradient(x: jax.Array, g: jax.Array, window: Window) -> jax.Array:
    return (tpu.kernel_gradient if x.shape[3] == 1 else _native_kernel_gradient)(x, g, window)


def _native_kernel_gradient(x: jax.Array, g: jax.Array, window: Window) -> jax.Array:
    w = jax.ShapeDtypeStruct((*window.kernel, x.shape[3], g.shape[3]), x.dtype)
    gradient: jax.Array = jax.linear_transpose(lambda w: _native_forward(x, w, window), w)(g)[0]
    return gradient


def _over_models(
    loop: Callable[..., Any],
    product: Callable[..., jax.Array],
    narrow: Callable[[jax.Array], jax.Array],
    of_several: Callable[..., jax.Array] | None = None,
) -> Callable[..., jax.Array]:
    """A product of arrays with a leading axis of models, by `loop` or `of_several` unless there is
    just one."""

    def rounded(product: Callable[..., jax.Array], window: Window) -> Callable[..., jax.Array]:
        def apply(a: jax.Array, b: jax.Array) -> jax.Array:
            if window.precision != "bfloat16" or a.dtype != jnp.float32:
                return product(a, b, window)
            return narrow(product(narrow(a), narrow(b), window)).astype(a.dtype)

        return apply

    def apply(a: jax.Array, b: jax.Array, *, window: Window) -> jax.Array:
        if a.shape[0] == 1:
            return rounded(product, window)(a[0], b[0])[None]
        if of_several is not None:
            return rounded(of_several, window)(a, b)
        products: jax.Array = loop(rounded(product, window))(a, b)
        return products

    return apply


def _one_after_another(product: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    return lambda *arrays: lax.map(lambda pair: product(*pair), arrays)


def _primitive(
    name: str,
    shape: Callable[..., tuple[int, ...]],
    on_cpu: Callable[..., jax.Array],
    on_tpu: Callable[..., jax.Array],
    on_gpu: Callable[..., jax.Array],
    elsewhere: Callable[..., jax.Array],
    on_gpu_several: Callable[..., jax.Array] | None = None,
) -> Primitive:
    primitive = Primitive(f"jdd_convolution_{name}")

    def abstract(a: Any, b: Any, *, window: Window) -> jax.core.ShapedArray:
        out: jax.core.ShapedArray = a.update(
            shape=(a.shape[0], *shape(a.shape[1:], b.shape[1:], window))
        )
        return out

    primitive.def_abstract_eval(abstract)
    primitive.def_impl(jax.jit(primitive.bind, static_argnames="window"))

    def narrow(v: jax.Array) -> jax.Array:
        return v.astype(jnp.bfloat16)

    for platform, over_models in (
        (None, _over_models(jax.vmap, elsewhere, narrow)),
        ("cuda", _over_models(jax.vmap, on_gpu, narrow, on_gpu_several)),
        ("tpu", _over_models(jax.vmap, tpu.in_passes(on_tpu), narrow)),
        ("cpu", _over_models(_one_after_another, on_cpu, cpu.rounded)),
    ):
        rule = mlir.lower_fun(over_models, multiple_results=False)
        mlir.register_lowering(primitive, rule, platform=platform)
    return primitive


_forward = _primitive(
    "forward",
    lambda x, w, window: (x[0], *window.output, w[3]),
    cpu.forward,
    _tpu_forward,
    _gpu_forward,
    _native_forward,
)
_input_gradient = _primitive(
    "input_gradient",
    lambda g, w, window: (g[0], *window.image, w[2]),
    cpu.input_gradient,
    _native_input_gradient,
    _gpu_input_gradient,
    _native_input_gradient,
)
_kernel_gradient = _primitive(
    "kernel_gradient",
    lambda x, g, window: (*window.kernel, x[3], g[3]),
    cpu.kernel_gradient,
    _tpu_kernel_gradient,
    _gpu_kernel_gradient,
    _native_kernel_gradient,
    _gpu_kernel_gradients,
)

# In each rule the first argument is the cotangent, the other two are the primitive's own.
ad.defbilinear(
    _forward,
    lambda g, x, w, window: _input_gradient.bind(g, w, window=window),
    lambda g, x, w, window: _kernel_gradient.bind(x, g, window=window),
)
ad.defbilinear(
    _input_gradient,
    lambda x, g, w, window: _forward.bind(x, w, window=window),
    lambda x, g, w, window: _kernel_gradient.bind(x, g, window=window),
)
ad.defbilinear(
    _kernel_gradient,
    lambda w, x, g, window: _input_gradient.bind(g, w, window=window),
    lambda w, x, g, window: _forward.bind(x, w, window=window),
)


def keep_products(primitive: Any, *arrays: Any, **_: Any) -> bool:
    """A policy for `jax.checkpoint` that saves the outputs of convolutions and input gradients.

    Not those of grey and colour images, which are quick to recompute and larger than others.
    """
    return primitive in (_forward, _input_gradient) and arrays[1].shape[-2] > cpu.FEW_CHANNELS


def _batch(
    primitive: Primitive, images_first: bool, arrays: Any, axes: Any, *, window: Window
) -> tuple[jax.Array, int]:
    (a, b), (a_axis, b_axis) = arrays, axes
    if images_first and b_axis is None:
        # New axis, models, images, … → models, all the images, …
        a = jnp.moveaxis(a, a_axis, 1)
        out = primitive.bind(a.reshape(a.shape[0], -1, *a.shape[3:]), b, window=window)
        return out.reshape(*a.shape[:3], *out.shape[2:]), 1
    both, size = folded(arrays, axes)
    out = primitive.bind(*both, window=window)
    return out.reshape(size, -1, *out.shape[1:]), 0


batching.primitive_batchers[_forward] = partial(_batch, _forward, True)
batching.primitive_batchers[_input_gradient] = partial(_batch, _input_gradient, True)
batching.primitive_batchers[_kernel_gradient] = partial(_batch, _kernel_gradient, False)
