"""A batch divided among devices: each has some of its examples, and derivatives are added up.

For functions that `jax.shard_map` maps with `check_vma=False`, all arrays but the examples being
the same on every device.
"""

from dataclasses import dataclass
from typing import Any

import jax
from jax import lax
from jax.extend.core import Primitive
from jax.flatten_util import ravel_pytree
from jax.interpreters import ad, batching, mlir

PyTree = Any


@dataclass(frozen=True)
class Part:
    """A device's part of a batch; hashable, and static under `jit`."""

    axes: tuple[str, ...] = ()
    """of the mesh, that the batch is divided over"""
    count: int = 1
    """parts, all of one size"""

    def take(self, examples: PyTree, axis: int = 0) -> PyTree:
        """Of arrays whose `axis` is one of examples, those of this device."""
        if self.count == 1:
            return examples

        def of_leaf(leaf: jax.Array) -> jax.Array:
            size = leaf.shape[axis] // self.count
            start = lax.axis_index(self.axes) * size
            return lax.dynamic_slice_in_dim(leaf, start, size, axis)

        return jax.tree.map(of_leaf, examples)

    def spread(self, params: PyTree) -> PyTree:
        """The parameters as they are, where each device computes a summand of a loss of them.

        Their gradient is the sum over devices, in one all-reduce, and so is its tangent.
        """
        return self._in_one(lambda vector: _spread.bind(vector, axes=self.axes), params)

    def add(self, tree: PyTree) -> PyTree:
        """The sum over devices, in one all-reduce. Not to be differentiated in reverse mode."""
        return self._in_one(lambda vector: lax.psum(vector, self.axes), tree)

    def mean(self, tree: PyTree) -> PyTree:
        """The mean over devices; see `add`."""
        return jax.tree.map(lambda leaf: leaf / self.count, self.add(tree)) if self.axes else tree

    def _in_one(self, function: Any, tree: PyTree) -> PyTree:
        if self.count == 1:
            return tree
        if len(leaves := jax.tree.leaves(tree)) == 1:
            return jax.tree.unflatten(jax.tree.structure(tree), [function(leaves[0])])
        vector, back = ravel_pytree(tree)
        return back(function(vector))


WHOLE = Part()
"""a batch that is not divided"""


def _as_it_is(v: jax.Array, *, axes: tuple[str, ...]) -> jax.Array:
    del axes
    return v


def _batch(arrays: Any, dims: Any, *, axes: tuple[str, ...]) -> tuple[jax.Array, Any]:
    return _spread.bind(arrays[0], axes=axes), dims[0]


_spread = Primitive("jdd_spread")
_spread.def_abstract_eval(_as_it_is)
_spread.def_impl(_as_it_is)
mlir.register_lowering(_spread, mlir.lower_fun(_as_it_is, multiple_results=False))
ad.deflinear2(_spread, lambda g, _, axes: [lax.psum(g, axes)])
batching.primitive_batchers[_spread] = _batch
