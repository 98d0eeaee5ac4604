"""Gradient matching (DC)."""

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp

from jdd.errors import unknown
from jdd.losses._shapes import check_same

PyTree = Any

_EPSILON = 1e-6  # added to the product of the norms, as in the released code


def gradient_matching(
    synthetic_grads: PyTree, real_grads: PyTree, metric: str = "layerwise_cosine"
) -> jax.Array:
    """Distance between the parameter gradients of synthetic and of real images.

    With aᵤ and bᵤ the gradients of output unit u's incoming weights (Flax's last axis):

        layerwise_cosine:  Σ_layers Σ_u 1 − aᵤ·bᵤ / (‖aᵤ‖ ‖bᵤ‖ + ε),    1-D leaves left out
        mse:               ‖a − b‖²,                                     over all leaves together
        l1:                Σ |a − b|,                                    over all leaves together
        cosine:            1 − a·b / (‖a‖ ‖b‖ + ε),                      over all leaves together

    Match one class at a time, and take both gradients at the same parameters: a gradient over all
    classes mixed hides what each class wants. The layer-wise sum grows with the network's width, so
    an image learning rate that suits one width does not suit another.

    Args:
      synthetic_grads: a pytree of gradients in Flax layout, `(…, in, out)`, differentiable.
      real_grads: the same structure.
      metric: "layerwise_cosine" (the paper's), "mse", "l1" or "cosine".

    Returns:
      The loss, a float32 scalar. A unit without any gradient on either side counts 1 and has a
      gradient of zero.

    Raises:
      UserError: an unknown metric; it names the nearest one.
      ValueError: the two differ in structure or shapes.

    References:
      Zhao et al., "Dataset Condensation with Gradient Matching" (2021). That the released
      code leaves biases and norms out is not in the paper.
    """
    if metric not in GRADIENT_METRICS:
        raise unknown("gradient metric", metric, GRADIENT_METRICS)
    synthetic = [a.astype(jnp.float32) for a in jax.tree.leaves(synthetic_grads)]
    check_same("gradient_matching", synthetic_grads, real_grads)
    real = [b.astype(jnp.float32) for b in jax.tree.leaves(real_grads)]
    return GRADIENT_METRICS[metric](synthetic, real)


def _layerwise_cosine(synthetic: list[jax.Array], real: list[jax.Array]) -> jax.Array:
    total = jnp.zeros((), jnp.float32)
    for a, b in zip(synthetic, real, strict=True):
        if a.ndim > 1:
            incoming = tuple(range(a.ndim - 1))
            products = (jnp.sum(x, axis=incoming) for x in (a * b, a * a, b * b))
            total += jnp.sum(1 - _cosine(*products))
    return total


def _mse(synthetic: list[jax.Array], real: list[jax.Array]) -> jax.Array:
    return _total(jnp.square(a - b) for a, b in zip(synthetic, real, strict=True))


def _l1(synthetic: list[jax.Array], real: list[jax.Array]) -> jax.Array:
    return _total(jnp.abs(a - b) for a, b in zip(synthetic, real, strict=True))


def _joint_cosine(synthetic: list[jax.Array], real: list[jax.Array]) -> jax.Array:
    dot = _total(a * b for a, b in zip(synthetic, real, strict=True))
    return 1 - _cosine(dot, _total(a * a for a in synthetic), _total(b * b for b in real))


GRADIENT_METRICS = {
    "layerwise_cosine": _layerwise_cosine,
    "mse": _mse,
    "l1": _l1,
    "cosine": _joint_cosine,
}


def _total(leaves: Iterable[jax.Array]) -> jax.Array:
    return jnp.sum(jnp.stack([jnp.sum(leaf) for leaf in leaves]))


def _cosine(dot: jax.Array, square_a: jax.Array, square_b: jax.Array) -> jax.Array:
    return dot / (_root(square_a) * _root(square_b) + _EPSILON)


def _root(square: jax.Array) -> jax.Array:
    """The square root; at zero its derivative is zero, not infinite."""
    return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1.0)), 0.0)
