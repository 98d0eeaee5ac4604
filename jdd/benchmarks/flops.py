"""The arithmetic of a computation with loops, counted without running it."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr
from jax.interpreters.partial_eval import dce_jaxpr


def product_flops(function: Callable[..., Any], *arguments: Any, turns: int | None = None) -> int:
    """Floating-point operations of a call's matrix products and convolutions; nothing is run.

    A multiplication and an addition are two. Everything else (norms, activations, sampling pixels)
    is left out: next to the products it is little arithmetic, if not little time. Counted is the
    traced program, derivatives and all, so each product as often as it is made:

    - Products that nothing depends on are left out. Where the same one stands in the program
      twice, XLA may make it once; it counts twice.
    - The body of a `scan` counts as often as it is run. How often that of a `while` is, tracing
      does not know: `turns` tells.
    - Of the branches of a `cond` or `switch` the most expensive one counts.
    - Convolutions count what they multiply with the zeros around an image, as the field does.

    Args:
      function: to be called with `arguments`.
      *arguments: pytrees of arrays, or of `jax.ShapeDtypeStruct`.
      turns: how often the body of each `while` loop is run.

    Raises:
      ValueError: `turns` is not given, and a `while` loop has products in it.
    """
    return _count(jax.make_jaxpr(function)(*arguments).jaxpr, turns)


def _count(jaxpr: Jaxpr, turns: int | None) -> int:
    # Again for each program inside, as it does not go into all kinds of them by itself.
    live, _ = dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))
    return sum(_of_equation(equation, turns) for equation in live.eqns)


def _of_equation(equation: Any, turns: int | None) -> int:
    name = equation.primitive.name
    if name in _PRODUCTS:
        return _PRODUCTS[name](equation)
    inside = [_count(jaxpr, turns) for jaxpr in _jaxprs(equation.params)]
    if name == "scan":
        return int(equation.params["length"]) * sum(inside)
    if name == "cond":
        return max(inside)
    if name == "while":
        if turns is None and any(inside):
            raise ValueError("a while loop has products in it: say how many turns it takes")
        return (turns or 0) * sum(inside)
    return sum(inside)


def _jaxprs(params: dict[str, Any]) -> Iterator[Jaxpr]:
    """The programs that an equation holds: of a loop, its branches, a call."""
    for leaf in jax.tree.leaves(params, is_leaf=lambda v: isinstance(v, Jaxpr | ClosedJaxpr)):
        if isinstance(leaf, ClosedJaxpr):
            yield leaf.jaxpr
        elif isinstance(leaf, Jaxpr):
            yield leaf


def _dot(equation: Any) -> int:
    (contracted, _), _ = equation.params["dimension_numbers"]
    left: tuple[int, ...] = equation.invars[0].aval.shape
    return int(2 * equation.outvars[0].aval.size * math.prod(left[i] for i in contracted))


def _lax_convolution(equation: Any) -> int:
    kernel = equation.invars[1].aval
    # Output channels are what a kernel entry is *not* summed over; groups are in its shape already.
    outputs = kernel.shape[equation.params["dimension_numbers"].rhs_spec[0]]
    result = equation.outvars[0].aval
    dilated = math.prod(equation.params["lhs_dilation"])
    return int(2 * result.size * kernel.size // outputs // dilated)


def _own_convolution(equation: Any) -> int:
    """Of `jdd.ops`: the three products of a convolution multiply the same pairs of numbers."""
    arrays = [v.aval.shape for v in (*equation.invars, *equation.outvars)]
    find = {
        "jdd_convolution_forward": (0, 2),
        "jdd_convolution_input_gradient": (2, 0),
        "jdd_convolution_kernel_gradient": (0, 1),
    }
    x, y = (arrays[place] for place in find[equation.primitive.name])
    return int(2 * math.prod(y) * math.prod(equation.params["window"].kernel) * x[-1])


_PRODUCTS: dict[str, Callable[[Any], int]] = {
    "dot_general": _dot,
    "conv_general_dilated": _lax_convolution,
    "jdd_convolution_forward": _own_convolution,
    "jdd_convolution_input_gradient": _own_convolution,
    "jdd_convolution_kernel_gradient": _own_convolution,
}
