"""What a computation costs: FLOPs and memory by XLA's own account, time by running it."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jdd.errors import UserError
from jdd.networks.layers import Conv

_COUNTED_FOR = "rocm"  # where convolutions are XLA's own: no loops, no sums in their place


def parameters(tree: Any) -> int:
    """How many numbers a pytree of arrays (or of their shapes) holds."""
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def flops(function: Callable[..., Any], *arguments: Any) -> int:
    """Floating-point operations of a call, as XLA's cost analysis counts them; nothing is run.

    A multiplication and an addition are two. Counted is the program before XLA rewrites it, and on
    every machine the form whose convolutions are XLA's own, each whole.
    Three things to know:

    - XLA counts the body of a loop once, however often it is run: give loops of one turn, batches
      of one to four images, which `jdd.ops.microbatched_mean` never divides, and multiply.
    - XLA leaves out what a convolution multiplies with the zeros around its image: 8 % of a
      ConvNet-3 and 12 % of a ResNet-18 at 32×32. The field's counts take them in, so here networks
      pad their images beforehand.
    - Of the branches of a `lax.switch` the most expensive one counts.

    Args:
      function: not jitted itself, as what was traced for another purpose would be counted then.
      *arguments: pytrees of arrays, or of `jax.ShapeDtypeStruct`.

    Raises:
      UserError: JAX was started without its CPU, by which XLA counts.
    """
    try:
        cpu = jax.devices("cpu")[0]
    except RuntimeError:
        raise UserError(
            "FLOPs are counted on the CPU, which JAX was started without: "
            f"JAX_PLATFORMS={jax.default_backend()},cpu"
        ) from None
    shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), arguments)
    with jax.default_device(cpu), nn.intercept_methods(_pad_beforehand):
        traced = jax.jit(lambda *arguments: function(*arguments)).trace(*shapes)
        analysis = traced.lower(lowering_platforms=(_COUNTED_FOR,)).cost_analysis()
    return int(analysis["flops"])


def _pad_beforehand(layer: Callable[..., Any], arguments: Any, named: Any, context: Any) -> Any:
    conv = context.module
    if not isinstance(conv, Conv) or not conv.padding or conv.is_initializing():
        return layer(*arguments, **named)
    pads = (conv.padding, conv.padding)
    padded = jnp.pad(arguments[0], ((0, 0), pads, pads, (0, 0)))
    return conv.clone(padding=0, parent=None).apply(conv.variables, padded, **named)


def peak_bytes(compiled: Any) -> int:
    """Memory that a compiled function needs at most: arguments, results and what lies between.

    Donated arguments, whose memory the results take over, count once.
    """
    analysis = compiled.memory_analysis()
    return int(
        analysis.argument_size_in_bytes
        + analysis.output_size_in_bytes
        + analysis.temp_size_in_bytes
        - analysis.alias_size_in_bytes
    )


def seconds(call: Callable[[], Any], most: float = 5.0) -> float:
    """Median seconds of a call: after one to warm up, as many as fit into `most` seconds, of short
    calls two at least."""
    began = time.monotonic()
    jax.block_until_ready(call())
    least = 1 if time.monotonic() - began > most else 2
    times: list[float] = []
    while len(times) < least or time.monotonic() - began < most:
        start = time.monotonic()
        jax.block_until_ready(call())
        times.append(time.monotonic() - start)
        if len(times) >= 20:
            break
    return statistics.median(times)
