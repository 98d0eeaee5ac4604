"""How many models are worked on at once, and how, on this platform."""

from collections.abc import Callable
from typing import Any

import jax

_MOST = 10  # activations of more would not leave room for large networks


def models_at_once(wanted: int) -> int:
    """How many models one compiled call should hold: one on a CPU, up to ten elsewhere.

    On a CPU one model fills the cores, and a batch of kernels would become a grouped convolution,
    which XLA's CPU backend runs four times slower than one model after another.
    """
    return 1 if jax.default_backend() == "cpu" else min(wanted, _MOST)


def stack(trees: list[Any]) -> Any:
    """Pytrees of one structure, one for each model, as one with a leading axis of models."""
    return jax.tree.map(lambda *leaves: jax.numpy.stack(leaves), *trees)


def over_models(function: Callable[..., Any]) -> Callable[..., Any]:
    """Maps `function` over the leading axis of all its arguments, the fast way for this platform.

    `lax.map` (one model after another) on a CPU, `vmap` elsewhere; the results are the same. One
    model alone is called as it is: under `vmap` every branch of a `lax.switch` would be computed.
    """

    def mapped(*arguments: Any) -> Any:
        if jax.tree.leaves(arguments)[0].shape[0] == 1:
            alone = function(*jax.tree.map(lambda leaf: leaf[0], arguments))
            return jax.tree.map(lambda leaf: leaf[None], alone)
        if jax.default_backend() == "cpu":
            return jax.lax.map(lambda packed: function(*packed), arguments)
        return jax.vmap(function)(*arguments)

    return mapped
