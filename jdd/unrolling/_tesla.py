"""TESLA's gradient, in constant memory and not the exact one."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jdd.unrolling._step import PyTree, StepLoss, add_scaled, product, step


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def tesla(
    loss: StepLoss, params: PyTree, data: PyTree, learning_rate: jax.Array, plan: PyTree
) -> PyTree:
    """The same parameters as `sgd`, with TESLA's gradient, which is *not* the exact one.

    TESLA takes θ_N = θ_0 − α Σ_t ∇_θ loss(θ_t, data, plan_t) and holds every θ_t inside the sum
    constant: the adjoint λ of the last parameters serves all steps, unchanged. So nothing has to
    be stored, and no Hessian is multiplied; with many or large steps the direction differs.

    Args:
      loss, params, data, learning_rate, plan: as for `sgd`.

    References:
      Cui et al., "Scaling Up Dataset Distillation to ImageNet-1K with Constant Memory" (2023),
      section 3.
    """
    return _tesla_forward(loss, params, data, learning_rate, plan)[0]


def _tesla_forward(
    loss: StepLoss, params: PyTree, data: PyTree, learning_rate: jax.Array, plan: PyTree
) -> tuple[PyTree, tuple[PyTree, ...]]:
    learning_rate = jnp.asarray(learning_rate)
    last, _ = jax.lax.scan(
        lambda p, entry: (step(loss, p, data, learning_rate, entry), None), params, plan
    )
    return last, (params, data, learning_rate, plan)


def _tesla_backward(loss: StepLoss, saved: tuple[PyTree, ...], cotangent: PyTree) -> Any:
    params, data, learning_rate, plan = saved

    def again(carry: tuple[PyTree, PyTree, jax.Array], entry: PyTree) -> Any:
        current, data_bar, rate_bar = carry
        gradient, slope, _, of_data = product(loss, current, entry, data, cotangent)
        return (
            add_scaled(current, -learning_rate, gradient),
            add_scaled(data_bar, -learning_rate, of_data),
            rate_bar - slope.astype(rate_bar.dtype),
        ), None

    start = (params, jax.tree.map(jnp.zeros_like, data), jnp.zeros_like(learning_rate))
    (_, data_bar, rate_bar), _ = jax.lax.scan(again, start, plan)
    return cotangent, data_bar, rate_bar, None


tesla.defvjp(_tesla_forward, _tesla_backward)
