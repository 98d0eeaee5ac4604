"""Trajectory matching (MTT)."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jdd.losses._shapes import check_same

PyTree = Any

_TINY = float(np.finfo(np.float32).tiny)


def trajectory_matching(
    student: PyTree, start: PyTree, target: PyTree, weights: PyTree | None = None
) -> jax.Array:
    """Normalised squared distance of a student's parameters from the expert's:

        ‖student − target‖² / ‖start − target‖²

    A student that has not moved gives 1; one that has arrived, 0. The distance runs over all
    parameters together, not layer by layer.

    Pass parameters only (`variables["params"]`): batch statistics are no point on a trajectory and
    would be summed in like weights.

    Args:
      student: parameters after the inner steps on synthetic data, a pytree of float arrays.
      start: the expert's parameters that the student set out from, the same structure.
      target: the expert's parameters some epochs later, the same structure.
      weights: None, or a pytree of scalars or arrays of the same structure; each leaf broadcasts
        against its parameter and weighs the squared entries of numerator and denominator alike.

    Returns:
      The loss, a float32 scalar. It is 0 where all three are equal.

    Raises:
      ValueError: student, start and target differ in structure or shapes.

    References:
      Cazenavette et al., "Dataset Distillation by Matching Training Trajectories" (2022).
    """
    check_same("trajectory_matching", student, start, target)
    if weights is None:
        weights = jax.tree.map(lambda _: 1.0, student)
    numerator = _weighted_distance(student, target, weights)
    denominator = _weighted_distance(start, target, weights)
    return numerator / jnp.maximum(denominator, _TINY)


def _weighted_distance(a: PyTree, b: PyTree, weights: PyTree) -> jax.Array:
    def leaf(x: jax.Array, y: jax.Array, weight: jax.Array | float) -> jax.Array:
        difference = x.astype(jnp.float32) - y.astype(jnp.float32)
        return jnp.sum(jnp.asarray(weight, jnp.float32) * jnp.square(difference))

    return jnp.sum(jnp.stack(jax.tree.leaves(jax.tree.map(leaf, a, b, weights))))
