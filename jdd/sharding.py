"""Devices: one mesh of named axes, over which models or classes, and batches, are divided.

The mesh is JAX's own context: `with jax.set_mesh(sharding.mesh(4)):` runs its block on four
devices. Every array is replicated; what is divided is the work on the leading axis of `over_models`
and `sharded_map`, whose entries are independent: experts, networks, segments, classes, batches.
Where there are fewer entries than devices, the others divide the batch that each entry works on,
see `batch_part`. So the mesh has an axis for each prime factor of the number of devices: each piece
of work takes as many of the first for its entries as serve it best, and the rest for its batches.
The results agree to 1e-5 on any number of devices. Without a mesh everything runs on JAX's
default device.

Real data that one device could not hold is divided too, see `placed`.
"""

import contextlib
import math
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh
from jax.sharding import PartitionSpec as P

from jdd.errors import SettingError
from jdd.ops import WHOLE, Part
from jdd.ops.target import platform
from jdd.rows import DividedRows, divided_rows

Axes = tuple[tuple[str, int], ...]
"""names and sizes of axes of the mesh"""
Batch = tuple[int, int]
"""how many examples a batch has, and pixels each of them"""

# Of images a device's part of a batch has at least, here eight of 32×32: next to the convolutions
# of fewer, adding up the gradients would take too long.
LEAST_PIXELS = 2**13
# Of a device's memory, that real data may take undivided: the rest is for networks at work.
MOST_OF_MEMORY = 0.25
_always_divide = ContextVar("always_divide", default=False)
_free: Any = jax.make_user_context(())  # names of axes that the `sharded_map` around leaves
_at_once = jax.make_user_context(1)  # models that a device computes side by side
_MOST = 10  # with more, the activations of large networks would fill the memory


def mesh(devices: int = 0) -> Mesh:
    """The first `devices` devices of all processes, or all of them for 0; see `mesh_of`.

    Raises:
      SettingError: fewer devices exist, or some processes would have none.
    """
    available = jax.devices()
    if devices < 0:
        raise SettingError("devices", devices, "1 or more, or 0 for all there are")
    if devices > len(available):
        raise SettingError(
            "devices", devices, f"JAX finds {len(available)} here ({available[0].platform})"
        )
    used = available[: devices or len(available)]
    if len({device.process_index for device in used}) < jax.process_count():
        raise SettingError(
            "devices", devices, f"{jax.process_count()} processes run as one, and each needs one"
        )
    return mesh_of(np.asarray(used))


def mesh_of(devices: np.ndarray) -> Mesh:
    """The mesh of these devices `(n,)`: an axis for each prime factor of n, the smallest first."""
    factors, rest = [], devices.size
    for factor in range(2, devices.size + 1):
        while rest % factor == 0:
            factors.append(factor)
            rest //= factor
    factors = factors or [1]
    names = tuple(f"devices{i}" for i in range(len(factors)))
    return Mesh(devices.reshape(factors), names, axis_types=(AxisType.Auto,) * len(factors))


@contextlib.contextmanager
def devices(count: int = 0, divide_data: bool = False) -> Iterator[int]:
    """Runs its block on `count` devices (0: all) and gives their number.

    On a single default device no mesh is set, and arrays stay uncommitted.

    Args:
      count: how many.
      divide_data: real data is divided among them, however small; see `placed`.

    Raises:
      SettingError: see `mesh`.
    """
    used = mesh(count)
    if used.size == 1 and used.devices.flat[0] == jax.devices()[0]:
        yield 1
        return
    token = _always_divide.set(divide_data)
    try:
        with jax.set_mesh(used):
            yield used.size
    finally:
        _always_divide.reset(token)


def placed(rows: np.ndarray) -> jax.Array | DividedRows:
    """Real data `(n, …)` on the devices: all of it on each of them, or each with some of its rows.

    Divided where `devices` was told so, and where it would take more than a quarter of a device's
    memory. The numbers that come of it are the same.
    """
    if jax.sharding.get_abstract_mesh().size <= 1:  # 0 without a mesh
        return jnp.asarray(rows)
    try:
        around = jax.sharding.get_mesh()
    except ValueError:  # while tracing, where only the shape is wanted
        return jnp.asarray(rows)
    memory = (around.local_devices[0].memory_stats() or {}).get("bytes_limit", math.inf)
    if _always_divide.get() or is_divided(rows.nbytes, memory):
        return divided_rows(rows, around)
    return jnp.asarray(rows)


def is_divided(size: int, memory: float) -> bool:
    """Whether `placed` divides data of so many bytes among devices of so much memory each."""
    return size > MOST_OF_MEMORY * memory


def models_per_call(count: int) -> int:
    """How many of `count` models one compiled call should hold: per device one on CPUs, else ten.

    On a CPU one model fills the cores, and a batch of kernels would become a grouped convolution,
    which XLA's CPU backend runs four times slower than one model after another.
    """
    return min(count, _mesh_size() * models_per_device(count))


def models_per_device(count: int) -> int:
    """How many of `count` models a device computes at once; see `models_per_call`."""
    return 1 if platform() == "cpu" else min(count, _MOST)


def at_once() -> int:
    """How many models a device computes side by side in what is traced now, whose memory they
    share: the entries of each `over_models` around it, multiplied."""
    return int(_at_once.value or 1)


def stack(trees: list[Any]) -> Any:
    """Pytrees of one structure, one for each model, as one with a leading axis of models."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def over_models(
    function: Callable[..., Any],
    shared: Any,
    *arguments: Any,
    batch: Batch | None = None,
) -> Any:
    """Maps over models: `function(shared, *entry)` for each entry of the arguments' leading axis.

    Over the devices of the mesh, and on each of them `lax.map` (one model after another) on a CPU,
    `vmap` elsewhere; the results agree. A single model is called without either: under `vmap`
    every branch of a `lax.switch` would be computed.

    Args:
      function: of what the models share and of one model's entries; see `sharded_map`.
      shared: pytree of arrays.
      arguments: pytrees of arrays with a leading axis of models.
      batch: as for `sharded_map`.
    """

    def on_one_device(shared: Any, *arguments: Any) -> Any:
        if jax.tree.leaves(arguments)[0].shape[0] == 1:
            alone = function(shared, *jax.tree.map(lambda leaf: leaf[0], arguments))
            return jax.tree.map(lambda leaf: leaf[None], alone)
        if platform() == "cpu":
            return jax.lax.map(lambda packed: function(shared, *packed), arguments)
        with _at_once(at_once() * jax.tree.leaves(arguments)[0].shape[0]):
            return jax.vmap(lambda *packed: function(shared, *packed))(*arguments)

    return sharded_map(on_one_device, shared, *arguments, batch=batch)


def sharded_map(
    mapped: Callable[..., Any],
    shared: Any,
    *arguments: Any,
    batch: Batch | None = None,
) -> Any:
    """Divides the leading axis of the arguments, which `mapped` maps over, among the devices.

    Args:
      mapped: `(shared, *arguments)` → pytree of arrays with the arguments' leading axis, entry for
        entry. It is called with one device's entries. It may not close over traced arrays: pass
        them as arguments.
      shared: pytree of arrays, replicated on every device, but for `DividedRows`.
      arguments: pytrees of arrays with a leading axis.
      batch: what `mapped` divides by `batch_part(batch)`; None: nothing.

    Returns:
      What `mapped(shared, *arguments)` gives, replicated. Where the number of entries is no
      multiple of the devices that share them, the last entry is computed more than once.
    """
    axes, size = _mesh_axes(), jax.tree.leaves(arguments)[0].shape[0]
    taken = _axes_for(axes, size, batch)
    count, free = _product(axes[:taken]), axes[taken:]
    if (count == 1 or size == 1) and _part(free, batch) == WHOLE:
        return mapped(shared, *arguments)
    slots = jnp.arange(-(-size // count) * count).clip(max=size - 1)
    over = P(tuple(name for name, _ in axes[:taken])) if taken else P()

    def on_device(shared: Any, *arguments: Any) -> Any:
        with _free(free):
            return mapped(shared, *arguments)

    # Unchecked: checked, a gradient to what is shared would be summed over all devices' entries,
    # where each entry's own is wanted.
    on_devices = jax.shard_map(
        on_device,
        in_specs=(_specs(shared), *(over for _ in arguments)),
        out_specs=over,
        check_vma=False,
    )
    mapped_all = on_devices(shared, *jax.tree.map(lambda leaf: leaf[slots], arguments))
    return jax.tree.map(lambda v: jax.lax.with_sharding_constraint(v, P())[:size], mapped_all)


def _specs(shared: Any) -> Any:
    def of(leaf: Any) -> P:
        return P(leaf.axes) if isinstance(leaf, DividedRows) else P()

    return jax.tree.map(of, shared, is_leaf=lambda leaf: isinstance(leaf, DividedRows))


def batch_part(batch: Batch | None) -> Part:
    """How a batch is divided over the devices that the `sharded_map` around it leaves.

    Over as many of them as divide it, and leave each at least `LEAST_PIXELS`; not at all outside of
    a `sharded_map`.

    Args:
      batch: None: it cannot be divided.
    """
    return _part(tuple(_free.value or ()), batch)


def _part(free: Axes, batch: Batch | None) -> Part:
    if batch is None:
        return WHOLE
    examples, pixels = batch
    for end in range(len(free), 0, -1):
        count = _product(free[:end])
        if count > 1 and examples % count == 0 and examples // count * pixels >= LEAST_PIXELS:
            return Part(tuple(name for name, _ in free[:end]), count)
    return WHOLE


def _axes_for(axes: Axes, entries: int, batch: Batch | None) -> int:
    """How many axes, the first ones, best divide the entries; the rest divide their batches."""
    if batch is None:
        return len(axes)

    def work(taken: int) -> tuple[float, int, int]:
        devices = _product(axes[:taken])
        on_a_device = -(-entries // devices)
        # Of equal ones, the way that computes no entry twice, and that adds up the fewest sums.
        return on_a_device / _part(axes[taken:], batch).count, on_a_device * devices, -taken

    return min(range(len(axes) + 1), key=work)


def _product(axes: Axes) -> int:
    return math.prod(size for _, size in axes)


def _mesh_axes() -> Axes:
    """Those that work may be divided over: none without a mesh, or inside `sharded_map`."""
    around = jax.sharding.get_abstract_mesh()
    if around.manual_axes:
        return ()
    return tuple((name, int(around.shape[name])) for name in around.axis_names)


def _mesh_size() -> int:
    """Devices that work may be divided among."""
    return _product(_mesh_axes())
