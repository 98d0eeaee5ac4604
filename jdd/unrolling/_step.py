"""One step of gradient descent and its tangent: what every unrolling is made of."""

from collections.abc import Callable
from typing import Any

import jax

PyTree = Any
StepLoss = Callable[[PyTree, PyTree, PyTree], jax.Array]
"""`(params, data, entry of the plan)` → scalar"""


def add_scaled(tree: PyTree, scale: jax.Array, other: PyTree) -> PyTree:
    """tree + scale · other, leaf by leaf in the tree's own dtypes."""
    return jax.tree.map(lambda a, b: a + scale.astype(a.dtype) * b, tree, other)


def step(
    loss: StepLoss, params: PyTree, data: PyTree, learning_rate: jax.Array, entry: PyTree
) -> PyTree:
    """θ − α ∇_θ loss(θ, data, entry)."""
    return add_scaled(params, -learning_rate, jax.grad(loss)(params, data, entry))


def product(loss: StepLoss, params: PyTree, entry: PyTree, data: PyTree, along: PyTree) -> Any:
    """∇_θ loss, ⟨∇_θ loss, along⟩, and the derivative along `along` of ∇_θ loss and ∇_data loss."""
    value_and_gradients = jax.value_and_grad(loss, argnums=(0, 1))
    (_, (gradient, _)), (slope, (of_params, of_data)) = jax.jvp(
        lambda p: value_and_gradients(p, data, entry), (params,), (along,)
    )
    return gradient, slope, of_params, of_data
