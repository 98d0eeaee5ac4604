"""Small parameters in one array, on accelerators: one kernel for all of them instead of one each.

A ConvNet-3 has fourteen arrays of parameters, ten of them vectors. Each step stores and moves every
one, in a kernel of its own that takes far longer to launch than to run.
"""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jdd.ops.target import platform
from jdd.unrolling._step import PyTree, StepLoss

_SMALL = 2**12  # entries of an array that is packed


class Packed(NamedTuple):
    """Parameters as they go through the steps."""

    small: jax.Array  # (m,): the entries of all small arrays
    large: list[jax.Array]


@dataclass(frozen=True)
class Packing:
    """How a pytree's leaves are packed; hashable."""

    tree: Any
    shapes: tuple[tuple[int, ...] | None, ...]
    """of each leaf that is packed; None: it is large"""

    def pack(self, params: PyTree) -> Packed:
        """Puts the small leaves behind each other."""
        leaves = list(zip(jax.tree.leaves(params), self.shapes, strict=True))
        small = [leaf.reshape(-1) for leaf, shape in leaves if shape is not None]
        return Packed(jnp.concatenate(small), [leaf for leaf, shape in leaves if shape is None])

    def unpack(self, packed: Packed) -> PyTree:
        """The parameters in their own shapes."""
        large, at, leaves = iter(packed.large), 0, []
        for shape in self.shapes:
            if shape is None:
                leaves.append(next(large))
            else:
                size = math.prod(shape)
                leaves.append(packed.small[at : at + size].reshape(shape))
                at += size
        return jax.tree.unflatten(self.tree, leaves)


@dataclass(frozen=True)
class PackedLoss:
    """A step's loss of packed parameters."""

    loss: StepLoss
    packing: Packing

    def __call__(self, packed: Packed, data: PyTree, entry: PyTree) -> jax.Array:
        """As the loss itself."""
        return self.loss(self.packing.unpack(packed), data, entry)


def packing_of(params: PyTree) -> Packing | None:
    """How parameters are packed; None on a CPU, and where fewer than two leaves are small."""
    leaves, tree = jax.tree.flatten(params)
    small = [leaf.size <= _SMALL and leaf.dtype == jnp.float32 for leaf in leaves]
    if platform() == "cpu" or sum(small) < 2:
        return None
    shapes = tuple(
        leaf.shape if packed else None for leaf, packed in zip(leaves, small, strict=True)
    )
    return Packing(tree, shapes)
