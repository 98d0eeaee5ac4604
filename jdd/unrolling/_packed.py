"""Arrays in one array, on accelerators: one kernel for all of them instead of one each.

A ConvNet-3 has fourteen arrays of parameters, ten of them vectors. Each step stores and moves every
one, in a kernel of its own that takes far longer to launch than to run. On a GPU all that a step
stores for the way back is one array too.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jdd.ops.target import platform
from jdd.unrolling._step import PyTree, StepLoss

_SMALL = 2**15  # entries of an array that is packed


class Packed(NamedTuple):
    """A pytree's arrays: parameters as they go through the steps, or what a step stores."""

    small: jax.Array  # (m,): the entries of all small arrays
    large: list[jax.Array]  # the others, their last axis first, as GPU libraries take kernels


@dataclass(frozen=True)
class Packing:
    """How a pytree's leaves are packed; hashable."""

    tree: Any
    shapes: tuple[tuple[int, ...] | None, ...]
    """of each leaf that is packed; None: it is large"""

    def pack(self, tree: PyTree) -> Packed:
        """Puts the small leaves behind each other."""
        leaves = list(zip(jax.tree.leaves(tree), self.shapes, strict=True))
        small = [leaf.reshape(-1) for leaf, shape in leaves if shape is not None]
        large = [_last_first(leaf) for leaf, shape in leaves if shape is None]
        return Packed(jnp.concatenate(small), large)

    def unpack(self, packed: Packed) -> PyTree:
        """The leaves in their own shapes."""
        large, at, leaves = iter(packed.large), 0, []
        for shape in self.shapes:
            if shape is None:
                leaf = next(large)
                leaves.append(jnp.moveaxis(leaf, 0, -1) if leaf.ndim else leaf)
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


@partial(jax.tree_util.register_dataclass, data_fields=("rows",), meta_fields=("packing",))
@dataclass(frozen=True)
class Rows:
    """A pytree for each step, each in a row of one array; `lax.scan` gives a step's own row."""

    rows: jax.Array  # (steps, m), or (m,) of one step
    packing: Packing

    @classmethod
    def of(cls, tree: PyTree) -> "Rows":
        """The row of one step."""
        leaves, structure = jax.tree.flatten(tree)
        packing = Packing(structure, tuple(leaf.shape for leaf in leaves))
        return cls(packing.pack(tree).small, packing)

    def tree(self) -> PyTree:
        """That of one step."""
        return self.packing.unpack(Packed(self.rows, []))


def stored_as_rows(shapes: PyTree) -> bool:
    """Whether what a step stores goes into one row: on a GPU, where all of it is float32."""
    of_one_type = all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(shapes))
    return platform() == "gpu" and of_one_type


def _last_first(leaf: jax.Array) -> jax.Array:
    return jnp.moveaxis(leaf, -1, 0) if leaf.ndim else leaf


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
