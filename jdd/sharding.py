"""Devices: one mesh of named axes, over which work on many models or classes is divided.

The mesh is JAX's own context: `with jax.set_mesh(sharding.mesh(4)):` runs its block on four
devices. Every array is replicated; what is divided is the work on the leading axis of `over_models`
and `sharded_map`, whose entries are independent: experts, networks, segments, classes, batches. The
results agree to 1e-6 on any number of devices. Without a mesh everything runs on JAX's
default device.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh
from jax.sharding import PartitionSpec as P

from jdd.errors import SettingError
from jdd.ops.target import platform

MODELS = "models"  # the axis that models, segments and classes are divided over
_MOST = 10  # with more, the activations of large networks would fill the memory


def mesh(devices: int = 0) -> Mesh:
    """The first `devices` devices of all processes, or all of them for 0, on the axis `MODELS`.

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
    return Mesh(np.asarray(used), (MODELS,), axis_types=(AxisType.Auto,))


@contextlib.contextmanager
def devices(count: int = 0) -> Iterator[int]:
    """Runs its block on `count` devices (0: all) and gives their number.

    On a single default device no mesh is set, and arrays stay uncommitted.

    Raises:
      SettingError: see `mesh`.
    """
    used = mesh(count)
    if used.size == 1 and used.devices.flat[0] == jax.devices()[0]:
        yield 1
        return
    with jax.set_mesh(used):
        yield used.size


def models_per_call(count: int) -> int:
    """How many of `count` models one compiled call should hold: per device one on CPUs, else ten.

    On a CPU one model fills the cores, and a batch of kernels would become a grouped convolution,
    which XLA's CPU backend runs four times slower than one model after another.
    """
    return min(count, _mesh_size() * models_per_device(count))


def models_per_device(count: int) -> int:
    """How many of `count` models a device computes at once; see `models_per_call`."""
    return 1 if platform() == "cpu" else min(count, _MOST)


def stack(trees: list[Any]) -> Any:
    """Pytrees of one structure, one for each model, as one with a leading axis of models."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def over_models(function: Callable[..., Any], shared: Any, *arguments: Any) -> Any:
    """Maps over models: `function(shared, *entry)` for each entry of the arguments' leading axis.

    Over the devices of the mesh, and on each of them `lax.map` (one model after another) on a CPU,
    `vmap` elsewhere; the results agree. A single model is called without either: under `vmap`
    every branch of a `lax.switch` would be computed.

    Args:
      function: of what the models share and of one model's entries; see `sharded_map`.
      shared: pytree of arrays.
      arguments: pytrees of arrays with a leading axis of models.
    """

    def on_one_device(shared: Any, *arguments: Any) -> Any:
        if jax.tree.leaves(arguments)[0].shape[0] == 1:
            alone = function(shared, *jax.tree.map(lambda leaf: leaf[0], arguments))
            return jax.tree.map(lambda leaf: leaf[None], alone)
        if platform() == "cpu":
            return jax.lax.map(lambda packed: function(shared, *packed), arguments)
        return jax.vmap(lambda *packed: function(shared, *packed))(*arguments)

    return sharded_map(on_one_device, shared, *arguments)


def sharded_map(mapped: Callable[..., Any], shared: Any, *arguments: Any) -> Any:
    """Divides the leading axis of the arguments, which `mapped` maps over, among the devices.

    Args:
      mapped: `(shared, *arguments)` → pytree of arrays with the arguments' leading axis, entry for
        entry. It is called with one device's entries. It may not close over traced arrays: pass
        them as arguments.
      shared: pytree of arrays, replicated on every device.
      arguments: pytrees of arrays with a leading axis.

    Returns:
      What `mapped(shared, *arguments)` gives, replicated. Where the number of entries is no
      multiple of the devices, the last entry is computed more than once.
    """
    count, size = _mesh_size(), jax.tree.leaves(arguments)[0].shape[0]
    if count == 1 or size == 1:
        return mapped(shared, *arguments)
    slots = jnp.arange(-(-size // count) * count).clip(max=size - 1)
    # Unchecked: checked, a gradient to what is shared would be summed over all devices' entries,
    # where each entry's own is wanted.
    on_devices = jax.shard_map(
        mapped,
        in_specs=(P(), *(P(MODELS) for _ in arguments)),
        out_specs=P(MODELS),
        check_vma=False,
    )
    mapped_all = on_devices(shared, *jax.tree.map(lambda leaf: leaf[slots], arguments))
    return jax.tree.map(lambda v: jax.lax.with_sharding_constraint(v, P())[:size], mapped_all)


def _mesh_size() -> int:
    """Devices that work may be divided among: 1 without a mesh, or inside `sharded_map`."""
    around = jax.sharding.get_abstract_mesh()
    if MODELS not in around.axis_names or MODELS in around.manual_axes:
        return 1
    return int(around.shape[MODELS])
