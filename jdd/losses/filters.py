"""Which parameters are matched: PAD's two filters as weights, and the kernels that IDC takes."""

import math
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jdd.errors import UserError

PyTree = Any


def drop_smallest_errors(student: PyTree, target: PyTree, share: float) -> PyTree:
    """Leaves out the parameters that the student has matched best: a choice of PAD's released code.

    All entries of (student − target)² are sorted together, across layers, and the smallest fraction
    `share` of them gets weight 0. The weights depend on the student: compute them inside the loss,

        trajectory_matching(student, start, target, drop_smallest_errors(student, target, 0.25))

    Args:
      student: a pytree of parameters.
      target: the expert's, the same structure.
      share: fraction of all entries, from 0 up to but not including 1; ⌊share · entries⌋ are
        dropped, but none that ties with the smallest one that stays.

    Returns:
      Weights for `trajectory_matching`, 0 or 1 for every entry, float32; no gradient flows through.

    Raises:
      UserError: `share` is not in [0, 1).

    References:
      Li et al., "Prioritize Alignment in Dataset Distillation" (2024), released code.
    """

    def squared(a: jax.Array, b: jax.Array) -> jax.Array:
        return lax.stop_gradient(jnp.square(a - b)).astype(jnp.float32)

    errors = jax.tree.map(squared, student, target)
    joined = jnp.concatenate([error.ravel() for error in jax.tree.leaves(errors)])
    threshold = _nth_smallest(joined, _dropped(share, joined.size))
    return jax.tree.map(lambda error: (error >= threshold).astype(jnp.float32), errors)


def drop_shallow_layers(params: PyTree, share: float) -> PyTree:
    """Leaves out the parameters nearest to the input: what PAD's paper does.

    Parameters are laid out in one row from the first layer to the last, and its first fraction
    `share` gets weight 0. The cut may fall inside a layer; there it takes output units one by one,
    kernel before bias, as in the row of a PyTorch model. Only names say which layer comes first:
    they are sorted with numbers as numbers (`block_2` before `block_10`, both before `classifier`),
    which is the order of depth in this library's networks and may not be in others.

    Args:
      params: a pytree of nested dicts of parameters; only names and shapes matter.
      share: fraction of all entries, from 0 up to but not including 1; ⌊share · entries⌋ are
        dropped.

    Returns:
      Weights for `trajectory_matching`, 0 or 1 for every entry, float32; constants,
      the same for a whole run.

    Raises:
      UserError: `share` is not in [0, 1).

    References:
      Li et al., "Prioritize Alignment in Dataset Distillation" (2024).
    """
    leaves, structure = jax.tree_util.tree_flatten_with_path(params)
    left = _dropped(share, sum(math.prod(leaf.shape) for _, leaf in leaves))
    weights: list[jax.Array | None] = [None] * len(leaves)
    for place in sorted(range(len(leaves)), key=lambda i: _depth(leaves[i][0])):
        shape = leaves[place][1].shape
        size = math.prod(shape)
        by_unit = (np.arange(size) >= left).reshape(shape[-1:] + shape[:-1])
        weights[place] = jnp.asarray(np.moveaxis(by_unit, 0, -1), jnp.float32)
        left = max(left - size, 0)
    return jax.tree.unflatten(structure, weights)


def hidden_kernels(params: PyTree) -> list[jax.Array]:
    """The kernels of all layers but the last: what IDC matches the gradients of.

    Arrays with one axis, biases and the scales of norms, are left out. The last layer is known by
    its name, as in `drop_shallow_layers`. The released code leaves out every array with two axes
    instead, which for networks with one linear layer, its classifier, is the same.

    Args:
      params: a pytree of nested dicts of parameters, or of their gradients.

    Returns:
      The others, from the first layer to the last but one.

    Raises:
      UserError: none is left.

    References:
      Kim et al., "Dataset Condensation via Efficient Synthetic-Data Parameterization" (2022),
      released code.
    """
    leaves, _ = jax.tree_util.tree_flatten_with_path(params)
    kernels = sorted(
        (leaf for leaf in leaves if leaf[1].ndim > 1), key=lambda leaf: _depth(leaf[0])
    )
    if len(kernels) < 2:
        raise UserError("the network has no layer but its last: its gradients cannot be matched")
    return [kernel for _, kernel in kernels[:-1]]


def _nth_smallest(values: jax.Array, n: int) -> jax.Array:
    """`jnp.sort(values)[n]` of values that are not negative, without XLA's slow sort on a CPU.

    Such floats are ordered as their bits are, read as an integer. So the answer is found bit by
    bit, from the highest: the largest integer that no more than n of the values lie below.
    """
    bits = lax.bitcast_convert_type(values.astype(jnp.float32), jnp.int32)

    def decide(place: jax.Array, prefix: jax.Array) -> jax.Array:
        candidate = prefix | (1 << (30 - place))
        return jnp.where(jnp.sum(bits < candidate) <= n, candidate, prefix)

    answer = lax.fori_loop(0, 31, decide, jnp.zeros((), jnp.int32))
    return lax.bitcast_convert_type(answer, jnp.float32)


def _dropped(share: float, entries: int) -> int:
    if not 0 <= share < 1:
        raise UserError(
            f"the fraction of parameters to drop is {share}: it goes from 0 up to below 1"
        )
    return int(share * entries)


def _depth(path: tuple[Any, ...]) -> tuple[Any, ...]:
    """Sorts the names on the way to a leaf, numbers as numbers; a bias goes behind its kernel.

    A network of functions has the way in one name, as in "['layers'][10]['w']".
    """
    names = (name for key in path for name in re.findall(r"\w+", str(getattr(key, "key", key))))
    *layers, leaf = names
    numbered = [
        [
            (part.isdigit(), int(part) if part.isdigit() else part)
            for part in re.split(r"(\d+)", name)
        ]
        for name in layers
    ]
    return numbered, leaf in ("bias", "b"), leaf
