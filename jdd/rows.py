"""An array whose rows are divided over the devices of the mesh, for data too large for one.

Each device keeps as many rows as any other. Reading rows gives every device the ones that it asks
for: inside of `jdd.sharding.sharded_map` the devices tell each other which these are, each looks
them up among its own, and one exchange brings them home, `devices` times a batch in bytes.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class DividedRows:
    """Takes the place of an array `(n, …)` of which rows are read, by `rows[positions]`."""

    array: jax.Array
    """(n, …), zeros below to make n a multiple of the devices; inside of `sharded_map` a device's
    own rows alone"""
    count: int = dataclasses.field(metadata={"static": True})
    """n"""
    axes: tuple[str, ...] = dataclasses.field(metadata={"static": True})
    """of the mesh, that the rows are divided over"""

    @property
    def shape(self) -> tuple[int, ...]:
        """`(n, …)`."""
        return (self.count, *self.array.shape[1:])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the rows."""
        return np.dtype(self.array.dtype)

    def __getitem__(self, positions: jax.Array) -> jax.Array:
        """The rows at int positions of any shape, `(*positions.shape, …)`."""
        if not jax.sharding.get_abstract_mesh().manual_axes:
            return self.array[positions]
        everyones = jax.lax.all_gather(positions, self.axes)
        local = everyones - jax.lax.axis_index(self.axes) * self.array.shape[0]
        is_here = (local >= 0) & (local < self.array.shape[0])
        rows = self.array[jnp.where(is_here, local, 0)]
        wide = is_here.reshape(*is_here.shape, *[1] * (rows.ndim - is_here.ndim))
        masked = jnp.where(wide, rows, jnp.zeros((), rows.dtype))
        mine: jax.Array = jax.lax.psum_scatter(masked, self.axes)
        return mine


def divided_rows(rows: np.ndarray, mesh: Mesh) -> DividedRows:
    """Puts rows on the devices of a mesh, on each only those that it keeps."""
    shapes = divided_shapes(jax.ShapeDtypeStruct(rows.shape, rows.dtype), mesh)
    shape = shapes.array.shape
    padded = shape[0]

    def part(index: tuple[slice, ...] | None) -> np.ndarray:
        first, last, _ = (index[0] if index else slice(None)).indices(padded)
        held = rows[first:last]
        missing = (last - first) - len(held)
        return np.pad(held, [(0, missing)] + [(0, 0)] * (rows.ndim - 1)) if missing else held

    array = jax.make_array_from_callback(shape, shapes.array.sharding, part)
    return dataclasses.replace(shapes, array=array)


def divided_shapes(rows: jax.ShapeDtypeStruct, mesh: Mesh) -> DividedRows:
    """What `divided_rows` makes of rows of this shape `(n, …)`, a shape in the array's place."""
    axes = tuple(mesh.axis_names)
    padded = -(-rows.shape[0] // mesh.size) * mesh.size
    over = NamedSharding(mesh, P(axes))
    array: Any = jax.ShapeDtypeStruct((padded, *rows.shape[1:]), rows.dtype, sharding=over)
    return DividedRows(array, rows.shape[0], axes)
